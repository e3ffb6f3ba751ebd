"""Copies of whole batches for the road: compressed on one side, and expanded within bounds on the other.

The same batch always becomes the same octets, so that a transfer that was cut can go on with a copy made anew.

The levels are those after which more time buys next to nothing on mail: attachments in base64 shrink to about three
quarters whatever is done, and text, which is the smaller part, to a quarter with gzip and a sixth with zstd. xz stays
at preset 4, where writing takes 48 MiB of memory: its default, 6, takes twice that and twice the time, for two parts
in a hundred of the plain size.
"""

from __future__ import annotations

import errno
import lzma
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Protocol

from bsmtp_batch.edge.inflate import CHILD_SECONDS, CHUNK, Sink, inflate, zstd_library
from bsmtp_batch.edge.process import Child
from bsmtp_batch.errors import Bad, Later

SUFFIXES = {"plain": "", "gzip": ".gz", "xz": ".xz", "zstd": ".zst"}
"""What a batch is called on the road behind its name, by its form there."""

GZIP_LEVEL = 6
XZ_PRESET = 4
ZSTD_LEVEL = 3

_BEAT = 1.0
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Tick = Callable[[int], None]
"""Told how many octets were read since it was last called, 0 among them. What it raises ends the work."""


class _Encoder(Protocol):
    """What makes one compressed stream (the shape of ``zlib.compressobj``)."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Copy:
    """Makes one equal to what it was given: the form "plain"."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Arrival(Sink):
    """The file a batch is expanded into. Every piece of it is a tick, however little of the copy it took."""

    safe = "Nothing of it was kept and it was not acknowledged, so the sending side keeps the batch"
    remedy = 'run the contact again; if this happens again, look at the disks, or set compression = "none" for the peer'

    def __init__(self, file: BinaryIO, shown: str, cap: int, source: BinaryIO, tick: Tick) -> None:
        super().__init__(file, shown, cap)
        self._progress = _Progress(source, tick)

    def write(self, data: bytes) -> None:
        super().write(data)
        self._progress.tell()


class _Progress:
    """How far an unbuffered file has been read, by us or by a child that shares it."""

    def __init__(self, source: BinaryIO, tick: Tick) -> None:
        self._source = source
        self._tick = tick
        self._told = 0

    def tell(self) -> bool:
        """Tick; whether anything was read since the last time."""
        moved = self._source.tell() - self._told
        self._told += moved
        self._tick(moved)
        return moved > 0


def compress(source: str, target: str, form: str, tick: Tick) -> int:
    """Make ``target``, a copy of the batch file ``source`` in ``form`` (a key of :data:`SUFFIXES`); its size in octets.

    ``target`` (mode 0600) has its name only when it is whole and synced, and takes the place of an older one. ``tick``
    is called for every 256 KiB, or once a second where a program does the work. Raises
    :class:`~bsmtp_batch.errors.Later` when zstd cannot be done here, and ``OSError``.
    """
    encoder = _encoder(form)
    with _opened(source) as plain, _under_its_name(target) as copy:
        progress = _Progress(plain, tick)
        chunks = _by_program(plain) if encoder is None else _by_library(plain, encoder)
        for chunk in chunks:
            copy.write(chunk)
            progress.tell()
        copy.flush()
        os.fsync(copy.fileno())
        return os.fstat(copy.fileno()).st_size


def expand(source: str, target: str, form: str, size: int, tick: Tick) -> None:
    """Make ``target`` (mode 0600) the batch of ``size`` octets that ``source`` is a copy of, in ``form``.

    No more than ``size`` octets are ever written, and an older ``target`` is not opened. Whether they are the right
    ones, and durable, is for the caller to see to. ``tick`` is called for every 256 KiB written at least. Raises
    :class:`~bsmtp_batch.errors.Bad`, with nothing left at ``target``, when there are more or fewer, or when ``source``
    is damaged or followed by something else; ``Later`` when zstd cannot be read here; and ``OSError``.
    """
    with _opened(source) as copy, _anew(target) as plain:
        arrival = _Arrival(plain, os.path.basename(source), size, copy, tick)
        if form == "plain":
            while data := copy.read(CHUNK):
                arrival.write(data)
        else:
            inflate(copy, form, arrival)
        if arrival.size < size:
            raise Bad(
                f"{arrival.shown} holds {arrival.size} octets of the {size} it should",
                safe=arrival.safe,
                next=arrival.remedy,
            )


def _encoder(form: str) -> _Encoder | None:
    """What compresses to ``form`` here; None where a program has to."""
    if form == "plain":
        return _Copy()
    if form == "gzip":
        return zlib.compressobj(GZIP_LEVEL, wbits=31)  # writes neither a name nor a time into its header
    if form == "xz":
        return lzma.LZMACompressor(format=lzma.FORMAT_XZ, preset=XZ_PRESET)
    if form != "zstd":
        raise ValueError(f"{form!r} is not a form of batches on the road")
    zstd: Any = zstd_library()
    if zstd is None:
        return None
    what = zstd.CompressionParameter
    made: _Encoder = zstd.ZstdCompressor(options={what.compression_level: ZSTD_LEVEL, what.checksum_flag: 1})
    return made


def _by_library(plain: BinaryIO, encoder: _Encoder) -> Iterator[bytes]:
    while data := plain.read(CHUNK):
        yield encoder.compress(data)
    yield encoder.flush()


def _by_program(plain: BinaryIO) -> Iterator[bytes]:
    """What zstd(1) makes of ``plain``; ``b""`` for every second in which it wrote nothing."""
    try:
        child = Child(["zstd", f"-{ZSTD_LEVEL}", "-cq", "--check", "--single-thread"], source=plain)
    except FileNotFoundError as error:
        raise Later(
            "a batch cannot be compressed with zstd here: neither a library nor the program zstd is installed",
            safe="Nothing was sent of it, and it stays where it is",
            next='install zstd (or bsmtp-batch[zstd]), or set compression = "gzip" for the peer',
        ) from error
    with child:
        silent, at = 0.0, 0
        while True:
            try:
                data = child.receive(_BEAT)
            except TimeoutError:
                silent, at = (silent + _BEAT if plain.tell() == at else 0.0), plain.tell()
                if silent >= CHILD_SECONDS:
                    raise
                yield b""
                continue
            if not data:
                break
            silent = 0.0
            yield data
        if child.finish(CHILD_SECONDS):
            raise OSError(errno.EIO, f"zstd failed ({child.complaint()})")


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The regular file ``path``, unbuffered: its place is what was read of it."""
    fd = os.open(path, _READ)
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        yield file


@contextmanager
def _under_its_name(path: str) -> Iterator[BinaryIO]:
    """A new file that gets the name ``path`` at the end, if all goes well.

    Until then it has a name of its own that begins with a dot: two contacts may make a copy of one batch at a time.
    """
    directory, name = os.path.split(path)
    fd, passing = tempfile.mkstemp(prefix=f".{name}.", dir=directory or ".")
    try:
        with open(fd, "wb") as file:
            yield file
        os.rename(passing, path)
    except BaseException:
        _unlink(passing)
        raise


@contextmanager
def _anew(path: str) -> Iterator[BinaryIO]:
    """A new file ``path``; gone again if anything goes wrong."""
    _unlink(path)  # never opened: it may be a second name of another file
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            yield file
    except BaseException:
        _unlink(path)
        raise


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
