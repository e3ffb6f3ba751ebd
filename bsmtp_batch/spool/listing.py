"""Reading directories of the spool: every entry is good or odd.

Entries may vanish while they are looked at (another stage moved them on): those are passed over. Names that begin
with a dot are files still taking shape (:func:`bsmtp_batch.spool.durable.write_file`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A regular file: ``size`` in octets; ``modified`` and ``changed`` in seconds since 1970."""

    name: str
    path: str
    size: int
    modified: float
    changed: float


@dataclass(frozen=True)
class Odd:
    """Something that has no business where it is: nothing of ours leads there, so it is shown and left alone."""

    path: str
    reason: str


def entries(directory: str, *, hidden: bool = False, lenient: bool = False) -> Iterator[Entry | Odd]:
    """What is in ``directory``, in no order; with ``hidden`` also names that begin with a dot.

    Raises ``OSError`` when the directory or something in it cannot be looked at: whoever decides about mail must not
    take what cannot be read for what is not there. ``lenient`` is for those who only show, or take what they see: then
    each of these is an :class:`Odd`.
    """
    try:
        names = os.listdir(directory)
    except OSError as error:
        if not lenient:
            raise
        yield Odd(directory, f"cannot be read: {error.strerror}")
        return
    for name in names:
        if hidden or not name.startswith("."):
            found = entry(f"{directory}/{name}", lenient=lenient)
            if found is not None:
                yield found


def entry(path: str, *, lenient: bool = True) -> Entry | Odd | None:
    """The file ``path`` itself (a link is not followed); None when it is not there. ``lenient`` as above."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        if not lenient:
            raise
        return Odd(path, f"cannot be looked at: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return Odd(path, "is not a regular file")
    return Entry(os.path.basename(path), path, found.st_size, found.st_mtime, found.st_ctime)


def is_there(path: str) -> bool:
    """Whether something has the name ``path`` (a link is not followed). Raises ``OSError`` when that cannot be told."""
    try:
        os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def size_of(path: str) -> int:
    """Octets of the file ``path`` (a link is not followed); 0 where there is none. Raises ``OSError``."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def is_directory(path: str) -> bool:
    """Whether there is a directory ``path``. Raises ``OSError`` when that cannot be told."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_regular(path: str) -> int:
    """A descriptor for reading the regular file ``path``; a link is not followed and a pipe is not waited for.

    Raises ``OSError``.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "is not a regular file", path)
    return fd


def read_small(path: str, cap: int) -> bytes:
    """All of the regular file ``path``, which may hold at most ``cap`` octets (``ValueError``). Raises ``OSError``."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(cap + 1)
    if len(data) > cap:
        raise ValueError(f"is larger than {cap} octets")
    return data
