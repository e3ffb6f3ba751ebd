"""What is said in an SMTP or LMTP session, as values: requests, replies, content, and what went wrong.

A *request* is anything that wants a reply: the opening of the connection (:class:`Connect`, answered by the greeting),
each command, the end of content (:class:`EndOfData`), and on the server a :class:`Violation`. A client sends requests
and receives replies, a server the other way round; the values are the same in both directions, in SMTP and in LMTP.

Everything the peer wrote is ``bytes``. Secrets (AUTH) are left out of ``repr``, so that no log can hold them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from bsmtp_batch.wire.command import Mail, Rcpt


class Verb(StrEnum):
    """The kinds of request; the row of a request in the tables of ``states.py``."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"  # LHLO in LMTP: the tables do not care
    HELO = "HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END = "end of data"
    BDAT = "BDAT"
    BDAT_LAST = "BDAT LAST"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    QUIT = "QUIT"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RESPONSE = "AUTH response"
    ATRN = "ATRN"
    ETRN = "ETRN"
    XFORWARD = "XFORWARD"
    VIOLATION = "violation"


class Event:
    """Anything a session gives or takes."""

    __slots__ = ()


class Request(Event):
    """An event that wants a reply; in LMTP the end of data wants one for each accepted recipient."""

    __slots__ = ()
    verb: ClassVar[Verb]


@dataclass(frozen=True, slots=True)
class Connect(Request):
    """The connection was opened (or turned round): the server owes its greeting, 220 or 554."""

    verb: ClassVar[Verb] = Verb.CONNECT


@dataclass(frozen=True, slots=True)
class Helo(Request):
    """The client names itself: EHLO (LHLO in LMTP), or HELO when not ``extended`` (SMTP only)."""

    name: bytes
    extended: bool = True

    @property
    def verb(self) -> Verb:  # type: ignore[override]  # decided by the value, constant in the other classes
        return Verb.EHLO if self.extended else Verb.HELO


@dataclass(frozen=True, slots=True)
class MailFrom(Request):
    """A transaction begins; path and parameters as :mod:`bsmtp_batch.wire.command` has them."""

    mail: Mail
    verb: ClassVar[Verb] = Verb.MAIL


@dataclass(frozen=True, slots=True)
class RcptTo(Request):
    """One more recipient of the transaction."""

    rcpt: Rcpt
    verb: ClassVar[Verb] = Verb.RCPT


@dataclass(frozen=True, slots=True)
class Data(Request):
    """The client asks to send content. 354 means: content follows, stuffed and with CRLF, then :class:`EndOfData`."""

    verb: ClassVar[Verb] = Verb.DATA


@dataclass(frozen=True, slots=True)
class EndOfData(Request):
    """The line with a single dot. The reply to it moves the responsibility for the message to the server."""

    verb: ClassVar[Verb] = Verb.END


@dataclass(frozen=True, slots=True)
class Bdat(Request):
    """A chunk of ``size`` octets follows, raw and not stuffed (RFC 3030); ``last`` ends the message.

    A server answers when it got the :class:`EndOfChunk`, not before.
    """

    size: int
    last: bool = False

    @property
    def verb(self) -> Verb:  # type: ignore[override]  # decided by the value, constant in the other classes
        return Verb.BDAT_LAST if self.last else Verb.BDAT


@dataclass(frozen=True, slots=True)
class Rset(Request):
    """The transaction, if there is one, is forgotten."""

    verb: ClassVar[Verb] = Verb.RSET


@dataclass(frozen=True, slots=True)
class Noop(Request):
    """Nothing, with or without words behind it."""

    text: bytes = b""
    verb: ClassVar[Verb] = Verb.NOOP


@dataclass(frozen=True, slots=True)
class Vrfy(Request):
    """Does this user exist? 252 is the answer that gives nothing away."""

    text: bytes
    verb: ClassVar[Verb] = Verb.VRFY


@dataclass(frozen=True, slots=True)
class Expn(Request):
    """Who is on this list?"""

    text: bytes
    verb: ClassVar[Verb] = Verb.EXPN


@dataclass(frozen=True, slots=True)
class Help(Request):
    """Help, about ``text`` if that is given."""

    text: bytes = b""
    verb: ClassVar[Verb] = Verb.HELP


@dataclass(frozen=True, slots=True)
class Quit(Request):
    """The client has done; after the reply both sides close."""

    verb: ClassVar[Verb] = Verb.QUIT


@dataclass(frozen=True, slots=True)
class StartTls(Request):
    """The client asks for TLS on this connection (RFC 3207); after 220 nothing is read until ``upgraded()``."""

    verb: ClassVar[Verb] = Verb.STARTTLS


