"""What a reader of batches finds: messages, faults, and a summary; and what it is told beforehand."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bsmtp_batch.wire.command import MAX_COMMAND, MAX_RCPTS, Mail, Rcpt

CRLF = b"\r\n"
LF = b"\n"


class Severity(enum.Enum):
    """How much a reader puts up with. It never changes what ends a message, only what may stand around messages."""

    STRICT = "strict"
    """Exactly what :mod:`bsmtp_batch.batch.writer` writes."""
    TOLERANT = "tolerant"
    """What other programs write, too; docs/FORMAT.md lists it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a reader stops. All are counts of octets, but ``recipients``."""

    command: int = MAX_COMMAND
    """A command line with its line end; a longer one refuses the file."""
    line: int = 1 << 20
    """A line of text without its line end and without an added dot; a longer one refuses the file."""
    recipients: int = MAX_RCPTS
    """RCPT lines of one message; more refuse the message."""
    message_size: int | None = None
    """Content of one message (:attr:`Message.size`); more refuses the message. ``None``: any."""
    messages: int | None = None
    """Complete messages of the file; more refuse the file, and nothing behind is looked at. ``None``: any."""
    all_recipients: int | None = None
    """Recipients of all of them together, likewise."""


class Message(NamedTuple):
    """One complete message of a batch: its envelope, and where its text stands. (A tuple, because it is made in a
    fifth of the time.)"""

    number: int
    """Its place in the batch, from 1; refused messages count."""
    mail: Mail
    rcpts: tuple[Rcpt, ...]
    """In the order of the file, at least one."""
    offset: int
    """The first octet of the text in the plain batch."""
    wire_size: int
    """Octets of the text as the file has it, up to the line with the dot."""
    size: int
    """Octets of the content: CRLF line ends, no added dots (RFC 1870 section 6)."""
    sha256: str
    """Of the content, in hexadecimal digits; empty where nobody asked the reader for it."""
    line: int
    """The line of its MAIL command, from 1."""
    newline: bytes
    """The line end of its text in the file: CRLF, or LF in files of others."""
    exact: bool
    """The text in the file is what SMTP wants on the wire, octet for octet: CRLF, every leading dot doubled."""
    eight_bit: bool
    """Some octet of the text is above 127."""
    esmtp: bool
    """The greeting before it was EHLO."""
    warnings: tuple[str, ...] = ()
    """Oddities since the message before it, in words, each with its line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something the grammar refuses, and where."""

    message: int
    """The message it stands in, or in front of; from 1."""
    line: int
    """From 1."""
    offset: int
    """In the plain batch, from 0."""
    reason: str
    """A sentence without its full stop, printable."""
    scope: Literal["file", "message"]
    """``file``: nothing behind this place was read. ``message``: this one message is refused, the rest is sound."""
    end: int = -1
    """Where the refused message ends: the first octet behind it. -1 where the file is refused."""

    def __str__(self) -> str:
        return f"message {self.message}, line {self.line}, byte {self.offset}: {self.reason}"


Event = Message | Fault


class Refused(Exception):
    """Inside the reader: the file cannot be read on. ``line`` and ``offset`` as in :class:`Fault`."""

    def __init__(self, reason: str, *, line: int, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.offset = offset


MAX_WARNINGS = 100
"""Warnings kept of one file: a file that is all oddities must not fill the memory."""


@dataclass(slots=True)
class Summary:
    """What a reader has seen so far; complete after its ``close``."""

    messages: int = 0
    """Complete messages; refused ones are not in it."""
    recipients: int = 0
    """Recipients of those messages."""
    refused: int = 0
    """Messages refused one by one (faults of scope ``message``)."""
    sessions: int = 0
    """Greetings and messages without one: more than 1 where batches were put one behind the other."""
    warnings: list[str] = field(default_factory=list)
    """The first :data:`MAX_WARNINGS` oddities, in words, each with its line."""

    def warn(self, text: str) -> None:
        """Keep ``text``, unless there are enough."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)
