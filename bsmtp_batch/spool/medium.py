"""A directory that others write as well: a memory stick, NFS, a synchronised folder.

Whoever else writes there may plant links, pipes and odd names. Everything goes through descriptors of directories
that were opened without following a link, files are opened only as what they have to be, and nothing appears under
its final name before it is whole and synced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from bsmtp_batch.spool import durable
from bsmtp_batch.spool.listing import open_regular

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PASSING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CHUNK = 1 << 18


class Folder:
    """An open directory of the medium; close it, or use it as a context manager. Every method may raise ``OSError``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @classmethod
    def open(cls, path: str) -> Folder:
        """The directory ``path``, which the operator named: a link there is the operator's own."""
        return cls(os.open(path, _DIRECTORY))

    def below(self, name: str) -> Folder:
        """The directory ``name`` in it; a link is refused."""
        return Folder(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd))

    def make(self, name: str) -> Folder:
        """The directory ``name`` in it, made when missing."""
        try:
            os.mkdir(name, 0o700, dir_fd=self._fd)
            self._sync()
        except FileExistsError:
            pass
        return self.below(name)

    def names(self) -> list[str]:
        """What is in it, sorted; names that begin with a dot are files still taking shape."""
        return sorted(name for name in os.listdir(self._fd) if not name.startswith("."))

    def find(self, name: str) -> os.stat_result | None:
        """What ``name`` is (a link is not followed), or None."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_directory(self, name: str) -> bool:
        """Whether ``name`` is a directory itself."""
        found = self.find(name)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def read_small(self, name: str, cap: int) -> bytes:
        """All of file ``name``; ``ValueError`` when it holds more than ``cap`` octets or is no regular file."""
        data = b"".join(self.read(name, cap + 1))
        if len(data) > cap:
            raise ValueError(f"it is larger than {cap} octets")
        return data

    def read(self, name: str, cap: int) -> Iterator[bytes]:
        """The first ``cap`` octets of file ``name``; ``ValueError`` when it is no regular file."""
        fd = os.open(name, _READ, dir_fd=self._fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("it is not a regular file")
            while cap > 0 and (chunk := os.read(fd, min(cap, CHUNK))):
                cap -= len(chunk)
                yield chunk
        finally:
            os.close(fd)

    def write(self, name: str, chunks: Iterable[bytes], *, modified: float | None = None) -> None:
        """Put a file with ``chunks`` under ``name``, whole or not at all. ``modified`` becomes its time.

        It takes shape under one fixed name that begins with a dot, so that an attempt that was cut leaves one file and
        not one more each time. An attempt that fails leaves none: on a medium that is full it would take the room of
        the receipts.
        """
        passing = f".{name}.part"
        self._unlink(passing)  # never opened: somebody may have made it a second name of a file of ours
        try:
            self._write(passing, chunks, modified)
        except BaseException:
            with suppress(OSError):
                self._unlink(passing)
            raise
        os.rename(passing, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self._sync()

    def _write(self, name: str, chunks: Iterable[bytes], modified: float | None) -> None:
        fd = os.open(name, _PASSING, 0o600, dir_fd=self._fd)
        try:
            for chunk in chunks:
                durable.write_all(fd, chunk)
            if modified is not None:
                os.utime(fd, (modified, modified))
        except BaseException:
            os.close(fd)
            raise
        durable.sync_close(fd)

    def remove(self, *names: str) -> None:
        """Remove the files ``names`` in this order, those that are there."""
        for name in names:
            self._unlink(name)
        self._sync()

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            # Some file systems of removable media cannot sync a directory. No promise hangs on it: the batch stays in
            # ready/ until a receipt comes back.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise


def chunks_of(path: str, moved: Callable[[int], None]) -> Iterator[bytes]:
    """The octets of our own file ``path``; tells ``moved`` how many went by each time."""
    fd = open_regular(path)
    try:
        while chunk := os.read(fd, CHUNK):
            yield chunk
            moved(len(chunk))
    finally:
        os.close(fd)


def write_part(path: str, chunks: Iterable[bytes], *, append: bool = False) -> None:
    """Write ``chunks`` to our own file ``path``, which takes shape there; not durable until it is settled.

    Raises ``OSError``. What came before an interruption stays.
    """
    how = os.O_APPEND if append else os.O_TRUNC
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | how | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for chunk in chunks:
            durable.write_all(fd, chunk)
    finally:
        os.close(fd)
