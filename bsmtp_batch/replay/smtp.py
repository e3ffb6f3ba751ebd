"""A client's side of SMTP and LMTP on a channel: greeting, one transaction after the other, and what each reply means.

The wire core decides what may be said; here it is written, waited for, and turned into verdicts. Commands of one
transaction go out as a group where PIPELINING is offered (RFC 2920); every reply is looked at.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from bsmtp_batch.edge.sockets import Channel
from bsmtp_batch.edge.tls import words
from bsmtp_batch.replay.contract import Job, Kind, Result, Unreachable, Verdict
from bsmtp_batch.replay.parameters import Unfit, fitted
from bsmtp_batch.replay.replies import judge
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import (
    Auth,
    AuthResponse,
    Closed,
    Data,
    EndOfData,
    Event,
    Helo,
    LocalProblem,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
    Request,
    Rset,
    StartTls,
    Verb,
    Violation,
)
from bsmtp_batch.wire.sasl.client import ClientLogin
from bsmtp_batch.wire.session import Protocol, Reading, Role, Session
from bsmtp_batch.wire.states import BLOCK_TIMEOUT

GROUP_OCTETS = 16384
GROUP_REQUESTS = 100
"""One pipelined group at most: it fits into the buffers of a pipe, so that neither side waits for the other to read."""

FAREWELL = 5.0
"""Seconds a server has to answer QUIT; nothing depends on it."""


LAST_WORDS = 1.0
"""Seconds to look for the reason after a server stopped taking what we write; it has said it already, or never will."""


class Ended(Exception):
    """The session cannot go on; holds a sentence. ``reply`` is what the server said about it, if it did."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


class Declined(Unreachable):
    """The server does not do what it was asked for, STARTTLS or the login; it may still be spoken to.

    ``permanent``: it said that it never will.
    """

    def __init__(self, sentence: str, *, permanent: bool) -> None:
        super().__init__(sentence)
        self.permanent = permanent


