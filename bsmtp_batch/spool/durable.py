"""Files that are there after a power cut: create, write, sync, rename, lock. The only code that does any of it.

Every function either did what its name says or raises ``OSError``. A failed fsync is never tried again: the kernel may
have dropped the pages it could not write, and a second call would answer that all is well.

Locks are ``flock``, everywhere (``fcntl`` record locks fall when any descriptor of the file is closed).

Part of the hot path: C modules only.
"""

from __future__ import annotations

import fcntl
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    Octets = bytes | bytearray | memoryview

_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_LOCK = posix.O_RDWR | posix.O_CREAT | posix.O_NOFOLLOW | posix.O_CLOEXEC


def create(path: str) -> int:
    """A descriptor to write the new file ``path`` (mode 0600); FileExistsError when something has that name."""
    return posix.open(path, _NEW, 0o600)


def write_all(fd: int, data: Octets) -> None:
    """Write all of ``data``, however many calls it takes."""
    written = posix.write(fd, data)
    if written < len(data):
        rest = memoryview(data)
        while written < len(data):
            written += posix.write(fd, rest[written:])


def sync_close(fd: int) -> None:
    """Make what was written to ``fd`` durable and close it; closed whatever happens."""
    try:
        posix.fsync(fd)
    except BaseException:
        posix.close(fd)
        raise
    posix.close(fd)  # NFS tells of a failed write here


def fsync_dir(path: str) -> None:
    """Make the creations, renames and removals done so far in the directory ``path`` durable."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)


def rename_durably(src: str, dst: str, *, sync_source: bool = True) -> None:
    """Rename ``src`` to ``dst``, in place of what may be there, and make it durable.

    After a crash the file is under one of the two names at least. ``sync_source=False`` leaves out the fsync of the
    directory of ``src``, for callers to whom a second, stale name there means nothing (``tmp/``).
    """
    posix.rename(src, dst)
    there, here = _directory(dst), _directory(src)
    fsync_dir(there)
    if sync_source and here != there:
        fsync_dir(here)


def write_file(path: str, data: Octets) -> None:
    """Put a file with ``data`` under the name ``path``: the old one or the new one, never a part, also after a crash.

    The file takes shape under a name that begins with a dot, in the same directory.
    """
    directory, _, name = path.rpartition("/")
    passing = f"{directory or '.'}/.{name}.{unique()}"
    fd = create(passing)
    try:
        try:
            write_all(fd, data)
        except BaseException:
            posix.close(fd)
            raise
        sync_close(fd)
        posix.rename(passing, path)
    except BaseException:
        remove(passing)
        raise
    fsync_dir(directory or ".")


def remove(path: str) -> None:
    """Unlink ``path``; nothing happens when it is not there. Not durable by itself."""
    try:
        posix.unlink(path)
    except FileNotFoundError:
        pass


def link(path: str, other: str) -> None:
    """Give the file ``path`` the name ``other`` as well; FileExistsError when something has it. Not durable by
    itself."""
    posix.link(path, other)


def unique() -> str:
    """A part of a file name that no other process and no earlier run has used."""
    return f"{posix.getpid()}.{posix.urandom(6).hex()}"


def lock(path: str, *, shared: bool = False, block: bool = True) -> int:
    """Lock the file ``path`` (made when missing) and return the descriptor that holds the lock.

    BlockingIOError when ``block`` is false and another process holds it.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if block else fcntl.LOCK_NB)
    while True:
        fd = posix.open(path, _LOCK, 0o600)
        try:
            fcntl.flock(fd, how)
            if posix.fstat(fd).st_nlink:
                return fd
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)  # removed between our open and our lock: whoever comes next locks another file of that name


def unlock(fd: int) -> None:
    """Let go of the lock that :func:`lock` returned."""
    # First, and not by closing: a close that fails tells nothing of the lock, and whoever goes on waits for himself.
    fcntl.flock(fd, fcntl.LOCK_UN)
    posix.close(fd)


def _directory(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