@dataclass(frozen=True, slots=True)
class Auth(Request):
    """A login begins (RFC 4954). ``initial`` is the initial response as written (base64, ``=`` for an empty one)."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)
    verb: ClassVar[Verb] = Verb.AUTH


@dataclass(frozen=True, slots=True)
class AuthResponse(Request):
    """The client's line after a 334: base64 as written, or ``*``, which gives up."""

    data: bytes = field(repr=False)
    verb: ClassVar[Verb] = Verb.RESPONSE


@dataclass(frozen=True, slots=True)
class Atrn(Request):
    """The client asks to turn the connection round and be sent its mail (RFC 2645); no domain means all it may have.

    After 250, which must be one line, nothing is read until ``turn()``.
    """

    domains: tuple[bytes, ...] = ()
    verb: ClassVar[Verb] = Verb.ATRN


@dataclass(frozen=True, slots=True)
class Etrn(Request):
    """The client asks the server to start sending what waits for ``node`` (RFC 1985).

    ``option`` is ``b""``, ``b"@"`` (the domain and those below it) or ``b"#"`` (``node`` names a queue).
    """

    node: bytes
    option: bytes = b""
    verb: ClassVar[Verb] = Verb.ETRN


@dataclass(frozen=True, slots=True)
class Xforward(Request):
    """A content filter's word about where the next message came from (Postfix' XFORWARD): names in capitals, values
    decoded; ``b""`` where the client does not know. ``IDENT`` is its queue id."""

    attributes: tuple[tuple[bytes, bytes], ...]
    verb: ClassVar[Verb] = Verb.XFORWARD


@dataclass(frozen=True, slots=True)
class Reply(Event):
    """A reply (RFC 5321 section 4.2).

    ``status`` is the enhanced status code (RFC 2034, ``b"5.1.1"``) or ``b""``; ``text`` is the words, several lines
    with LF between them. A reply that was received names the ``request`` it answers, and in LMTP the ``rcpt`` whose
    fate the end of data decided; these two take no part in comparing. ``request`` is None for a reply that nobody
    asked for: a 421, or a refusal in the middle of the content, before any :class:`EndOfData`. Both end the session.
    """

    code: int
    status: bytes = b""
    text: bytes = b""
    request: Request | None = field(default=None, compare=False)
    rcpt: Rcpt | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        """2yz: done."""
        return 200 <= self.code <= 299

    @property
    def go_on(self) -> bool:
        """3yz: the server waits for more (content after DATA, a response after AUTH)."""
        return 300 <= self.code <= 399

    @property
    def temporary(self) -> bool:
        """4yz: not now."""
        return 400 <= self.code <= 499

    @property
    def permanent(self) -> bool:
        """5yz: not ever, as it stands."""
        return 500 <= self.code <= 599

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The words, line by line; at least one line, perhaps empty."""
        return tuple(self.text.split(b"\n"))

    def __str__(self) -> str:
        """The reply on one line, fit for logs and reports: nothing in it can move a terminal's cursor."""
        words = self.text.replace(b"\n", b" ").decode("utf-8", "backslashreplace")
        printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
        return " ".join(part for part in (str(self.code), self.status.decode("ascii"), printable) if part)


@dataclass(frozen=True, slots=True)
class Content(Event):
    """A piece of the message as it stood on the wire: after DATA still stuffed, in a BDAT chunk raw.

    The pieces are cut anywhere. Those of one DATA together end in CRLF (or are empty); the dot line is not in them.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfChunk(Event):
    """The chunk of the last :class:`Bdat` is complete: this is the moment to answer that request."""

    last: bool


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The peer closed the connection; ``early`` when something was left unsaid (a reply, a line, the content)."""

    early: bool


@dataclass(frozen=True, slots=True)
class Violation(Request):
    """The peer broke the protocol; ``reason`` is a phrase for the log that holds no octet of the peer's.

    On the server it stands for the bad command and wants a reply like any request: ``send(event.reply)``. When
    ``fatal`` the connection has to be closed (after that reply, if we are the server); nothing more will be read.
    """

    reply: Reply
    reason: str
    fatal: bool = False
    verb: ClassVar[Verb] = Verb.VIOLATION

    @property
    def problem(self) -> PeerProblem:
        """The same as an exception, for callers that end in one."""
        return PeerProblem(self.reason, self.reply, fatal=self.fatal)


class WireProblem(Exception):
    """Somebody broke the protocol. ``reason`` says how, ``reply`` is what the server of the two may still say."""

    def __init__(self, reason: str, reply: Reply, *, fatal: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply
        self.fatal = fatal


class LocalProblem(WireProblem):
    """We broke the protocol, or were about to: nothing was written, and our side of the session is over."""


class PeerProblem(WireProblem):
    """The peer broke the protocol. Sessions hand it out as a :class:`Violation`; nothing raises it at a caller."""
