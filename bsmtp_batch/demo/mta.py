"""A mail server small enough for the demonstration: SMTP on loopback in, Maildir and a pipe out.

It stands where Postfix or Sendmail stands in real life, and behaves like one towards both stages it meets: it answers
the importer's SMTP, and what is not for its own users it passes on, which here means to ``bsmtp-batch-deliver``, one
process per message. What it lacks is durability: it says 250 for what the kernel has and the disk perhaps has not.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import bsmtp_batch.deliver
from bsmtp_batch.wire.command import Mail
from bsmtp_batch.wire.dots import Unstuffer
from bsmtp_batch.wire.events import (
    Closed,
    Content,
    Data,
    EndOfData,
    Event,
    Helo,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
    Rset,
    Violation,
)
from bsmtp_batch.wire.session import Role, Session

OFFERS = b"PIPELINING\n8BITMIME\nSMTPUTF8\nSIZE\nENHANCEDSTATUSCODES"

STUB = os.path.join(os.path.dirname(bsmtp_batch.deliver.__file__), "stub.py")
"""The program that mail servers call, as it lies in the package."""

Relay = Callable[[bytes, tuple[bytes, ...], bytes], bool]
"""Takes sender, recipients and content (LF); whether it has taken responsibility."""


@dataclass(frozen=True)
class Taken:
    """One message the server said 250 to: its envelope, and the sha256 (hex) of its content with LF line ends."""

    sender: bytes
    rcpts: tuple[bytes, ...]
    sha256: str


def hand_in(spool: str, queue_id: str, sender: bytes, rcpts: tuple[bytes, ...], content: bytes, *, route: str) -> str:
    """Give one message to ``bsmtp-batch-deliver`` as a mail server does; why it was not taken, ``""`` when it was."""
    words: list[str | bytes] = [
        "-I",
        "-S",
        STUB,
        "--spool",
        spool,
        "--queue-id",
        queue_id,
        "-f",
        sender,
        "--",
        route,
        *rcpts,
    ]
    done = subprocess.run([sys.executable, *words], input=content, stdout=subprocess.PIPE, check=False)
    return f"exit code {done.returncode}: {done.stdout.decode('ascii', 'replace').strip()}" if done.returncode else ""


class MailServer:
    """A mail server called ``name`` that knows ``users`` (addresses) and stores below ``directory``, a Maildir each.

    ``busy`` addresses get a 451 the first time. Other people's addresses are given to ``relay``, if there is one. A
    context manager: listens inside, and has ended every conversation afterwards.
    """

    def __init__(
        self,
        name: str,
        directory: str,
        users: set[bytes],
        *,
        busy: set[bytes] | None = None,
        relay: Relay | None = None,
    ) -> None:
        self.name = name.encode("ascii")
        self.directory = directory
        self.taken: list[Taken] = []
        self.refused: list[bytes] = []
        """Recipients that were told 451 or 550, in order."""
        self._users = users
        self._busy = set(busy or ())
        self._relay = relay
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The target for ``import --to``."""
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> MailServer:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(); close() alone would not
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def mailbox(self, address: bytes) -> str:
        """The Maildir of a user."""
        local = address.rpartition(b"@")[0].decode("utf-8").replace("/", "%2F")
        return os.path.join(self.directory, local)

    def answer(self, address: bytes) -> Reply:
        """What to say to RCPT TO."""
        with self._lock:
            if address in self._busy:
                self._busy.discard(address)
                self.refused.append(address)
                return Reply(451, b"4.2.1", b"come back later")
            if address in self._users or (self._relay and not self._is_ours(address)):
                return Reply(250, b"2.1.5", b"ok")
            self.refused.append(address)
            return Reply(550, b"5.1.1", b"no such user here")

    def store(self, sender: bytes, rcpts: tuple[bytes, ...], content: bytes) -> Reply:
        """Keep one message: a Maildir file for each user, one hand-in for all the others together."""
        away = tuple(r for r in rcpts if r not in self._users)
        if away and not (self._relay and self._relay(sender, away, content)):
            return Reply(451, b"4.3.0", b"cannot pass it on now")
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            self.taken.append(Taken(sender, rcpts, digest))
            number = len(self.taken)
        for rcpt in rcpts:
            if rcpt in self._users:
                _into_maildir(self.mailbox(rcpt), f"{number}.{digest[:16]}", content)
        return Reply(250, b"2.0.0", b"stored")

    def _is_ours(self, address: bytes) -> bool:
        return address.endswith(b"@" + self.name)

    def _start(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(_converse, self, connection)


def _converse(server: MailServer, connection: socket.socket) -> None:
    """One connection from greeting to end; a client that vanishes ends it too."""
    with connection, suppress(ConnectionError):
        conversation = _Conversation(server)
        connection.settimeout(30)
        connection.sendall(conversation.greeting())
        while conversation.open:
            connection.sendall(conversation.hear(connection.recv(65536)))


class _Conversation:
    """The server's side of one connection."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._session = Session(Role.SERVER)
        self._mail = Mail(b"")
        self._unstuffer = Unstuffer()
        self._pieces: list[bytes] = []
        self.open = True

    def greeting(self) -> bytes:
        return self._session.send(Reply(220, b"", self._server.name + b" ESMTP demonstration"))

    def hear(self, data: bytes) -> bytes:
        """What to write after ``data`` came in."""
        out = b""
        events = self._session.receive(data)
        while events:
            for event in events:
                reply = self._act(event)
                if reply is not None:
                    out += self._session.send(reply)
            events = self._session.resume()
        return out

    def _act(self, event: Event) -> Reply | None:
        match event:
            case Content(data):
                self._pieces.append(self._unstuffer.feed(data))
                return None
            case Closed():
                self.open = False
                return None
            case Violation(reply, _, fatal):
                self.open = not fatal
                return reply
            case EndOfData():
                return self._end()
            case Quit():
                self.open = False
                return Reply(221, b"2.0.0", b"bye")
            case _:
                return self._reply(event)

    def _reply(self, event: Event) -> Reply:
        match event:
            case Helo(_, extended):
                return Reply(250, b"", self._server.name + (b"\n" + OFFERS if extended else b""))
            case MailFrom(mail):
                self._mail = mail
                return Reply(250, b"2.1.0", b"ok")
            case RcptTo(rcpt):
                return self._server.answer(rcpt.path)
            case Data() if self._session.recipients:
                self._unstuffer, self._pieces = Unstuffer(), []
                return Reply(354, b"", b"go ahead")
            case Data():
                return Reply(554, b"5.5.1", b"no valid recipients")
            case Rset() | Noop():
                return Reply(250, b"2.0.0", b"ok")
            case _:
                return Reply(502, b"5.5.1", b"not offered here")

    def _end(self) -> Reply:
        content = b"".join([*self._pieces, self._unstuffer.close()]).replace(b"\r\n", b"\n")
        rcpts = tuple(rcpt.path for rcpt in self._session.recipients)
        return self._server.store(self._mail.path, rcpts, content)


def _into_maildir(mailbox: str, name: str, content: bytes) -> None:
    for part in ("tmp", "new", "cur"):
        os.makedirs(os.path.join(mailbox, part), exist_ok=True)
    passing = os.path.join(mailbox, "tmp", name)
    with open(passing, "wb") as file:
        file.write(content)
    os.rename(passing, os.path.join(mailbox, "new", name))
