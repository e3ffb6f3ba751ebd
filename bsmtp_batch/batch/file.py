"""A batch in an open, seekable file: reading it through once, and going back for the text of a message."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from bsmtp_batch.batch.events import LF, Event, Limits, Message, Severity, Summary
from bsmtp_batch.batch.frames import Frame, Framer, Torn
from bsmtp_batch.batch.reader import Reader
from bsmtp_batch.wire.dots import Canonicaliser, Unstuffer

CHUNK = 1 << 18
"""Octets read at a time: what a scan or a text keeps in memory is a few of these. (Larger ones leave the cache.)"""


class Changed(OSError):
    """The file is not what it was when it was scanned: somebody else writes to it."""


class Sum(Protocol):
    """What takes a sum; each piece is given once, in order, and is not changed afterwards."""

    def update(self, piece: bytes, /) -> None:
        """Add ``piece``."""

    def hexdigest(self) -> str:
        """The sum of everything, in hexadecimal digits."""


class BatchFile:
    """A plain batch in ``file`` (binary, seekable, not closed here). Several texts may be read in turns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        """Octets of the file, after :meth:`scan`."""
        self.sha256 = ""
        """Of the whole file in hexadecimal digits, after :meth:`scan`; also when it had faults."""
        self.summary = Summary()
        """Counts and warnings, after :meth:`scan`."""

    def scan(
        self,
        severity: Severity,
        limits: Limits | None = None,
        *,
        digests: bool = False,
        whole: Sum | None = None,
    ) -> Iterator[Event]:
        """Messages and faults in order, each as it is found; ``digests``: with the sha256 of each message. ``whole``
        takes the sha256 of the file, if somebody has a quicker way.

        :attr:`sha256`, :attr:`size` and :attr:`summary` are valid when the iterator is exhausted. Raises ``OSError``
        when the file cannot be read.
        """
        reader = Reader(severity, limits, digests=digests)
        digest: Sum = whole or hashlib.sha256()
        size = 0
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            yield from reader.feed(chunk)
        yield from reader.close()
        self.size, self.sha256, self.summary = size, digest.hexdigest(), reader.summary

    def frames(self) -> Iterator[Frame]:
        """Where the messages of a batch stand that a strict :meth:`scan` found sound, at twice its speed or more.

        Texts may be read in between. Raises :class:`Changed` when it is no such batch any more, and ``OSError``.
        """
        framer, at = Framer(), 0
        try:
            while chunk := self._at(at):
                at += len(chunk)
                yield from framer.feed(chunk)
            framer.close()
        except Torn as error:
            raise Changed("the batch was changed while it was read") from error

    def _at(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(CHUNK)

    def content(self, message: Message) -> Iterator[bytes]:
        """The content of ``message``: CRLF line ends, no added dots; its hash is ``message.sha256``."""
        unstuffer = Unstuffer()
        for piece in self._text(message):
            yield unstuffer.feed(piece)
        yield unstuffer.close()

    def wire(self, message: Message) -> Iterator[bytes]:
        """The text of ``message`` for the wire: canonical and dot-stuffed, without the line with the dot."""
        if message.exact:
            yield from self._text(message)
            return
        canonicaliser = Canonicaliser()
        for piece in self.content(message):
            yield canonicaliser.feed(piece)
        yield canonicaliser.close()

    def _text(self, message: Message) -> Iterator[bytes]:
        """The text as it stands, but with CRLF line ends."""
        at, end = message.offset, message.offset + message.wire_size
        while at < end:
            self._file.seek(at)
            piece = self._file.read(min(CHUNK, end - at))
            if not piece:
                raise Changed("the batch became shorter while it was read")
            at += len(piece)
            yield piece.replace(b"\n", b"\r\n") if message.newline == LF else piece
