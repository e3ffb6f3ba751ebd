"""Taking one layer of compression off: stream after stream, counted against a cap, in little memory."""

from __future__ import annotations

import importlib
import lzma
import os
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import BinaryIO, Protocol, cast

from bsmtp_batch.errors import Bad, Later, Problem

CHUNK = 1 << 18
CHILD_SECONDS = 300.0
"""How long a program that compresses or decompresses may say nothing."""

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x9d": "compress",
    b"BZh": "bzip2",
    b"\x1f\x9f": "freeze",
}
"""What the first octets of a compressed file say about it."""

LONGEST = max(map(len, MAGIC))
_XZ_MEMORY = 80 << 20  # xz -9 takes 65 MiB to read; a larger dictionary is an attack on our memory


class Sink:
    """The file that plain octets go to, and the cap on them; ``shown`` is what people call the compressed one."""

    safe = "The file stays as it is, nothing of it was used"
    remedy = "ask the sender for a new copy"

    def __init__(self, file: BinaryIO, shown: str, cap: int) -> None:
        self.file = file
        self.shown = shown
        self.size = 0
        self._cap = cap

    def write(self, data: bytes) -> None:
        """Take ``data``, unless that were more than the cap: :class:`~bsmtp_batch.errors.Bad`."""
        if self.size + len(data) > self._cap:
            raise Bad(
                f"{self.shown} holds more than the {self._cap} octets it may",
                safe=self.safe,
                next=f"{self.remedy}: this one is not what its manifest says, or an attack",
            )
        self.size += len(data)
        self.file.write(data)


class Decoder(Protocol):
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


def inflate(source: BinaryIO, kind: str, output: Sink) -> None:
    """Decompress what is left of ``source``, which is of ``kind`` (a value of :data:`MAGIC`), into ``output``.

    Compressed batches are concatenated as plain ones are, so several streams in a row are taken, and zeros behind them
    (padding of tapes and of xz). Raises :class:`~bsmtp_batch.errors.Bad` when it is damaged, cut, more than the cap or
    followed by something else, ``Later`` when nothing here can read it, and ``OSError``.
    """
    make = _decoder(kind)
    if make is None:
        _by_program(source, kind, output)
    else:
        _by_library(source, kind, make, output)


def zstd_library() -> ModuleType | None:
    """The module that reads and writes zstd, of Python itself or of the extra; None where a program has to do it."""
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    return None


def _decoder(kind: str) -> Callable[[], Decoder] | None:
    """What makes a decompressor for one stream of ``kind``; None where a program has to do it."""
    if kind == "gzip":
        return _Gzip
    if kind == "xz":
        return lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    zstd = zstd_library() if kind == "zstd" else None
    return None if zstd is None else cast("Callable[[], Decoder]", zstd.ZstdDecompressor)


def _by_library(source: BinaryIO, kind: str, make: Callable[[], Decoder], output: Sink) -> None:
    rest = source.read(CHUNK)
    while True:
        decoder = make()
        while not decoder.eof:
            if decoder.needs_input and not rest:
                rest = source.read(CHUNK)
                if not rest:
                    raise _damaged(source, kind, output, "ends too early: it was cut")
            data, rest = (rest, b"") if decoder.needs_input else (b"", rest)
            output.write(_next(decoder, data, source, kind, output))
        rest = _next_stream(decoder.unused_data + rest, source, kind, output)
        if not rest:
            return


def _next(decoder: Decoder, data: bytes, source: BinaryIO, kind: str, output: Sink) -> bytes:
    try:
        return decoder.decompress(data, CHUNK)
    except (MemoryError, Problem, OSError):
        raise
    except Exception as error:  # zlib, lzma and zstd each have an error class of their own
        raise _damaged(source, kind, output, f"is damaged ({error})") from error


def _next_stream(rest: bytes, source: BinaryIO, kind: str, output: Sink) -> bytes:
    """What follows a stream from its next one on; ``b""`` at the end. Zeros between are padding."""
    while True:
        rest = rest.lstrip(b"\0")
        if len(rest) >= LONGEST:
            break
        more = source.read(CHUNK)
        rest += more
        if not more:
            break
    if rest and not any(rest.startswith(magic) for magic, name in MAGIC.items() if name == kind):
        raise _damaged(source, kind, output, "is followed by something else")
    return rest


def _damaged(source: BinaryIO, kind: str, output: Sink, what: str) -> Bad:
    return Bad(
        f"the {kind} data in {output.shown} {what}, within its first {source.tell()} bytes"
        f" ({output.size} bytes of batch came out before)",
        safe=output.safe,
        next=output.remedy,
    )


def _by_program(source: BinaryIO, kind: str, output: Sink) -> None:
    """Decompress with a child: compress(1) is in no library, zstd in the newer ones."""
    argv = ["gzip", "-dc"] if kind == "compress" else ["zstd", "-dcq", "--memory=128MB"]
    os.lseek(source.fileno(), 0, os.SEEK_SET)  # the child reads the descriptor, not what was buffered from it
    try:
        from bsmtp_batch.edge.process import Child  # most batches are plain, and need no memory for it

        child = Child(argv, source=source)
    except FileNotFoundError as error:
        raise Later(
            f"{output.shown} is compressed with {kind}, and {argv[0]} is not installed",
            safe=output.safe,
            next=f"install {argv[0]} and run the same command again",
        ) from error
    with child:
        while data := child.receive(CHILD_SECONDS):
            output.write(data)
        if child.finish(CHILD_SECONDS):
            raise _damaged(source, kind, output, f"is damaged ({child.complaint()})")
