"""Opening a batch that may be compressed: plain octets in a file that can be gone back in, whatever it came as.

What it is shows in its first octets, never in its name: senders mislabel. One layer is taken off, the output is
counted against a cap while it is written, and it goes to a file without a name, so neither memory nor a crash keeps it.
"""

from __future__ import annotations

import errno
import importlib
import lzma
import os
import select
import stat
import tempfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

from bsmtp_batch.edge.process import Child
from bsmtp_batch.errors import Bad, Later, Problem, Usage

DEFAULT_CAP = 8 << 30
"""Octets of plain batch that are taken where no manifest says how many there are."""

_CHUNK = 1 << 18
_XZ_MEMORY = 80 << 20  # xz -9 takes 65 MiB to read; a larger dictionary is an attack on our memory
_CHILD_SECONDS = 300.0
_PIPE_SECONDS = 10.0

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x9d": "compress",
    b"BZh": "bzip2",
    b"\x1f\x9f": "freeze",
}
_LONGEST = max(map(len, _MAGIC))
_SAFE = "The file stays as it is, nothing of it was used"


class _Decoder(Protocol):
    """What a decompressor of one stream has in common (the shape of ``lzma.LZMADecompressor``)."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gzip:
    """zlib's decompressor in the shape of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail and not self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


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
        plain = _expanded(source, kind, _Output(shown, cap, directory))
    except OSError as error:
        raise _trouble(shown, error) from error
    twice = _kind(plain)
    if twice is None:
        return plain, kind
    plain.close()
    raise Bad(
        f"{shown} is compressed twice: {twice} inside {kind}",
        safe=_SAFE,
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
        safe=_SAFE,
        next="see to the disk (or set TMPDIR to a directory with more room) and run the same command again",
    )


def _kind(source: BinaryIO) -> str | None:
    """What ``source`` is compressed with; it is at its beginning afterwards."""
    source.seek(0)
    start = source.read(_LONGEST)
    source.seek(0)
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def _refuse_kind(kind: str, shown: str) -> None:
    if kind in ("bzip2", "freeze"):
        raise Bad(
            f"{shown} is compressed with {kind}, which is not taken",
            safe=_SAFE,
            next="decompress it by hand, and ask the sender for gzip, xz or zstd",
        )


class _Output:
    """The nameless file that plain octets go to, and the cap on them."""

    def __init__(self, shown: str, cap: int, directory: str | None) -> None:
        self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 - handed to the caller
        self.shown = shown
        self.size = 0
        self._cap = cap

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._cap:
            raise Bad(
                f"{self.shown} holds more than the {self._cap} octets it may",
                safe=_SAFE,
                next="ask the sender for a new copy: this one is not what its manifest says, or an attack",
            )
        self.file.write(data)


def _copied(source: BinaryIO, shown: str, cap: int, directory: str | None) -> BinaryIO:
    output = _Output(shown, cap, directory)
    try:
        while data := source.read(_CHUNK):
            output.write(data)
    except BaseException:
        output.file.close()
        raise
    return output.file


def _expanded(source: BinaryIO, kind: str, output: _Output) -> BinaryIO:
    """``source`` decompressed into ``output``; its file."""
    try:
        make = _decoder(kind)
        if make:
            _expand(source, kind, make, output)
        else:
            _expand_by_program(source, kind, output)
    except BaseException:
        output.file.close()
        raise
    return output.file


def _decoder(kind: str) -> Callable[[], _Decoder] | None:
    """What makes a decompressor for one stream of ``kind``; None where a program has to do it."""
    if kind == "gzip":
        return _Gzip
    if kind == "xz":
        return lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    for module in ("compression.zstd", "backports.zstd") if kind == "zstd" else ():
        try:
            zstd: Any = importlib.import_module(module)
        except ImportError:
            continue
        return cast("Callable[[], _Decoder]", zstd.ZstdDecompressor)
    return None


def _expand(source: BinaryIO, kind: str, make: Callable[[], _Decoder], output: _Output) -> None:
    """Decompress stream after stream: compressed batches are concatenated as plain ones are."""
    rest = source.read(_CHUNK)
    while rest:
        decoder = make()
        while not decoder.eof:
            if decoder.needs_input and not rest:
                rest = source.read(_CHUNK)
                if not rest:
                    raise _damaged(source, kind, output, "ends too early: it was cut")
            data, rest = (rest, b"") if decoder.needs_input else (b"", rest)
            try:
                output.write(decoder.decompress(data, _CHUNK))
            except (Problem, OSError):
                raise
            except Exception as error:  # zlib, lzma and zstd each have an error class of their own
                raise _damaged(source, kind, output, f"is damaged ({error})") from error
        rest = _next_stream(decoder.unused_data + rest, source, kind, output)


def _next_stream(rest: bytes, source: BinaryIO, kind: str, output: _Output) -> bytes:
    """What follows a stream from its next one on; ``b""`` at the end. Zeros between are padding (tapes, xz)."""
    while True:
        rest = rest.lstrip(b"\0")
        if len(rest) >= _LONGEST:
            break
        more = source.read(_CHUNK)
        rest += more
        if not more:
            break
    if rest and not any(rest.startswith(magic) for magic, name in _MAGIC.items() if name == kind):
        raise _damaged(source, kind, output, "is followed by something else")
    return rest


def _damaged(source: BinaryIO, kind: str, output: _Output, what: str) -> Bad:
    return Bad(
        f"the {kind} data in {output.shown} {what}, within its first {source.tell()} bytes"
        f" ({output.size} bytes of batch came out before)",
        safe=_SAFE,
        next="ask the sender for a new copy",
    )


def _expand_by_program(source: BinaryIO, kind: str, output: _Output) -> None:
    """Decompress with a child: compress(1) is in no library, zstd in the newer ones."""
    argv = ["gzip", "-dc"] if kind == "compress" else ["zstd", "-dcq", "--memory=128MB"]
    os.lseek(source.fileno(), 0, os.SEEK_SET)  # the child reads the descriptor, not what was buffered from it
    try:
        child = Child(argv, source=source)
    except FileNotFoundError as error:
        raise Later(
            f"{output.shown} is compressed with {kind}, and {argv[0]} is not installed",
            safe=_SAFE,
            next=f"install {argv[0]} and run the same command again",
        ) from error
    with child:
        while data := child.receive(_CHILD_SECONDS):
            output.write(data)
        if child.finish(_CHILD_SECONDS):
            raise _damaged(source, kind, output, f"is damaged ({child.complaint()})")
