"""A scripted SMTP or LMTP server: records what it is given, octet for octet, and answers as a test says.

A test gives ``answer``, which is asked about every request with what the sink would say by itself, and returns a reply,
or :data:`DROP`, :class:`Say` (octets, then the end) or :class:`Hold` (stop here until the test goes on).
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import unstuff
from bsmtp_batch.wire.events import (
    Connect,
    Content,
    Data,
    EndOfData,
    Event,
    Helo,
    MailFrom,
    Quit,
    RcptTo,
    Reply,
    Request,
    Rset,
    StartTls,
    Violation,
)
from bsmtp_batch.wire.session import Protocol, Reading, Role, Session

OFFERS = b"PIPELINING\n8BITMIME\nSMTPUTF8\nSIZE\nDSN\nENHANCEDSTATUSCODES"
DROP = object()
"""Close the connection without another word."""


@dataclass
class Say:
    """Write these octets, whatever they are, and close the connection."""

    octets: bytes


@dataclass
class Hold:
    """Set ``reached``, wait for ``go_on``, then close the connection (the client has gone, or shall think so)."""

    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@dataclass
class Taken:
    """A message whose dot has arrived: its envelope (accepted recipients), its text as sent, and unstuffed."""

    mail: Mail
    rcpts: tuple[Rcpt, ...]
    wire: bytes
    connection: int

    @property
    def content(self) -> bytes:
        return unstuff(self.wire)

    @property
    def to(self) -> list[bytes]:
        return [rcpt.path for rcpt in self.rcpts]


@dataclass
class Asked:
    """What a test's ``answer`` is asked: the request, whose turn it is in LMTP, and how many came before."""

    request: Request
    rcpt: Rcpt | None
    usual: Reply
    connection: int
    messages: int
    """Messages whose dot had arrived before this request."""


Answer = Callable[[Asked], Any]


class Closing(Exception):
    """The conversation ends here."""


class Talk:
    """One conversation: octets in, octets out through ``write``; ``closed`` when it is over."""

    def __init__(self, sink: Sink, write: Callable[[bytes], object], number: int, *, secure: bool = False) -> None:
        self.sink = sink
        self.write = write
        self.number = number
        self.session = Session(Role.SERVER, sink.protocol, secure=secure)
        self.mail: Mail | None = None
        self.text: list[bytes] = []

    def begin(self) -> None:
        self.answer(Connect())

    def feed(self, data: bytes) -> None:
        events = self.session.receive(data)
        while events:
            for event in events:
                self.take(event)
            events = self.session.resume()
        if self.session.reading is Reading.ENDED:
            raise Closing

    def take(self, event: Event) -> None:
        if isinstance(event, Content):
            self.text.append(event.data)
        elif isinstance(event, Violation):
            self.sink.violations.append(event.reason)
            self.write(self.session.send(event.reply))
        elif isinstance(event, Request):
            if isinstance(event, MailFrom):
                self.mail, self.text = event.mail, []
            if isinstance(event, EndOfData) and self.session.recipients:
                assert self.mail is not None
                taken = Taken(self.mail, self.session.recipients, b"".join(self.text), self.number)
                self.sink.taken.append(taken)
            self.answer(event)

    def answer(self, request: Request) -> None:
        for rcpt in self.session.due:
            usual = self.usual(request)
            self.sink.requests.append(request)
            asked = Asked(request, rcpt, usual, self.number, len(self.sink.taken))
            said = self.sink.answer(asked) or usual
            if said is DROP:
                raise Closing
            if isinstance(said, Hold):
                said.reached.set()
                said.go_on.wait(30)
                raise Closing
            if isinstance(said, Say):
                self.write(said.octets)
                raise Closing
            self.write(self.session.send(said))
            if self.session.reading is Reading.ENDED:
                return

    def usual(self, request: Request) -> Reply:
        match request:
            case Connect():
                return Reply(220, b"", b"sink ready")
            case Helo(_, extended):
                return Reply(250, b"", b"sink\n" + self.sink.offers if extended and self.sink.offers else b"sink")
            case Data():
                return Reply(354, b"", b"go ahead")
            case EndOfData():
                return Reply(250, b"2.0.0", b"queued as %d" % len(self.sink.taken))
            case Quit():
                return Reply(221, b"2.0.0", b"bye")
            case StartTls():
                return Reply(220, b"2.0.0", b"ready")
        return Reply(250, b"2.0.0", b"ok")


class Sink:
    """The server; listens while the ``with`` block lasts, on a port of its own or on the Unix socket ``path``."""

    def __init__(
        self,
        answer: Answer = lambda asked: None,
        *,
        protocol: Protocol = Protocol.SMTP,
        offers: bytes = OFFERS,
        path: str | None = None,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.protocol = protocol
        self.offers = offers
        self.taken: list[Taken] = []
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.connections = 0
        self.handshakes = 0
        self._tls = tls
        self._implicit = implicit
        self._place = (host, port)
        self._path = path
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        if self._path:
            return f"lmtp://{self._path}"
        return f"{self.protocol.lower()}://{self._place[0]}:{self.port}"

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def count(self, kind: type[Request]) -> int:
        return sum(isinstance(request, kind) for request in self.requests)

    def __enter__(self) -> Self:
        if self._path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self._path)
            self._listener.listen()
        else:
            self._listener = socket.create_server(self._place)
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._converse, args=(connection, self.connections)))
            self._threads[-1].start()

    def _converse(self, connection: socket.socket, number: int) -> None:
        with ExitStack() as stack, suppress(Closing, OSError):
            stack.enter_context(connection)
            if self._implicit:
                connection = stack.enter_context(self._encrypted(connection))
            talk = Talk(self, connection.sendall, number, secure=self._implicit)
            talk.begin()
            while data := connection.recv(65536):
                talk.feed(data)
                if talk.session.reading is Reading.PAUSED:
                    connection = stack.enter_context(self._encrypted(connection))
                    talk.session.upgraded()
                    talk.write = connection.sendall

    def _encrypted(self, connection: socket.socket) -> ssl.SSLSocket:
        assert self._tls is not None
        encrypted = self._tls.wrap_socket(connection, server_side=True)
        self._open.append(encrypted)
        self.handshakes += 1
        return encrypted


__all__ = [
    "DROP",
    "Asked",
    "Connect",
    "Data",
    "EndOfData",
    "Helo",
    "Hold",
    "MailFrom",
    "RcptTo",
    "Rset",
    "Say",
    "Sink",
    "StartTls",
    "Taken",
    "Talk",
]
