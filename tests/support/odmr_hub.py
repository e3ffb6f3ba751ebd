"""A scripted ODMR provider in a thread, made of raw lines: says what a test wants, and remembers what it heard."""

from __future__ import annotations

import base64
import queue
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from support.importing import Letter

from bsmtp_batch.wire.dots import stuff

HEAR = object()
"""Put there: the hub reads what the customer says unasked."""
END = object()
"""Put behind the letters of a line that stays: the hub says QUIT."""


class Gone(Exception):
    """The customer closed."""


@dataclass
class Plan:
    """What the hub does; ``letters`` are those that wait, taken out when the customer has said 250 to the dot."""

    greeting: bytes = b"220 hub.example ESMTP"
    offers: tuple[bytes, ...] = (b"PIPELINING", b"ATRN", b"AUTH CRAM-MD5 PLAIN")
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    starttls: bytes = b"220 begin"
    auth: bytes = b"235 2.7.0 in"
    atrn: bytes = b"250 2.0.0 you are the server now"
    hurried: bool = False
    """Say EHLO in one packet with the 250, without a look at the greeting."""
    rude: bool = False
    """Close instead of QUIT."""
    letters: list[Letter] = field(default_factory=list)
    more: queue.Queue[object] | None = None
    """Letters to come on a line that stays; None: QUIT behind the last of :attr:`letters`."""
    then: Callable[[Wire], None] | None = None
    """What happens after the turn in place of mail."""

    alone: Callable[[Wire], None] | None = None
    """Everything that is said on the connection, in place of all the above."""

    asked: list[bytes] = field(default_factory=list)
    responses: list[bytes] = field(default_factory=list)
    certificates: list[bytes | None] = field(default_factory=list)
    up: list[tuple[bytes, ...]] = field(default_factory=list)
    """Mail that was handed in: MAIL, each RCPT, the content as it came."""
    verdicts: list[bytes] = field(default_factory=list)
    """What the customer said to each dot."""
    rcpts: list[bytes] = field(default_factory=list)
    offered: bytes = b""
    last: bytes = b""
    """The reply to the last sign of life, or what was said unasked."""
    greeted: bytes = b""


