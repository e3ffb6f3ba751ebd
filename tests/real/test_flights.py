"""The dot of a message and the envelope of the next in one flight, to servers that people run: one round trip for each
message, and every refusal with the recipient that it is about."""

from __future__ import annotations

import time
from collections import Counter
from typing import Protocol

import pytest
from support.box import Box
from support.corpus import DOMAIN
from support.exim import PORT as EXIM
from support.exim import Exim
from support.lockstep import Letter
from support.postfix import Hub, Recorder
from support.sendmail import PORT as SENDMAIL
from support.sendmail import Sendmail

from bsmtp_batch.edge.sockets import SocketChannel
from bsmtp_batch.replay.contract import Kind
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.wire import session

pytestmark = pytest.mark.real
COUNT = 60
GOOD, LATER, NEVER = Kind.DELIVERED, Kind.DEFERRED, Kind.REJECTED
TEXT = (
    b"Date: Sun, 22 Nov 2026 05:33:00 +0000\r\nFrom: asker@hub.example\r\nTo: users:;\r\n"
    b"Message-ID: <%d@hub.example>\r\n\r\n.\r\n..dots\r\n%s\r\n"
)


class Server(Protocol):
    box: Box
    recorder: Recorder


class Counted(SocketChannel):
    """A channel that counts how often something was said and then waited for."""

    flights = 0
    _said = False

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        self._said = True
        super().send(data, seconds)

    def receive(self, seconds: float) -> bytes:
        self.flights += self._said
        self._said = False
        return super().receive(seconds)


class Boxed:
    """The server at ``port`` in ``box`` as a target."""

    name = "boxed"

    def __init__(self, box: Box, port: int) -> None:
        self.channels: list[Counted] = []
        self._reach = lambda: Counted(box.connect(port))

    def connect(self) -> SmtpConnection:
        self.channels.append(self._reach())
        connection = SmtpConnection(self.channels[-1], session.Protocol.SMTP)
        connection.greet("hub.example")
        return connection


def letter(number: int, log: list[tuple[str, int]], *to: str) -> Letter:
    content = TEXT % (number, b"line\r\n" * (number * 30))
    return Letter(number, log, tuple(rcpt.encode() for rcpt in to), sender=b"a%d@hub.example" % number, content=content)


def sent(server: Server, port: int, letters: list[Letter], expected: int) -> Counter[bytes]:
    """Hand ``letters`` in over one connection; the ends of the texts that arrive."""
    known = len(server.recorder.all())
    target = Boxed(server.box, port)
    with Engine(target) as engine:
        assert engine.run(letters) == []
    assert len(target.channels) == 1
    assert target.channels[0].flights <= len(letters) + 4
    end = time.monotonic() + 45
    while len(got := server.recorder.all()[known:]) < expected:
        assert time.monotonic() < end, f"{len(got)} of {expected} came"
        time.sleep(0.05)
    return Counter(one.content[one.content.index(b"Date: Sun, 22 Nov") :] for one in got)


def content(one: Letter) -> bytes:
    return b"".join(one.job.content())


@pytest.mark.xdist_group("postfix")
def test_postfix_takes_one_flight_for_a_message_and_each_refusal_is_where_it_belongs(hub: Hub) -> None:
    log: list[tuple[str, int]] = []
    letters, wanted = [], []
    for number in range(1, COUNT + 1):
        to = [f"ahead.u{number}@{DOMAIN}", f"ahead.v{number}@{DOMAIN}"]
        kinds = [GOOD, GOOD]
        if number % 5 == 0:
            to, kinds = [f"nobody.{number}@{DOMAIN}", f"later.{number}@{DOMAIN}"], [NEVER, LATER]
        elif number % 3 == 0:
            to[number % 2], kinds[number % 2] = f"nobody.{number}@{DOMAIN}", NEVER
        letters.append(letter(number, log, *to))
        wanted.append(kinds)
    taken = [one for one, kinds in zip(letters, wanted, strict=True) if GOOD in kinds]

    got = sent(hub, hub.customer.port, letters, len(taken))
    assert [one.kinds for one in letters] == wanted
    assert got == Counter(map(content, taken))


@pytest.mark.xdist_group("sendmail")
def test_sendmail_takes_one_flight_for_a_message(sendmail: Sendmail) -> None:
    letters = [letter(n, [], f"ahead.u{n}@world.example") for n in range(1, COUNT + 1)]
    assert sent(sendmail, SENDMAIL, letters, COUNT) == Counter(map(content, letters))
    assert {kind for one in letters for kind in one.kinds} == {GOOD}


@pytest.mark.xdist_group("exim")
def test_exim_takes_one_flight_for_a_message(exim: Exim) -> None:
    letters = [letter(n, [], f"ahead.u{n}@world.example") for n in range(1, COUNT + 1)]
    assert sent(exim, EXIM, letters, COUNT) == Counter(map(content, letters))
    assert {kind for one in letters for kind in one.kinds} == {GOOD}
