"""The line protocol of ``bsmtp-batch receive``: what a courier with a program of ours at the far end says and hears.

One command per line, ASCII, one blank between words. Octets follow only where a line has told how many.

==========================================  ==================================================================
the near side says                          the far side answers
==========================================  ==================================================================
(connects)                                  ``READY 1``
``list``                                    for each batch ``BATCH NAME PAPERS``; ``END``
``get NAME OFFSET``                         ``DATA NAME COUNT`` and the octets from OFFSET to the end
``pack NAME FORM``                          ``PACKED NAME SIZE``: it may be fetched in this form
``ack NAME SHA256``                         ``OK NAME``
``put NAME SIZE PAPERS``                    ``GO NAME OFFSET``, and after the octets from OFFSET on
                                            ``ACK NAME SHA256``; or that at once
``offer NAME FORM SIZE PAPERS``             ``SEND NAME OFFSET``: the file may be sent, OFFSET of its octets are
                                            there; or ``ACK NAME SHA256`` at once
``sent NAME``                               ``ACK NAME SHA256``
``size NAME``                               ``SIZE NAME OCTETS``: what has come of the batch on offer
``quit``                                    ``BYE``
==========================================  ==================================================================

PAPERS is ``MANIFESTSIZE SIGNATURESIZE``, and after the line the octets of both (a size of 0: it is not signed).
``put`` and ``get`` move the octets in this conversation. ``offer`` and ``pack`` let another program move them, over
another session of the same account (:mod:`bsmtp_batch.receive.door`), while this conversation holds the locks; FORM
says what is done to a batch for the road (:mod:`bsmtp_batch.edge.road`).

Instead of any answer ``NO CODE SENTENCE`` may come: CODE is 65 (never), 75 (later) or 64 (not a command). After a
``NO`` to ``put`` no octets follow. An ``ACK`` is a receipt; ``ack`` is one, too, in the other direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from bsmtp_batch.batch.manifest import MAX_BYTES
from bsmtp_batch.edge.road import SUFFIXES
from bsmtp_batch.handover.parcel import Parcel
from bsmtp_batch.spool import names

VERSION = 1
MAX_LINE = 2048
MAX_SIZE = 1 << 50
MAX_SIGNATURE = 16_384
GROWTH = 65_536
"""Octets by which a batch may grow when a compressor finds nothing to compress, beside 1/64 of its size."""


class Unspeakable(Exception):
    """What the other side said is not of this protocol; the text says why. The line was read, nothing behind it."""


class Silence(Exception):
    """The other side has gone, in the middle of something."""


@dataclass(frozen=True)
class Line:
    """A verb, the name of a batch (``""`` where it takes none) and its numbers or hash."""

    verb: str
    name: str = ""
    values: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The line with its line end."""
        return " ".join(filter(None, (self.verb, self.name, *self.values))).encode("ascii") + b"\n"

    def number(self, place: int) -> int:
        """The value at ``place``, which was checked to be a number."""
        return int(self.values[place])


_PAPERS = ("manifest", "signature")
_SHAPES = {
    "list": (False, ()),
    "get": (True, ("size",)),
    "pack": (True, ("form",)),
    "ack": (True, ("sha256",)),
    "put": (True, ("size", *_PAPERS)),
    "offer": (True, ("form", "size", *_PAPERS)),
    "sent": (True, ()),
    "size": (True, ()),
    "quit": (False, ()),
    "READY": (False, ("size",)),
    "BATCH": (True, _PAPERS),
    "END": (False, ()),
    "DATA": (True, ("size",)),
    "PACKED": (True, ("size",)),
    "OK": (True, ()),
    "GO": (True, ("size",)),
    "SEND": (True, ("size",)),
    "SIZE": (True, ("size",)),
    "ACK": (True, ("sha256",)),
    "BYE": (False, ()),
}
"""For each verb whether a batch name follows, and what its further words are."""


def no(code: int, sentence: str) -> bytes:
    """The line ``NO CODE SENTENCE``; whatever is in ``sentence``, it stays one line of printable ASCII."""
    text = "".join(c if " " <= c <= "~" else "?" for c in sentence)
    return f"NO {code} {text}".encode("ascii")[: MAX_LINE - 1] + b"\n"


def read_line(stream: BinaryIO) -> Line | None:
    """The next line; None at the end of the stream. Raises :class:`Unspeakable`, :class:`Silence`.

    ``NO CODE SENTENCE`` comes as a line whose values are the code and the sentence.
    """
    raw = stream.readline(MAX_LINE + 1)
    if not raw:
        return None
    if len(raw) > MAX_LINE:
        raise Unspeakable(f"a line is longer than {MAX_LINE} octets")
    if not raw.endswith(b"\n"):
        raise Silence("a line broke off")
    try:
        words = raw[:-1].removesuffix(b"\r").decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise Unspeakable("a line holds octets that are not ASCII") from None
    if words[0] == "NO" and len(words) > 2 and words[1] in ("64", "65", "75"):
        return Line("NO", "", (words[1], " ".join(words[2:])))
    return _parsed(words)


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """``size`` octets, or :class:`Silence`."""
    data = stream.read(size)
    if data is None or len(data) < size:
        raise Silence(f"{size} octets were announced and {len(data or b'')} came")
    return data


def largest(parcel: Parcel, form: str) -> int:
    """The most octets that ``parcel`` may have on the road in ``form``; who gives and who takes go by the same."""
    return parcel.size if form == "plain" else parcel.size + parcel.size // 64 + GROWTH


def papers(parcel: Parcel) -> tuple[tuple[str, str], bytes]:
    """The words PAPERS of a line about ``parcel``, and the octets that follow it."""
    return (str(len(parcel.raw)), str(len(parcel.signature))), parcel.raw + parcel.signature


def read_papers(stream: BinaryIO, line: Line) -> tuple[bytes, bytes]:
    """Manifest and signature, which follow ``line``. Raises :class:`Silence`."""
    manifest, signature = (int(value) for value in line.values[-2:])
    return read_exactly(stream, manifest), read_exactly(stream, signature)


def _parsed(words: list[str]) -> Line:
    verb = words[0]
    if verb not in _SHAPES:
        raise Unspeakable("there is no such command")
    named, shape = _SHAPES[verb]
    if len(words) != 1 + named + len(shape):
        raise Unspeakable(f"{verb} takes another number of words")
    name = words[1] if named else ""
    if named and names.parse_batch_name(name) is None:
        raise Unspeakable(f"{verb} names no batch")
    values = tuple(words[1 + named :])
    for value, kind in zip(values, shape, strict=True):
        _check(verb, value, kind)
    return Line(verb, name, values)


def _check(verb: str, value: str, kind: str) -> None:
    if kind == "sha256":
        if len(value) != 64 or value.strip("0123456789abcdef"):
            raise Unspeakable(f"{verb} lacks a sha256")
        return
    if kind == "form":
        if value not in SUFFIXES:
            raise Unspeakable(f"{verb} names no form that is known here")
        return
    limit = {"manifest": MAX_BYTES, "signature": MAX_SIGNATURE}.get(kind, MAX_SIZE)
    if not (value.isascii() and value.isdecimal() and len(value) < 19 and int(value) <= limit):
        raise Unspeakable(f"{verb} lacks a size, or it is too large")
