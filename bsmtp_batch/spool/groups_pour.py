"""The messages of one group file, each into a file of its own in ``new/``.

Written for many small files: names relative to an open directory, one look at the lock of a route for many messages.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.groups_file import Place, chunks
from bsmtp_batch.spool.groups_sync import Syncer

SLICE = 256
"""Messages that get their names under one lock: a sealer waits for a slice."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Gone(Exception):
    """There is no such route (any more)."""


class Pourer:
    """Pours the group file ``source`` out into the routes of ``spool``.

    ``homeless`` are the messages whose route is not there, ``unreadable`` says why some could not be read.
    """

    def __init__(self, spool: str, source: int, syncer: Syncer) -> None:
        self._out = f"{spool}/{names.OUT}"
        self._source = source
        self._syncer = syncer
        self._passing = f"{names.TMP}/{durable.unique()}"
        self._count = 0
        self.homeless: list[Place] = []
        self.unreadable = ""

    def pour(self, places: Sequence[Place]) -> None:
        """Each of ``places`` into ``new/`` of its route, unless it is in a batch already. Raises ``OSError`` when the
        disk does not take it; then some may be there, and all of them may be poured again."""
        routes: dict[str, list[Place]] = {}
        for place in places:
            routes.setdefault(place.route, []).append(place)
        for route, wanted in routes.items():
            done = 0
            try:
                home = _open_home(f"{self._out}/{route}")
                try:
                    for done in range(0, len(wanted), SLICE):
                        self._slice(route, home, wanted[done : done + SLICE])
                finally:
                    os.close(home)
            except _Gone:
                self.homeless += wanted[done:]

    def _slice(self, route: str, home: int, places: Sequence[Place]) -> None:
        written: list[tuple[str, str]] = []
        try:
            for place in places:
                self._count += 1
                passing = f"{self._passing}.{self._count}"
                if self._write(home, passing, place):
                    written.append((passing, place.name))
            self._publish(f"{self._out}/{route}", home, written)
        except BaseException:
            for passing, _ in written:
                _remove(home, passing)
            raise

    def _write(self, home: int, passing: str, place: Place) -> bool:
        """The fragment at ``place`` into the new file ``passing``; False when it cannot be read."""
        fd = _create(home, passing)
        try:
            for data in self._data(place):
                durable.write_all(fd, data)
            # Order and age are those of the acceptance.
            os.utime(fd, ns=(place.when, place.when))
            self._syncer.each(fd)
        except _Unreadable as error:
            self.unreadable = f"octets from {place.at} on cannot be read: {error}"
            _remove(home, passing)
            return False
        except BaseException:
            _remove(home, passing)
            raise
        finally:
            os.close(fd)
        return True

    def _publish(self, path: str, home: int, written: Sequence[tuple[str, str]]) -> None:
        """Under the shared lock, like a hand-in: what is in a batch already is dropped, the rest gets its name."""
        try:
            held = durable.lock(f"{path}/{names.INDEX_LOCK}", shared=True)
        except FileNotFoundError:
            raise _Gone from None
        try:
            if not _is(path, home):
                raise _Gone  # removed while we waited: what we hold open is the directory of a route that was
            for passing, name in written:
                if _is_there(home, f"{names.SEALED}/{name.partition('.')[0]}"):
                    _remove(home, passing)
                else:
                    os.rename(passing, f"{names.NEW}/{name}", src_dir_fd=home, dst_dir_fd=home)
            if self._syncer.one_by_one:
                durable.fsync_dir(f"{path}/{names.NEW}")
        finally:
            durable.unlock(held)

    def _data(self, place: Place) -> Iterator[bytes]:
        try:
            yield from chunks(self._source, place.at, place.at + place.size)
        except OSError as error:
            raise _Unreadable(error.strerror) from error


class _Unreadable(Exception):
    """The disk does not give back what was written."""


def _open_home(path: str) -> int:
    try:
        fd = os.open(path, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise _Gone from None
    if not _is_there(fd, names.NEW):  # made last: until then, there is no route
        os.close(fd)
        raise _Gone
    return fd


def _create(home: int, passing: str) -> int:
    try:
        return os.open(passing, _CREATE, 0o600, dir_fd=home)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _Gone from None
        raise


def _is(path: str, home: int) -> bool:
    try:
        there, ours = os.stat(path), os.fstat(home)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _is_there(home: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=home)
    except FileNotFoundError:
        return False
    return True


def _remove(home: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=home)
    except FileNotFoundError:
        pass
