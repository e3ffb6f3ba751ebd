"""One message on its way in: its envelope, its text, and what becomes of each of its recipients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from bsmtp_batch.intake.routing import Route
from bsmtp_batch.intake.text import are_canonical, canonical, size_of
from bsmtp_batch.spool.groups import Entry
from bsmtp_batch.spool.names import Limits, fragment_name, key_of
from bsmtp_batch.spool.reserve import FULL
from bsmtp_batch.wire.command import MAX_COMMAND, Mail, Rcpt, format_params, needs_utf8
from bsmtp_batch.wire.dots import END, Canonicaliser
from bsmtp_batch.wire.events import Reply

if TYPE_CHECKING:
    from bsmtp_batch.intake.spill import Spill

_UTF8 = b"SMTPUTF8"

TOP = 4096
"""Octets at the beginning of a text that may hold the header of the MTA that hands it in."""
_RECEIVED = re.compile(rb"received:((?:[^\r\n]|\r\n[ \t])*)\r\n", re.IGNORECASE)
_ID = re.compile(rb"[ \t\n]id[ \t\r\n]+([!-:<-~]{4,64})(?=[ \t\r;]|\Z)")


@dataclass(slots=True)
class Message:
    """A message with at least one recipient. ``chunked``: it came by BDAT, without doubled dots."""

    mail: Mail
    queue_id: bytes
    rcpts: list[Rcpt] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    """The route of each recipient."""
    chunked: bool = False
    pieces: list[bytes] = field(default_factory=list)
    """Text that is in memory, as it came."""
    held: int = 0
    """Its octets."""
    came: int = 0
    """Octets of text altogether."""
    refused: Reply | None = None
    """Why nothing of it is taken, whatever still comes."""
    spill: Spill | None = None
    verdicts: dict[Route, Reply] = field(default_factory=dict)
    """The reply for the recipients of a route; for those that were kept, what the reply begins with."""

    def add(self, data: bytes) -> None:
        """A piece of text."""
        self.came += len(data)
        if self.refused is None:
            self.held += len(data)
            if self.pieces and len(self.pieces[-1]) < TOP:  # of pieces of an octet each, none would be only an octet
                self.pieces[-1] += data
            else:
                self.pieces.append(data)

    def refuse(self, reply: Reply) -> None:
        """Take nothing of it."""
        self.refused = reply
        self.pieces.clear()
        self.held = 0

    def wanted(self) -> bool:
        """Whether anybody waits for the verdicts."""
        return self.refused is None

    def taken(self) -> list[bytes]:
        """The text in memory, which is the caller's from now on."""
        pieces, self.pieces, self.held = self.pieces, [], 0
        return pieces

    def by_route(self) -> dict[Route, list[Rcpt]]:
        """The recipients of each route."""
        found: dict[Route, list[Rcpt]] = {}
        for rcpt, route in zip(self.rcpts, self.routes, strict=True):
            found.setdefault(route, []).append(rcpt)
        return found

    def replies(self) -> list[Reply]:
        """What each recipient is answered, in their order."""
        if self.refused is not None:
            return [self.refused] * len(self.rcpts)
        verdicts = self.verdicts
        return [verdicts[route] for route in self.routes]

    def entries(self) -> list[tuple[Route, Entry]]:
        """One fragment for each route that takes it, complete; :attr:`verdicts` are set, as if all were durable."""
        text, nul = self._text()
        self.note_queue_id(text[0][:TOP] if text else b"")
        made: list[tuple[Route, Entry]] = []
        for route, rcpts in self.by_route().items():
            refused = unfit(route.limits, size_of(b"".join(text)) if route.limits.max_size else 0, nul=nul)
            if refused is not None:
                self.verdicts[route] = refused
                continue
            head = envelope(self.mail, rcpts, route.limits)
            digest = sha256(head)
            for piece in (*text, END):
                digest.update(piece)
            key = key_of(self.queue_id, digest.digest())
            made.append((route, Entry(route.name, fragment_name(key, digest.hexdigest()), (head, *text, END))))
            self.verdicts[route] = kept(key)
        return made

    def note_queue_id(self, top: bytes) -> None:
        """Where the MTA did not tell its queue id, it has written it into its header, the first of all."""
        self.queue_id = self.queue_id or received_id(top)

    def _text(self) -> tuple[list[bytes], bool]:
        """The whole text in canonical form, in pieces, the first of them not short; and whether a NUL was removed."""
        pieces = self.taken()
        if not self.chunked and are_canonical(pieces):
            return pieces, False
        data = b"".join(pieces)
        if self.chunked:
            maker = Canonicaliser()
            return [maker.feed(data) + maker.close()], b"\0" in data
        return [canonical(data)], b"\0" in data


def received_id(top: bytes) -> bytes:
    """The id in the ``Received:`` header that a text begins with; ``b""`` where there is none."""
    header = _RECEIVED.match(top)
    found = _ID.search(header[1]) if header else None
    return found[1] if found else b""


def kept(key: str) -> Reply:
    """The yes for mail that is ours under ``key``."""
    return Reply(250, b"2.0.0", b"kept as " + key.encode())


def unfit(limits: Limits, size: int, *, nul: bool) -> Reply | None:
    """Why a route does not take a text of ``size`` octets."""
    if limits.max_size and size > limits.max_size:
        return too_large(limits.max_size)
    if nul and limits.nul == "refuse":
        return Reply(554, b"5.6.0", b"the message holds a NUL, which this route refuses")
    return None


def too_large(most: int) -> Reply:
    """The answer to a message of more than ``most`` octets."""
    return Reply(552, b"5.3.4", b"the message is larger than the %d octets that are taken here" % most)


def trouble(error: OSError) -> Reply:
    """The answer when the disk does not take something."""
    if error.errno in FULL:
        return Reply(452, b"4.3.1", b"there is no room here now")
    return Reply(451, b"4.3.0", b"it cannot be kept now: " + (error.strerror or type(error).__name__).encode())


def envelope(mail: Mail, rcpts: Sequence[Rcpt], limits: Limits) -> bytes:
    """The lines before the text, for commands that the grammar has let through."""
    path = mail.path
    if path == b"MAILER-DAEMON" or (limits.null_sender and path == limits.null_sender.encode()):
        path = b""
    if limits.dialect == "classic":
        return (
            b"MAIL FROM:<%b>\r\n" % path + b"".join([b"RCPT TO:<%b>\r\n" % rcpt.path for rcpt in rcpts]) + b"DATA\r\n"
        )
    first = b"MAIL FROM:<%b>%b" % (path, format_params(mail.params))
    utf8 = not mail.path.isascii() or any(needs_utf8(rcpt.path) for rcpt in rcpts)
    if utf8 and all(keyword != _UTF8 for keyword, _ in mail.params) and len(first) + 11 <= MAX_COMMAND:
        first += b" " + _UTF8
    lines = [b"RCPT TO:<%b>%b\r\n" % (rcpt.path, format_params(rcpt.params)) for rcpt in rcpts]
    return first + b"\r\n" + b"".join(lines) + b"DATA\r\n"
