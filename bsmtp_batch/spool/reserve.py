"""The reserve: one preallocated file per spool that is given up to drain a full disk.

Sealing copies, so a disk that is full to the last block could never be emptied by sealing. ``deliver`` stops above
the reserve because blocks that a file holds are not free.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bsmtp_batch.spool import durable, names

FULL = (errno.ENOSPC, errno.EDQUOT)
SHARE = 100
"""The reserve is never more than one part in this many of the file system."""

NEEDED = 4 << 20
"""Octets that a stage which frees space in the end wants for the ledger and for what it sets aside."""
NEEDED_INODES = 16


def path_of(spool: str) -> str:
    """Where the reserve is."""
    return f"{spool}/{names.RESERVE}"


def make(spool: str, size: int) -> int:
    """Make the reserve of at most ``size`` octets unless it is there. Returns its size. Raises ``OSError``."""
    path = path_of(spool)
    if os.path.exists(path):
        return os.stat(path).st_size
    system = os.statvfs(spool)
    wanted = min(size, system.f_blocks * system.f_frsize // SHARE)
    if wanted:
        _allocate(path, wanted)
    return wanted


def give_up(spool: str) -> int:
    """Remove the reserve; returns the octets that became free (0 when it was gone already)."""
    path = path_of(spool)
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return 0
    durable.remove(path)
    durable.fsync_dir(spool)
    return size


@contextmanager
def lent(spool: str) -> Iterator[None]:
    """Give up the reserve of ``spool`` for a while where less than :data:`NEEDED` is free, and make it again after."""
    found = os.statvfs(spool)
    full = found.f_bavail * found.f_frsize < NEEDED or (found.f_files and found.f_favail < NEEDED_INODES)
    given = give_up(spool) if full else 0
    try:
        yield
    finally:
        if given:
            try:
                make(spool, given)
            except OSError:
                pass  # still full: the next stage that finds room makes it, and `status` shows that it is missing


def _allocate(path: str, size: int) -> None:
    passing = f"{os.path.dirname(path)}/.{names.RESERVE}.{durable.unique()}"
    fd = durable.create(passing)
    try:
        try:
            os.posix_fallocate(fd, 0, size)
        except BaseException:
            os.close(fd)
            raise
        durable.sync_close(fd)
        durable.rename_durably(passing, path)
    except BaseException:
        durable.remove(passing)
        raise