class Wire:
    """One connection, line by line."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(20)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self.file = connected.makefile("rb")

    def say(self, *lines: bytes) -> None:
        self.socket.sendall(b"".join(line + b"\r\n" for line in lines))

    def line(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise Gone
        return line.rstrip(b"\r\n")

    def reply(self) -> bytes:
        found = []
        while True:
            found.append(self.line())
            if found[-1][3:4] != b"-":
                return b"\n".join(found)

    def ask(self, line: bytes) -> bytes:
        self.say(line)
        return self.reply()

    def content(self) -> bytes:
        found = b""
        while (line := self.file.readline()) != b".\r\n":
            if not line:
                raise Gone
            found += line
        return found

    def encrypt(self, context: ssl.SSLContext) -> bytes | None:
        self.file.close()
        self.socket = wrapped = context.wrap_socket(self.socket, server_side=True)
        self.file = self.socket.makefile("rb")
        return wrapped.getpeercert(binary_form=True)

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.file.close()
        self.socket.close()


class Hub:
    """Listens while the ``with`` block lasts; each connection follows the next of ``plans``, and the last for ever."""

    def __init__(self, *plans: Plan) -> None:
        self.plans = plans or (Plan(),)
        self.connections = 0
        self.open: list[Wire] = []
        self.threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def __enter__(self) -> Self:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.acceptor = threading.Thread(target=self._accept)
        self.acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        self.drop()
        for plan in self.plans:
            if plan.more is not None:
                plan.more.put(END)
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()

    def drop(self) -> None:
        """Cut every line there is."""
        for wire in self.open:
            with suppress(OSError):
                wire.socket.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connected = self.listener.accept()[0]
            except OSError:
                return
            plan = self.plans[min(self.connections, len(self.plans) - 1)]
            self.connections += 1
            wire = Wire(connected)
            self.open.append(wire)
            self.threads.append(threading.Thread(target=self._serve, args=(wire, plan)))
            self.threads[-1].start()

    @staticmethod
    def _serve(wire: Wire, plan: Plan) -> None:
        with suppress(Gone, OSError, ValueError):
            if plan.alone is not None:
                plan.alone(wire)
            elif enter(wire, plan):
                (plan.then or (lambda w: hand_over(w, plan)))(wire)
        wire.close()


def enter(wire: Wire, plan: Plan) -> bool:
    """Everything before the turn; whether it comes to it."""
    if plan.implicit:
        assert plan.tls is not None
        plan.certificates.append(wire.encrypt(plan.tls))
    wire.say(plan.greeting)
    encrypted = plan.implicit
    envelope: list[bytes] = []
    while True:
        line = wire.line()
        plan.asked.append(line)
        verb = line.split(b" ")[0].upper()
        if verb == b"EHLO":
            offers = [*plan.offers, *([b"STARTTLS"] if plan.tls and not encrypted else [])]
            wire.say(*(b"250-" + one for one in (b"hub.example", *offers)), b"250 8BITMIME")
        elif verb == b"STARTTLS":
            wire.socket.sendall(plan.starttls + b"\r\n")
            if not plan.starttls.startswith(b"220") or plan.tls is None:
                continue
            plan.certificates.append(wire.encrypt(plan.tls))
            encrypted = True
        elif verb == b"AUTH":
            words = line.split(b" ")
            if len(words) < 3:
                plan.responses.append(wire.ask(b"334 " + base64.b64encode(b"<1@hub.example>")))
            wire.say(plan.auth)
        elif verb in (b"MAIL", b"RCPT"):
            envelope = [line] if verb == b"MAIL" else [*envelope, line]
            wire.say(b"250 2.0.0 ok")
        elif verb == b"DATA":
            wire.say(b"354 go on")
            plan.up.append((*envelope, wire.content()))
            wire.say(b"250 2.0.0 queued")
        elif verb == b"ATRN":
            turned = plan.atrn.startswith(b"2")
            wire.say(plan.atrn, *([b"EHLO hub.example"] if plan.hurried else []))
            if turned:
                return True
        elif verb == b"QUIT":
            wire.say(b"221 bye")
            return False
        else:
            wire.say(b"250 2.0.0 ok")


def hand_over(wire: Wire, plan: Plan) -> None:
    """After the turn: everything that waits, and on a line that stays what comes; then QUIT."""
    plan.greeted = wire.reply()
    plan.offered = wire.reply() if plan.hurried else wire.ask(b"EHLO hub.example")
    for letter in list(plan.letters):
        send(wire, plan, letter)
    while plan.more is not None:
        letter = plan.more.get()
        if letter is END:
            break
        if letter is None or letter is HEAR:
            plan.last = wire.ask(b"NOOP") if letter is None else wire.reply()
            continue
        assert isinstance(letter, Letter)
        plan.letters.append(letter)
        send(wire, plan, letter)
    if not plan.rude:
        wire.ask(b"QUIT")


def send(wire: Wire, plan: Plan, letter: Letter) -> None:
    """One message; it is let go of when the customer says 250."""
    wire.ask(b"MAIL FROM:<%s>" % letter.sender)
    said = [wire.ask(b"RCPT TO:<%s>" % rcpt) for rcpt in letter.to]
    plan.rcpts += said
    if not any(one.startswith(b"250") for one in said):
        wire.ask(b"RSET")
        return
    verdict = wire.ask(b"DATA")
    if verdict.startswith(b"354"):
        verdict = wire.ask(stuff(letter.content) + b".")  # at once: how many reads it takes is not left to chance
    plan.verdicts.append(verdict)
    if re.match(rb"250", verdict):
        plan.letters.remove(letter)