class SmtpConnection:
    """See :class:`~bsmtp_batch.replay.contract.Connection`.

    ``channel`` is owned. ``session`` is one that has been going on already, turned round to make us its client; without
    it a new one begins, encrypted from the start where ``secure``. ``patience`` stretches or shortens the time-outs of
    RFC 5321. ``complaint`` gives what the far side said beside the protocol (a child's standard error); ``part`` waits
    for it to finish after QUIT.
    """

    def __init__(
        self,
        channel: Channel,
        protocol: Protocol,
        *,
        session: Session | None = None,
        secure: bool = False,
        patience: float = 1.0,
        complaint: Callable[[], str] = lambda: "",
        part: Callable[[], object] = lambda: None,
    ) -> None:
        self._channel = channel
        self._session = session or Session(Role.CLIENT, protocol, secure=secure)
        self._patience = patience
        self._complaint = complaint
        self._part = part
        self._waiting: deque[Reply] = deque()
        self._failure = ""
        self._leave = False
        if session is not None:
            self._take(session.resume(), session.doing)  # the greeting may have come right behind the turn

    def greet(self, node: str) -> None:
        """Wait for the greeting and introduce ourselves as ``node``. Raises :class:`Unreachable`."""
        try:
            greeting = self._reply()
            if not greeting.ok:
                raise Unreachable(f"it greets with {greeting}")
            self._introduce(node)
        except Ended as ended:
            raise Unreachable(str(ended)) from ended

    @property
    def extensions(self) -> Mapping[bytes, tuple[bytes, ...]]:
        """What the server offers, each keyword with its parameters; empty after HELO."""
        return self._session.extensions

    def encrypt(self, begin: Callable[[], None], node: str) -> None:
        """Ask for TLS, let ``begin`` do the handshake on the channel (it raises ``OSError``), say hello again.

        Raises :class:`Declined` when the server says no, and goes on in the clear, and :class:`Unreachable`.
        """
        try:
            reply = self._ask(StartTls())
            if not reply.ok:
                raise Declined(f"it does not begin TLS: {reply}", permanent=reply.permanent)
            if self._failure or self._session.reading is not Reading.PAUSED:
                raise Ended(self._failure or "the connection was closed instead of beginning TLS")
            begin()
            self._session.upgraded()
            self._introduce(node)
        except Ended as ended:
            raise Unreachable(str(ended)) from ended
        except OSError as error:
            self._failure = words(error)
            raise Unreachable(self._failure) from error

    def log_in(self, login: ClientLogin) -> None:
        """Say who we are. Raises :class:`Declined` when the server does not believe it, and :class:`Unreachable`."""
        request: Auth | AuthResponse | None = login.start()
        try:
            while request is not None:
                request = login.answer(self._ask(request))
        except Ended as ended:
            raise Unreachable(str(ended)) from ended
        if login.result is not None:
            raise Declined(f"it does not let us log in: {login.result.reason}", permanent=not login.result.later)

    def ask(self, request: Request) -> Reply:
        """The reply to ``request``, between messages. Raises :class:`Unreachable`, after which nothing can be asked."""
        try:
            return self._ask(request)
        except Ended as ended:
            self._failure = str(ended)
            raise Unreachable(str(ended)) from ended

    def still_there(self) -> bool:
        """Whether the server answers; asking keeps an idle connection from being closed. Between messages only."""
        try:
            return self._ask(Noop()).ok
        except Ended as ended:
            self._failure = str(ended)
            return False

    def carry(self, job: Job, before_dot: Callable[[], None]) -> Result:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        try:
            mail, rcpts = fitted(job, self._session.extensions)
        except Unfit as unfit:
            return Result((Verdict(Kind.REJECTED, str(unfit)),) * len(job.rcpts))
        try:
            verdicts = self._envelope(mail, rcpts)
            if self._session.content_due and self._session.recipients:
                held = self._text(job)
            elif self._session.content_due:
                self._ask(EndOfData())  # a lone dot ends a 354 that came although nobody was accepted (RFC 2920)
                return _complete(verdicts)
            elif None in verdicts:
                raise self._ended_early()
            else:
                return _complete(verdicts)
        except Ended as ended:
            self._failure = str(ended)
            return Result((_broken_off(ended),) * len(job.rcpts), ended=str(ended), leave=self._leave)
        before_dot()
        self._finish(held, verdicts)
        return _complete(verdicts, ended=self._failure, leave=self._leave)

    def close(self) -> None:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        try:
            if not self._failure and not self._session.unanswered and self._session.allows(Verb.QUIT):
                self._channel.send(self._session.send(Quit()), FAREWELL)
                self._channel.receive(FAREWELL)
                self._part()
        except OSError:
            pass
        finally:
            self._channel.close()

    def _introduce(self, node: str) -> None:
        """Raises :class:`Unreachable` and :class:`Ended`."""
        hello = self._ask(Helo(node.encode()))
        if hello.permanent and self._session.protocol is Protocol.SMTP:
            hello = self._ask(Helo(node.encode(), extended=False))
        if not hello.ok:
            raise Unreachable(f"it does not want to know us: {hello}")

    # -- a transaction -------------------------------------------------------------------------------------------

    def _envelope(self, mail: Mail, rcpts: tuple[Rcpt, ...]) -> list[Verdict | None]:
        """Say MAIL, RCPT and, where anybody may be accepted, DATA; the verdicts so far (None: accepted, undecided)."""
        if not self._session.allows(Verb.MAIL):
            self._ask(Rset())  # the transaction before was given up
        started, *answers = self._asked([MailFrom(mail), *map(RcptTo, rcpts), Data()])
        if not started.ok:
            return [judge(started, Verb.MAIL)] * len(rcpts)
        verdicts = [None if reply.ok else judge(reply, Verb.RCPT) for reply in answers[: len(rcpts)]]
        for reply in answers[len(rcpts) :]:
            if not reply.go_on:
                verdicts = [verdict or judge(reply, Verb.DATA) for verdict in verdicts]
        return verdicts

    def _ended_early(self) -> Ended:
        """The server closed the session, or refused, right behind its 354."""
        reply = self._waiting.popleft() if self._waiting else None
        return Ended(str(reply) if reply else f"the connection was closed while {self._session.doing}", reply)

    def _text(self, job: Job) -> bytes:
        """Send the text but for its last piece, which waits for the dot, so that a small message is one packet."""
        held = b""
        for piece in job.wire():
            if held:
                self._send(held)
            held = piece
        return held

    def _finish(self, held: bytes, verdicts: list[Verdict | None]) -> None:
        """Send the dot, and put into ``verdicts`` what becomes of the accepted recipients."""
        accepted = [index for index, verdict in enumerate(verdicts) if verdict is None]
        try:
            self._send(held + self._said(EndOfData()))
            for due in range(len(self._session.due), 0, -1):
                verdict = judge(self._reply(final=True), Verb.END)
                answered = accepted[:1] if due > 1 else accepted[:]  # one reply for each in LMTP, for all in SMTP
                for index in answered:
                    verdicts[index] = verdict
                del accepted[: len(answered)]
        except Ended as ended:
            self._failure = str(ended)
            for index in accepted:
                verdicts[index] = _broken_off(ended, kind=Kind.DOUBTFUL)

    # -- saying and hearing --------------------------------------------------------------------------------------

    def _asked(self, requests: list[Request]) -> list[Reply]:
        """The replies to ``requests``, in groups or one by one; what makes no sense after a refusal is not said."""
        alone = b"PIPELINING" not in self._session.extensions
        replies: list[Reply] = []
        for group in _grouped(requests, 1 if alone else GROUP_REQUESTS):
            if not self._session.allows(group[0].verb):
                break
            self._send(b"".join(map(self._said, group)))
            replies += [self._reply() for _ in group]
        return replies

    def _ask(self, request: Request) -> Reply:
        self._send(self._said(request))
        return self._reply()

    def _said(self, request: Request) -> bytes:
        try:
            return self._session.send(request)
        except LocalProblem as problem:
            raise Ended(f"this cannot be said to the server: {problem.reason}") from problem

    def _send(self, data: bytes) -> None:
        try:
            self._channel.send(data, BLOCK_TIMEOUT * self._patience)
        except OSError as error:
            doing = self._session.doing
            reply = self._last_words()
            raise Ended(str(reply) if reply else f"the connection was lost while {doing}: {error}", reply) from error

    def _reply(self, *, final: bool = False) -> Reply:
        """The next reply. Raises :class:`Ended`, also for a 421, which is an answer only where it is ``final``."""
        until = time.monotonic() + self._session.timeout * self._patience
        while not self._waiting:
            self._hear(until)
        reply = self._waiting.popleft()
        if reply.code == 421:
            self._leave = True
            self._failure = str(reply)
            if not final:
                raise Ended(str(reply), reply)
        return reply

    def _hear(self, until: float) -> None:
        """Read once. Raises :class:`Ended` when nothing more can come, or not in time."""
        doing = self._session.doing
        if self._failure or self._session.reading is not Reading.NEED_MORE:
            raise Ended(self._failure or f"the connection was closed while {doing}")
        try:
            left = until - time.monotonic()
            if left <= 0:  # asked here and not by the channel: what always has octets ready would never run out of time
                raise TimeoutError
            data = self._channel.receive(left)
        except TimeoutError as error:
            raise Ended(f"no answer within the time allowed while {doing}") from error
        except OSError as error:
            raise Ended(f"the connection was lost while {doing}: {error}") from error
        self._take(self._session.receive(data), doing)

    def _take(self, events: Iterable[Event], doing: str) -> None:
        """Note what was heard while ``doing`` something."""
        for event in events:
            if isinstance(event, Reply):
                self._waiting.append(event)
            elif isinstance(event, Violation):
                self._failure = f"{event.reason} while {doing}"
            elif isinstance(event, Closed):
                self._failure = " ".join((f"the connection was closed while {doing}", self._complaint())).strip()

    def _last_words(self) -> Reply | None:
        """What a server that no longer reads has said before."""
        until = time.monotonic() + LAST_WORDS
        try:
            while not self._waiting:
                self._hear(until)
        except Ended:
            return None
        reply = self._waiting.popleft()
        self._leave = self._leave or reply.code == 421
        return reply if reply.temporary or reply.permanent else None


def _grouped(requests: list[Request], most: int) -> Iterator[list[Request]]:
    """``requests`` in groups of at most ``most`` that stay under about :data:`GROUP_OCTETS`."""
    group: list[Request] = []
    size = 0
    for request in requests:
        octets = 1024 + len(request.rcpt.path) if isinstance(request, RcptTo) and request.rcpt.params else 300
        if group and (len(group) >= most or size + octets > GROUP_OCTETS):
            yield group
            group, size = [], 0
        group.append(request)
        size += octets
    yield group


def _complete(verdicts: list[Verdict | None], *, ended: str = "", leave: bool = False) -> Result:
    """The result; a recipient without a verdict would be a bug of ours, and is in doubt rather than lost."""
    unknown = Verdict(Kind.DOUBTFUL, "451 4.3.0 no verdict was reached")
    return Result(tuple(verdict or unknown for verdict in verdicts), ended=ended, leave=leave)


def _broken_off(ended: Ended, *, kind: Kind = Kind.DEFERRED) -> Verdict:
    """The verdict for recipients whose transaction was broken off: the server's own, or ``kind``."""
    if ended.reply is not None:
        return judge(ended.reply, Verb.END)
    return Verdict(kind, f"451 4.4.2 {ended}")
