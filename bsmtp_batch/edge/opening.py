"""Opening a batch that may be compressed: plain octets in a file that can be gone back in, whatever it came as.

What it is shows in its first octets, never in its name: senders mislabel. One layer is taken off, the output is
counted against a cap while it is written, and it goes to a file without a name, so neither memory nor a crash keeps it.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import BinaryIO, cast

from bsmtp_batch.edge.inflate import CHUNK, LONGEST, MAGIC, Sink, inflate
from bsmtp_batch.errors import Bad, Later, Problem, Usage

DEFAULT_CAP = 8 << 30
"""Octets of plain batch that are taken where no manifest says how many there are."""

_PIPE_SECONDS = 10.0


def open_plain(
    path: str | None, *, cap: int = DEFAULT_CAP, directory: str | None = None
) -> tuple[BinaryIO, str | None]:
    """The plain batch in the file ``path`` (None: standard input) at its beginning, and what it was compressed with.

    The file returned can be sought in and is the caller's to close. ``cap`` is the most octets that are copied or
    decompressed; the copy has no name and lies in ``directory`` (default: where temporary files go). The second value
    is ``"gzip"``, ``"xz"``, ``"zstd"``, ``"compress"`` or None. Raises :class:`~bsmtp_batch.errors.Usage` when the
    file cannot be opened, ``Bad`` when it is damaged, too large, compressed twice or in a way that is not taken, and
    ``Later`` when it or the copy has trouble on this machine.
    """
    source = open_raw(path, cap=cap, directory=directory)
    try:
        plain, kind = plain_of(source, _shown(path), cap=cap, directory=directory)
    except BaseException:
        source.close()
        raise
    if plain is not source:
        source.close()
    return plain, kind


def open_raw(path: str | None, *, cap: int = DEFAULT_CAP, directory: str | None = None) -> BinaryIO:
    """The octets of ``path`` as they are, in a file that can be sought in; arguments and errors as above."""
    shown = _shown(path)
    source = _open(path, shown)
    try:
        if stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            return source
        with source:
            return _copied(source, shown, cap, directory)
    except BaseException as error:
        source.close()
        if isinstance(error, OSError):
            raise _trouble(shown, error) from error
        raise


def plain_of(
    source: BinaryIO, shown: str, *, cap: int = DEFAULT_CAP, directory: str | None = None
) -> tuple[BinaryIO, str | None]:
    """The plain batch in ``source`` (``source`` itself where it is not compressed), and what it was compressed with.

    ``source`` stays open. ``shown`` is what people call it; the other arguments and the errors are as above.
    """
    try:
        kind = _kind(source)
        if kind is None:
            return source, None
        _refuse_kind(kind, shown)
        plain = _expanded(source, kind, shown, cap, directory)
    except OSError as error:
        raise _trouble(shown, error) from error
    twice = _kind(plain)
    if twice is None:
        return plain, kind
    plain.close()
    raise Bad(
        f"{shown} is compressed twice: {twice} inside {kind}",
        safe=Sink.safe,
        next="decompress it once by hand, if you trust where it came from",
    )


def _shown(path: str | None) -> str:
    return "standard input" if path is None else path


def _open(path: str | None, shown: str) -> BinaryIO:
    try:
        return os.fdopen(os.dup(0) if path is None else _descriptor(path), "rb")
    except OSError as error:
        raise Usage(
            f"{shown} cannot be opened: {error.strerror}",
            safe="Nothing was changed",
            next="check the name, and who may read it",
        ) from error


def _descriptor(path: str) -> int:
    """``path`` opened for reading. A named pipe is not waited for in vain: on a medium nobody is behind it."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(_PIPE_SECONDS * 1000):
                raise OSError(errno.ETIMEDOUT, "it is a named pipe and nobody writes to it")
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _trouble(shown: str, error: OSError) -> Problem:
    return Later(
        f"{shown} cannot be read: {error.strerror or error}",
        safe=Sink.safe,
        next="see to the disk (or set TMPDIR to a directory with more room) and run the same command again",
    )


def _kind(source: BinaryIO) -> str | None:
    """What ``source`` is compressed with; it is at its beginning afterwards."""
    source.seek(0)
    start = source.read(LONGEST)
    source.seek(0)
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)


def _refuse_kind(kind: str, shown: str) -> None:
    if kind in ("bzip2", "freeze"):
        raise Bad(
            f"{shown} is compressed with {kind}, which is not taken",
            safe=Sink.safe,
            next="decompress it by hand, and ask the sender for gzip, xz or zstd",
        )


def _nameless(shown: str, cap: int, directory: str | None) -> Sink:
    import tempfile  # most batches need none, and no memory for it

    return Sink(cast(BinaryIO, tempfile.TemporaryFile(dir=directory)), shown, cap)


def _copied(source: BinaryIO, shown: str, cap: int, directory: str | None) -> BinaryIO:
    output = _nameless(shown, cap, directory)
    try:
        while data := source.read(CHUNK):
            output.write(data)
    except BaseException:
        output.file.close()
        raise
    return output.file


def _expanded(source: BinaryIO, kind: str, shown: str, cap: int, directory: str | None) -> BinaryIO:
    output = _nameless(shown, cap, directory)
    try:
        inflate(source, kind, output)
    except BaseException:
        output.file.close()
        raise
    return output.file
