"""Ask a provider's server to begin sending what waits for us: ETRN for each domain, then QUIT (RFC 1985).

The mail itself comes later and over connections of the server's own, to where it knows the domain to be; nothing that
is said here moves any, or could lose it. So a refusal is the server's business and no failure: it is told, and the next
domain is asked for. Only a line that did not come about, or broke, is worth another try.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bsmtp_batch.edge import tls
from bsmtp_batch.edge.sockets import SocketChannel, connect_tcp
from bsmtp_batch.errors import Later
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool.names import valid_route
from bsmtp_batch.wire.events import Closed, Etrn, Helo, LocalProblem, Quit, Reply, Request, StartTls, Verb, Violation
from bsmtp_batch.wire.session import Reading, Role, Session
from bsmtp_batch.wire.states import BLOCK_TIMEOUT

CONNECT_TIMEOUT = 30.0
"""Seconds to be connected, for each address of the server."""
FAREWELL = 5.0
"""Seconds a server has to answer QUIT; nothing depends on it."""

STARTED, EMPTY, REFUSED, UNKNOWN = "started", "empty", "refused", "unknown"
"""Outcomes of a domain: the server has begun to send, or says that it has; it has nothing; it does not do it; it does
not know ETRN."""

_MEANING = {
    250: (STARTED, "it begins to send what waits there"),
    251: (EMPTY, "nothing waits there"),
    252: (STARTED, "it begins to send what waits there"),
    253: (STARTED, "it begins to send what waits there"),
    458: (REFUSED, "it cannot begin now"),
    459: (REFUSED, "it does not do this for that name"),
    500: (UNKNOWN, "it does not know ETRN"),
    501: (REFUSED, "it cannot read that name"),
    502: (UNKNOWN, "it does not know ETRN"),
    530: (REFUSED, "it wants a login first, and this command has none"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one domain: ``outcome`` as above, the server's ``reply`` on one line ("": it was not asked), and
    ``told``, a sentence without its full stop."""

    domain: str
    outcome: str
    reply: str
    told: str

    @property
    def refused(self) -> bool:
        """Whether the server does nothing about the domain although something may wait."""
        return self.outcome in (REFUSED, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask: ``host`` is a name or an address without brackets; ``tls``: encrypt where it is offered.

    ``patience`` stretches or shortens the time-outs of RFC 5321.
    """

    host: str
    port: int = 25
    tls: bool = True
    patience: float = 1.0

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def request_for(domain: str) -> Etrn:
    """The request for ``domain``: a host's name, ``@name`` for it and all below it, or ``#queue``, whatever that is to
    the server (RFC 1985 section 5.3). Raises ``ValueError`` with a sentence."""
    option, name = (domain[:1], domain[1:]) if domain.startswith(("@", "#")) else ("", domain)
    if option == "#":
        if not re.fullmatch("[!-~]{1,255}", name):
            raise ValueError(f"{domain!r} is not #queue, a name of printable ASCII without blanks")
    elif not valid_route(name.replace("_", "x").lower().encode("utf-8", "replace")):
        raise ValueError(f"{domain!r} is not a domain as it stands in DNS (A-label), with or without @ before it")
    return Etrn(name.encode(), option.encode())


def ask(server: Server, domains: Sequence[str], *, node: str, ledger: Ledger | None = None) -> Iterator[Answer]:
    """Ask ``server`` about each of ``domains``, as ``node``; gives each answer as it comes, and then ends politely.

    With a ``ledger`` the contact is remembered, however it ends. Raises ``ValueError`` for what is no domain, before
    anything is said; :class:`~bsmtp_batch.errors.Later` when there was no connection, the server does not want us, or
    the line broke: what was answered before stands.
    """
    requests = [(domain, request_for(domain)) for domain in domains]
    started = time.time()
    result = "broken off"
    refused: list[str] = []
    try:
        for answer in _answers(server, requests, node):
            if answer.refused:
                refused.append(f"{answer.domain}: {answer.told}")
            yield answer
        result = "; ".join(refused) or "ok"
    except Later as later:
        result = later.what.removeprefix(f"dequeue {server}: ")  # the row says with whom
        raise
    finally:
        if ledger is not None:
            ledger.record_contact(str(server), "dequeue", started, time.time(), 0, 0, result)


def _answers(server: Server, requests: Sequence[tuple[str, Etrn]], node: str) -> Iterator[Answer]:
    conversation = _introduced(server, node)
    try:
        offered = conversation.offers(b"ETRN")
        unknown = ""
        for domain, request in requests:
            if unknown and not offered:  # it was asked once all the same: servers know commands that they do not name
                yield Answer(domain, UNKNOWN, "", f"not asked for, {unknown}")
                continue
            reply = conversation.ask(request)
            answer = _read(domain, reply)
            if answer.outcome == UNKNOWN:
                unknown = _MEANING[reply.code][1]
            yield answer
    finally:
        conversation.close()


def _read(domain: str, reply: Reply) -> Answer:
    usual = (STARTED, "it agrees") if reply.ok else (REFUSED, "it cannot now" if reply.temporary else "it will not")
    outcome, told = _MEANING.get(reply.code, usual)
    return Answer(domain, outcome, str(reply), f"{told} ({reply})")


def _introduced(server: Server, node: str) -> _Conversation:
    """A connection on which the server knows our name, encrypted if it lets us. Raises ``Later``.

    Nothing here is secret, so that nobody's certificate is looked at, and a server whose TLS does not work is spoken to
    in the clear.
    """
    conversation = _Conversation(server)
    try:
        conversation.greet(node)
        if not server.tls or not conversation.offers(b"STARTTLS"):
            return conversation
        if not conversation.ask(StartTls()).ok:
            return conversation
        if conversation.encrypt():
            conversation.greet(node)
            return conversation
    except BaseException:
        conversation.close()
        raise
    conversation.close()
    return _introduced(Server(server.host, server.port, tls=False, patience=server.patience), node)


class _Conversation:
    """A client's side of one connection, a request and its reply at a time. What breaks it is raised as ``Later``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._session = Session(Role.CLIENT)
        self._replies: deque[Reply] = deque()
        self._greeted = False
        try:
            self._channel: SocketChannel = connect_tcp(server.host, server.port, CONNECT_TIMEOUT * server.patience)
        except (OSError, UnicodeError) as error:  # a name that no resolver takes is a UnicodeError
            reason = getattr(error, "strerror", None) or str(error)
            raise self._later(f"no connection: {reason}") from error

    def greet(self, node: str) -> None:
        """Hear the greeting, unless that was before TLS, and say who we are."""
        if not self._greeted:
            greeting = self._reply()
            if not greeting.ok:
                raise self._later(f"it greets with {greeting}")
            self._greeted = True
        hello = self.ask(Helo(node.encode()))
        if hello.permanent:
            hello = self.ask(Helo(node.encode(), extended=False))
        if not hello.ok:
            raise self._later(f"it does not want to know us: {hello}")

    def offers(self, keyword: bytes) -> bool:
        """Whether the server named ``keyword`` in its reply to EHLO."""
        return keyword in self._session.extensions

    def ask(self, request: Request) -> Reply:
        """The reply to ``request``; a 421 is the end."""
        doing = self._session.doing
        try:
            data = self._session.send(request)
        except LocalProblem as problem:  # it closed behind its last reply
            raise self._later(f"the connection was closed while {doing}") from problem
        try:
            self._channel.send(data, BLOCK_TIMEOUT * self._server.patience)
        except OSError as error:
            raise self._later(f"the connection was lost while {self._session.doing}: {error}") from error
        return self._reply()

    def encrypt(self) -> bool:
        """After the 220 to STARTTLS: whether TLS came about. If not, the connection is of no more use."""
        try:
            seconds = self._session.timeout * self._server.patience
            self._channel.encrypt(tls.client_context(verify=False), self._server.host, seconds)
        except OSError:
            return False
        self._session.upgraded()
        return True

    def close(self) -> None:
        """Say QUIT where that is possible, and let go."""
        try:
            if self._session.reading is Reading.NEED_MORE and self._session.allows(Verb.QUIT):
                self._channel.send(self._session.send(Quit()), FAREWELL)
                self._channel.receive(FAREWELL)
        except OSError:
            pass
        finally:
            self._channel.close()

    def _reply(self) -> Reply:
        until = time.monotonic() + self._session.timeout * self._server.patience
        while not self._replies:
            self._hear(until)
        reply = self._replies.popleft()
        if reply.code == 421:
            raise self._later(f"it ends the session: {reply}")
        return reply

    def _hear(self, until: float) -> None:
        """Read once."""
        doing = self._session.doing
        try:
            left = until - time.monotonic()
            if left <= 0:  # asked here too: a server that drips octets would never run out of time
                raise TimeoutError
            data = self._channel.receive(left)
        except TimeoutError as error:
            raise self._later(f"no answer within the time allowed while {doing}") from error
        except OSError as error:
            raise self._later(f"the connection was lost while {doing}: {error}") from error
        for event in self._session.receive(data):
            match event:
                case Reply():
                    self._replies.append(event)
                case Violation():
                    raise self._later(f"{event.reason} while {doing}")
                case Closed() if not self._replies:
                    raise self._later(f"the connection was closed while {doing}")

    def _later(self, what: str) -> Later:
        return Later(
            f"dequeue {self._server}: {what}",
            safe="What waits there keeps waiting",
            next="run the same command again later",
        )
