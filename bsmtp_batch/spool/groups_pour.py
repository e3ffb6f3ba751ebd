"""The messages of one group file, each into a file of its own in ``new/``.

Written for many small files: names relative to an open directory, one look at the lock of a route for many messages.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from bsmtp_batch.spool import durable, names, reserve
from bsmtp_batch.spool.groups_file import Place, chunks
from bsmtp_batch.spool.groups_sync import Syncer

SLICE = 256
"""Messages that get their names under one lock: a sealer waits for a slice."""

_NONE = "there is no such route"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


DISK_WIDE = frozenset([*reserve.FULL, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
"""Errors that say nothing about the route where they were met."""


class _Gone(Exception):
    """There is no such route (any more), or nobody may put mail into it; says which."""


class Pourer:
    """Pours the group file ``source`` out into the routes of ``spool``; files take shape in the directory ``scratch``.

    ``homeless`` are the messages that did not get into their route, ``reasons`` says for each route why; ``unreadable``
    says why some could not be read.
    """

    def __init__(self, spool: str, source: int, scratch: int, syncer: Syncer) -> None:
        self._out = f"{spool}/{names.OUT}"
        self._source = source
        self._scratch = scratch
        self._syncer = syncer
        self._unique = durable.unique()
        self._count = 0
        self.homeless: list[Place] = []
        self.reasons: dict[str, str] = {}
        self.unreadable = ""

    def pour(self, places: Sequence[Place]) -> None:
        """Each of ``places`` into ``new/`` of its route, unless it is in a batch already. Raises ``OSError`` when the
        disk does not take it; then some may be there, and all of them may be poured again. What is the matter with one
        route is its own matter."""
        routes: dict[str, list[Place]] = {}
        for place in places:
            routes.setdefault(place.route, []).append(place)
        for route, wanted in routes.items():
            path, done = f"{self._out}/{route}", 0
            try:
                home = _open_home(path)
                try:
                    for done in range(0, len(wanted), SLICE):
                        self._slice(path, home, wanted[done : done + SLICE])
                finally:
                    os.close(home)
            except _Gone as gone:
                self._left_out(route, wanted[done:], str(gone))
            except OSError as error:
                if error.errno in DISK_WIDE:
                    raise
                self._left_out(route, wanted[done:], f"{error.filename or path}: {error.strerror}")

    def _left_out(self, route: str, places: Sequence[Place], reason: str) -> None:
        self.homeless += places
        self.reasons[route] = reason

    def _slice(self, path: str, home: int, places: Sequence[Place]) -> None:
        try:
            self._move(path, home, places, "", elsewhere=False)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Somebody has put this route on a file system of its own, which the sync of ours does not reach.
            self._move(path, home, places, f"{names.TMP}/", elsewhere=True)

    def _move(self, path: str, home: int, places: Sequence[Place], prefix: str, *, elsewhere: bool) -> None:
        """Write ``places`` and give them their names. ``elsewhere``: on a file system of its own, in the route's own
        directory and with a sync for each."""
        where = home if elsewhere else self._scratch
        written: list[tuple[str, str]] = []
        try:
            for place in places:
                self._count += 1
                passing = f"{prefix}{self._unique}.{self._count}"
                if self._write(where, passing, place, sync=elsewhere or self._syncer.one_by_one):
                    written.append((passing, place.name))
            self._publish(path, home, where, written)
            if elsewhere or self._syncer.one_by_one:
                durable.fsync_dir(f"{path}/{names.NEW}")
        except BaseException:
            for passing, _ in written:
                _remove(where, passing)
            raise

    def _write(self, where: int, passing: str, place: Place, *, sync: bool) -> bool:
        """The fragment at ``place`` into the new file ``passing``; False when it cannot be read."""
        fd = os.open(passing, _CREATE, 0o600, dir_fd=where)
        try:
            for data in self._data(place):
                durable.write_all(fd, data)
            os.utime(fd, ns=(place.when, place.when))  # order and age are those of the acceptance
            if sync:
                os.fsync(fd)
        except BaseException as error:
            _remove(where, passing)
            if not isinstance(error, _Unreadable):
                raise
            self.unreadable = f"octets from {place.at} on cannot be read: {error}"
            return False
        finally:
            os.close(fd)
        return True

    def _publish(self, path: str, home: int, where: int, written: Sequence[tuple[str, str]]) -> None:
        """Under the shared lock, like a hand-in: what is in a batch already is dropped, the rest gets its name."""
        try:
            held = durable.lock(f"{path}/{names.INDEX_LOCK}", shared=True)
        except FileNotFoundError:
            raise _Gone(_NONE) from None
        try:
            if not _is(path, home):
                raise _Gone(_NONE)  # removed while we waited: what we hold open is the directory of a route that was
            for passing, name in written:
                if _is_there(home, f"{names.SEALED}/{name.partition('.')[0]}"):
                    _remove(where, passing)
                else:
                    os.rename(passing, f"{names.NEW}/{name}", src_dir_fd=where, dst_dir_fd=home)
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
        raise _Gone(_NONE) from None
    if not os.access(names.NEW, os.W_OK | os.X_OK, dir_fd=fd):  # made last: until then, there is no route
        there = _is_there(fd, names.NEW)
        os.close(fd)
        raise _Gone(f"{path}/{names.NEW} cannot be written to" if there else _NONE)
    return fd


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
