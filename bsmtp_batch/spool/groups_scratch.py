"""Where the files of a drain take shape: a directory of its own for each drain.

ext4 does not give the place of a file away again for minutes after it was deleted, and looks through all those places
before each new file it makes in that part of the disk: where thousands of files come and go, as in ``new/``, a new one
costs thirty times as much. A directory below one that is marked as the top of a hierarchy gets a part of the disk of
its own, where nothing was deleted lately. Other file systems do not know the mark, nor need it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bsmtp_batch.spool.groups_file import GROUPS

POUR = "pour"
"""The directory below ``groups/`` in which drains have theirs."""
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of most machines
_TOP = 0x00020000


@contextmanager
def scratch(spool: str) -> Iterator[int]:
    """A new, empty directory, by its descriptor; the caller holds the lock of all drains. Raises ``OSError``."""
    above = f"{spool}/{GROUPS}/{POUR}"
    try:
        for left in os.listdir(above):  # by a drain that was killed
            shutil.rmtree(f"{above}/{left}", ignore_errors=True)
    except FileNotFoundError:
        os.mkdir(above, 0o700)
        _mark(above)
    path = f"{above}/{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
        with suppress(OSError):
            os.rmdir(path)


def _mark(path: str) -> None:
    """Have the directories below ``path`` spread over the disk, where the file system knows how."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, struct.pack("l", 0)))[0]
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _TOP))
    except OSError:
        pass
    finally:
        os.close(fd)
