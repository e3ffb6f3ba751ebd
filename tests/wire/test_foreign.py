"""A client by somebody else understands our server: the standard library's, over a pair of sockets."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bsmtp_batch.wire.dots import unstuff
from bsmtp_batch.wire.events import (
    Auth,
    AuthResponse,
    Closed,
    Content,
    Data,
    EndOfData,
    Event,
    Helo,
    Quit,
    RcptTo,
    Reply,
    Violation,
)
from bsmtp_batch.wire.session import Protocol, Reading, Role, Session

CONTENT = "Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\nMAIL FROM:<x@y>\r\n"


class Site(threading.Thread):
    """A server for one connection that keeps all it was told."""

    def __init__(self, sock: socket.socket, protocol: Protocol) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.session = Session(Role.SERVER, protocol)
        self.seen: list[Event] = []

    def run(self) -> None:
        with self.sock:
            self.sock.sendall(self.session.send(Reply(220, b"", b"site.example")))
            while self.session.reading is not Reading.ENDED:
                out = b""
                events = self.session.receive(self.sock.recv(64))
                while events:
                    out += b"".join([self.answer(event) for event in events])
                    events = self.session.resume()
                if out:
                    self.sock.sendall(out)

    def answer(self, event: Event) -> bytes:
        self.seen.append(event)
        send = self.session.send
        match event:
            case Content() | Closed():
                return b""
            case Helo():
                return send(Reply(250, b"", b"site.example\nPIPELINING\n8BITMIME\nSIZE 100000\nAUTH LOGIN PLAIN"))
            case RcptTo(rcpt) if rcpt.path.startswith(b"nobody"):
                return send(Reply(550, b"5.1.1", b"no such user"))
            case Data():
                return send(Reply(354, b"", b"go ahead"))
            case Auth(b"LOGIN", _):
                return send(Reply(334, b"", b"UGFzc3dvcmQ6"))
            case Auth() | AuthResponse():
                return send(Reply(235, b"2.7.0", b"welcome"))
            case Quit():
                return send(Reply(221, b"2.0.0", b"bye"))
            case EndOfData():
                return b"".join([send(Reply(250, b"2.0.0", b"stored")) for _ in self.session.due])
            case Violation(reply):
                return send(reply)
            case _:
                return send(Reply(250, b"2.0.0", b"ok"))

    def content(self) -> bytes:
        return unstuff(b"".join([event.data for event in self.seen if isinstance(event, Content)]))


@contextmanager
def site(kind: type[smtplib.SMTP], protocol: Protocol) -> Iterator[tuple[Any, Site]]:
    ours, theirs = socket.socketpair()

    class Wired(kind):  # type: ignore[misc, valid-type]
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            return theirs

        def connect(self, host: str = "site", port: int = 25, source_address: Any = None) -> Any:
            return smtplib.SMTP.connect(self, host, port)

    server = Site(ours, protocol)
    server.start()
    with Wired("site", 25, local_hostname="client.example", timeout=20) as client:
        yield client, server
    server.join(20)
    assert not server.is_alive()
    assert server.seen[-1] == Quit()


def test_smtplib_delivers_a_message_with_dots_to_those_who_are_accepted() -> None:
    with site(smtplib.SMTP, Protocol.SMTP) as (client, server):
        refused = client.sendmail("a@example.org", ["b@example.net", "nobody@example.net"], CONTENT)
    assert refused == {"nobody@example.net": (550, b"5.1.1 no such user")}
    assert server.content() == CONTENT.encode()


def test_smtplib_as_lmtp_client_says_lhlo_and_delivers() -> None:
    with site(smtplib.LMTP, Protocol.LMTP) as (client, server):
        assert client.sendmail("a@example.org", ["b@example.net"], CONTENT * 50) == {}
    assert server.seen[0] == Helo(b"client.example")
    assert server.content() == CONTENT.encode() * 50


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_smtplib_logs_in(mechanism: str) -> None:
    with site(smtplib.SMTP, Protocol.SMTP) as (client, server):
        client.ehlo()
        client.user, client.password = "user", "secret"
        assert client.auth(mechanism[5:].upper(), getattr(client, mechanism))[0] == 235
    assert server.session.authenticated


def test_smtplib_gets_an_answer_to_whatever_it_sends() -> None:
    with site(smtplib.SMTP, Protocol.SMTP) as (client, _):
        assert client.docmd("MAIL FROM:<a@b>")[0] == 503
        client.ehlo()
        assert client.docmd("DATA")[0] == 503
        assert client.docmd("X" * 20_000)[0] == 500
        assert client.docmd("MAIL FROM:<a@b")[0] == 501
        assert client.verify("root")[0] == 250
        assert client.rset()[0] == 250
        assert client.noop()[0] == 250
