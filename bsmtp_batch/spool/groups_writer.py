"""The commit of a group: many messages, for many routes, durable after one fsync."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.directories import make_directories
from bsmtp_batch.spool.groups_file import (
    FAILED,
    GROUPS,
    PAGE,
    Entry,
    cut_name,
    head,
    new_base,
    padded,
)
from bsmtp_batch.spool.names import Limits

LARGEST = 32 << 20
"""Octets after which a group file is left and another one begun: draining one needs that much room, and the reserve
has it."""
PIECES = 1000
"""Pieces written by one call; the system takes 1024."""


class NoRoom(OSError):
    """Nothing was written: it would have gone below what ``routes`` keep free (``min_free``, ``min_inodes``)."""

    def __init__(self, what: str, routes: frozenset[str]) -> None:
        super().__init__(errno.ENOSPC, what)
        self.routes = routes


class GroupWriter:
    """Makes messages durable in ``spool``, many at a time. There may be several; one is for one thread at a time.

    The file that is written to changes when somebody drains it, when it has become large, and after an error.
    """

    def __init__(self, spool: str) -> None:
        self._spool = spool
        self._directory = f"{spool}/{GROUPS}"
        self._limits: dict[str, tuple[tuple[int, int], Limits]] = {}
        self._made = False
        self._fd = -1
        self._base = ""
        self._end = 0  # of what was acknowledged
        self._entries = 0  # in the file: each becomes a file of its own when it is drained

    def commit(self, entries: Sequence[Entry], *, wanted: Callable[[], bool] | None = None) -> None:
        """Make ``entries`` durable: when this returns, all of them are ours, for good.

        Raises :class:`NoRoom` and ``OSError``: then none of them is ours, and nothing of them will come up later as far
        as the disk lets us see to that. ``wanted`` is asked when all is durable; when it says no (nobody waits for the
        answer any more), the entries are taken back and ``TimeoutError`` is raised.
        """
        if not entries:
            return
        table = [(entry.route, entry.name, entry.size()) for entry in entries]
        self._require_room(table)
        with self._locked():
            try:
                first = head(self._base, time.time_ns(), table)
                size = len(first) + sum([size for _, _, size in table])
                pieces = [first, *(piece for entry in entries for piece in entry.pieces())]
                pieces.append(bytes(padded(size) - size))
                _write_pieces(self._fd, pieces)
                os.fsync(self._fd)
                if wanted is not None and not wanted():
                    raise TimeoutError(errno.ETIMEDOUT, "nobody waited any longer for the commit to end")
            except BaseException:
                self._give_up()
                raise
            self._end += padded(size)
            self._entries += len(entries)

    def close(self) -> None:
        """Let go of the file; what is in it waits for the next :func:`~bsmtp_batch.spool.groups.drain`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of a group file that still has its name; whoever drains takes name and lock away together."""
        if self._end >= LARGEST:
            self.close()
        while True:
            if self._fd < 0:
                self._open()
            fd = self._fd
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.exists(f"{self._directory}/{self._base}"):
                break
            self.close()
        try:
            yield
        finally:
            if self._fd >= 0:
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _open(self) -> None:
        """Begin a group file: its name is durable before anything in it counts."""
        if not self._made:
            make_groups(self._spool)
            self._made = True
        self._base, self._end, self._entries = new_base(), 0, 0
        path = f"{self._directory}/{self._base}"
        fd = durable.create(path)
        try:
            durable.fsync_dir(self._directory)
        except BaseException:
            os.close(fd)
            durable.remove(path)
            raise
        self._fd = fd

    def _give_up(self) -> None:
        """Never write to this file again: after a failed fsync the page cache and the disk may disagree about its end.

        What was acknowledged before ends on a page border and is on the disk. What was not must not come up later, as a
        second copy of what the MTA hands in again: it is cut off, and the new name says where the good part ends,
        should the cut itself not reach the disk. Both are attempts, on a disk that has just refused: what is left is a
        phantom after a power cut, which its KEY gives away where the MTA told a queue id.
        """
        fd, self._fd = self._fd, -1
        path = f"{self._directory}/{self._base}"
        try:
            with suppress(OSError):
                os.ftruncate(fd, self._end)
            with suppress(OSError):
                if self._end:
                    os.rename(path, f"{self._directory}/{cut_name(self._base, FAILED, self._end)}")
                else:
                    os.unlink(path)
                durable.fsync_dir(self._directory)
        finally:
            os.close(fd)

    def _require_room(self, table: Sequence[tuple[str, str, int]]) -> None:
        """Room for these messages twice, in the group and then in ``new/``, above what their routes keep free."""
        disk = os.statvfs(self._spool)
        more = 2 * sum([size for _, _, size in table]) + PAGE + self._end
        free = disk.f_bavail * disk.f_frsize - more
        inodes = disk.f_favail - self._entries - len(table)
        short = set()
        for route in {route for route, _, _ in table}:
            limits = self._limits_of(route)
            # Some file systems count no inodes.
            if free < limits.min_free or (disk.f_files and inodes < limits.min_inodes):
                short.add(route)
        if short:
            raise NoRoom(
                f"no room: {free} octets and {inodes} inodes would stay free, less than min_free or min_inodes of"
                f" {', '.join(sorted(short)[:3])}",
                frozenset(short),
            )

    def _limits_of(self, route: str) -> Limits:
        """The limits of ``route`` as ``deliver`` reads them; read again when they have changed."""
        path = f"{self._spool}/{names.OUT}/{route}/{names.LIMITS}"
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return Limits()
        stamp = (found.st_mtime_ns, found.st_ino)
        known = self._limits.get(route)
        if known is None or known[0] != stamp:
            with open(path, "rb") as file:
                try:
                    known = (stamp, Limits.from_bytes(file.read(65_536)))
                except ValueError as error:
                    raise OSError(errno.EINVAL, f"a bad setting in it: {error}", path) from error
            self._limits[route] = known
        return known[1]


def make_groups(spool: str) -> None:
    """Make the directory of the group files, durably also when it is there already. Raises ``OSError``."""
    make_directories(f"{spool}/{GROUPS}", spool)


def _write_pieces(fd: int, pieces: list[bytes]) -> None:
    for start in range(0, len(pieces), PIECES):
        some = pieces[start : start + PIECES]
        written = os.writev(fd, some)
        if written < sum(map(len, some)):
            durable.write_all(fd, memoryview(b"".join(some))[written:])
