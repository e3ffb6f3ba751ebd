"""A client's side of SMTP and LMTP on a channel: greeting, one transaction after the other, and what each reply means.

Where PIPELINING is offered (RFC 2920) a message costs one round trip: the rest of its text, its dot, and the commands
of the message behind it leave in one flight, and come back as one. What is said ahead is only the envelope. The text of
the next message waits until the one before is settled, and its dot until that is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bsmtp_batch.edge.sockets import Channel, SocketChannel
from bsmtp_batch.replay.contract import Job, Kind, NextJob, Result, Unreachable, Verdict, nothing_next
from bsmtp_batch.replay.exchange import Ended, Exchange
from bsmtp_batch.replay.parameters import Unfit
from bsmtp_batch.replay.steady import all_accepted
from bsmtp_batch.replay.transaction import Transaction
from bsmtp_batch.wire.events import (
    Auth,
    AuthResponse,
    EndOfData,
    Helo,
    Noop,
    Quit,
    Reply,
    Request,
    StartTls,
    Verb,
)
from bsmtp_batch.wire.session import Protocol, Reading, Role, Session

if TYPE_CHECKING:
    from bsmtp_batch.wire.sasl.client import ClientLogin

HELD = 16384
"""Octets of a text, up to which it is cheaper to read it into memory."""
FAREWELL = 5.0
"""Seconds a server has to answer QUIT; nothing depends on it."""


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
        self._exchange = Exchange(channel, self._session, patience=patience, complaint=complaint)
        self._part = part
        self._ahead: Transaction | None = None
        if session is not None:
            self._exchange.resume()  # the greeting may have come right behind the turn

    def greet(self, node: str) -> None:
        """Wait for the greeting and introduce ourselves as ``node``. Raises :class:`Unreachable`."""
        try:
            greeting = self._exchange.reply()
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
            reply = self._exchange.ask(StartTls())
            if not reply.ok:
                raise Declined(f"it does not begin TLS: {reply}", permanent=reply.permanent)
            if self._exchange.failure or self._session.reading is not Reading.PAUSED:
                raise Ended(self._exchange.failure or "the connection was closed instead of beginning TLS")
            begin()
            self._session.upgraded()
            self._introduce(node)
        except Ended as ended:
            raise Unreachable(str(ended)) from ended
        except OSError as error:
            from bsmtp_batch.edge.tls import words  # who sends in the clear needs no memory for TLS

            self._exchange.failure = words(error)
            raise Unreachable(self._exchange.failure) from error

    def log_in(self, login: ClientLogin) -> None:
        """Say who we are. Raises :class:`Declined` when the server does not believe it, and :class:`Unreachable`."""
        request: Auth | AuthResponse | None = login.start()
        try:
            while request is not None:
                request = login.answer(self._exchange.ask(request))
        except Ended as ended:
            raise Unreachable(str(ended)) from ended
        if login.result is not None:
            raise Declined(f"it does not let us log in: {login.result.reason}", permanent=not login.result.later)

    def ask(self, request: Request) -> Reply:
        """The reply to ``request``, between messages. Raises :class:`Unreachable`, after which nothing can be asked."""
        try:
            return self._exchange.ask(request)
        except Ended as ended:
            self._exchange.failure = str(ended)
            raise Unreachable(str(ended)) from ended

    def still_there(self) -> bool:
        """Whether the server answers; asking keeps an idle connection from being closed. Between messages only."""
        try:
            return self._exchange.ask(Noop()).ok
        except Ended as ended:
            self._exchange.failure = str(ended)
            return False

    def carry(self, job: Job, before_dot: Callable[[], None], next_job: NextJob = nothing_next) -> Result:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        try:
            transaction = self._begun(job)
        except Unfit as unfit:
            return Result((Verdict(Kind.REJECTED, str(unfit)),) * len(job.rcpts))
        try:
            transaction.negotiate()
            if not transaction.wants_text():
                return transaction.result()
            held = self._text(job)
        except Ended as ended:
            return transaction.broken_off(ended)
        following = self._following(transaction, next_job)
        before_dot()
        self._finish(transaction, held, following)
        return transaction.result()

    def close(self) -> None:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        try:
            if not self._exchange.ended and not self._session.unanswered and self._session.allows(Verb.QUIT):
                self._channel.send(self._exchange.said(Quit()), FAREWELL)
                self._channel.receive(FAREWELL)
                self._part()
        except OSError:
            pass
        finally:
            self._channel.close()

    def _introduce(self, node: str) -> None:
        """Raises :class:`Unreachable` and :class:`Ended`."""
        hello = self._exchange.ask(Helo(node.encode()))
        if hello.permanent and self._session.protocol is Protocol.SMTP:
            hello = self._exchange.ask(Helo(node.encode(), extended=False))
        if not hello.ok:
            raise Unreachable(f"it does not want to know us: {hello}")

    # -- flights that somebody else says and hears (see replay/lane.py) ------------------------------------------

    def line(self) -> SocketChannel | None:
        """What flights may be sent on without the wire core, between messages. None where the next one needs it: the
        server does not offer PIPELINING, or has to be told first to forget a message that was given up; or what is sent
        does not go out as it is."""
        session = self._session
        if b"PIPELINING" not in session.extensions or self._exchange.ended or not session.allows(Verb.MAIL):
            return None
        return self._direct()

    @property
    def answers_each(self) -> bool:
        """Whether the end of a message is answered for every recipient (LMTP)."""
        return self._session.protocol is Protocol.LMTP

    @property
    def patience(self) -> float:
        """What stretches the time-outs."""
        return self._exchange.patience

    def regain(
        self, dotted: Job | None, begun: Job | None, heard: bytes, trouble: OSError | None, *, whole: bool = True
    ) -> Result | None:
        """Take over a flight that was sent on :meth:`line`: the dot of ``dotted``, if any, and behind it the envelope
        of ``begun``, if any, which has to be the next job here. ``heard`` came since, ``trouble`` ended the saying.
        ``whole``: all of the text went out, and its end.

        What becomes of ``dotted``. Whatever was said and heard before that flight is told to the wire core as it was.
        """
        before = self._told(dotted) if dotted is not None else None
        answers = 0
        if before is not None:
            self._exchange.said(EndOfData())
            answers = len(self._session.due)
        if begun is not None:
            self._ahead = Transaction(self._exchange, begun)
            self._ahead.begin_ahead(answers)
            self._ahead.ahead = before is not None
        self._exchange.hear(heard)
        if trouble is not None:
            self._exchange.lost(trouble)
        if before is None:
            return None
        try:
            before.conclude(answers)
        except Ended as ended:
            before.doubt(ended)
        result = before.result()
        return result if whole else replace(result, verdicts=tuple(map(_not_yes, result.verdicts)))

    def drop(self) -> None:
        """Hang up without a word: in the middle of a message there is none that would be understood."""
        self._channel.close()

    def cut(self) -> None:
        """End the connection under another thread that waits for it. Never raises."""
        if isinstance(self._channel, SocketChannel):
            self._channel.cut()

    def _direct(self) -> SocketChannel | None:
        channel = self._channel
        return channel if isinstance(channel, SocketChannel) and channel.plain else None

    def _told(self, job: Job) -> Transaction:
        """The transaction of ``job``, in which everybody was accepted and the text has been sent."""
        transaction = Transaction(self._exchange, job)
        transaction.begin_ahead(0)
        self._exchange.hear(all_accepted(len(job.rcpts)))
        transaction.negotiate()
        transaction.ahead = False
        return transaction

    # -- a message -----------------------------------------------------------------------------------------------

    def _begun(self, job: Job) -> Transaction:
        """The transaction of ``job``, which may have been begun ahead. Raises :class:`Unfit`."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.job is job:
            return ahead
        if ahead is not None:
            # Its DATA may have been granted, and then there is no way back but a text with a dot.
            self._exchange.failure = self._exchange.failure or "another message was announced here"
        return Transaction(self._exchange, job)

    def _text(self, job: Job) -> bytes:
        """Send the text but for its last piece, which waits for the dot, so that a small message is one packet. Where
        the system can copy it from a file to the connection, a large one goes that way."""
        held = b""
        if job.span is not None and job.span.size > HELD and self._direct() is not None:
            self._exchange.send_file(job.span)
            return held
        for piece in job.wire():
            if held:
                self._exchange.send(held)
            held = piece
        return held

    def _following(self, transaction: Transaction, next_job: NextJob) -> Transaction | None:
        """What may be begun in the flight of the dot of ``transaction``. Recipients that there were too many of come
        first: they are tried again at once."""
        if b"PIPELINING" not in self._session.extensions or transaction.crowded:
            return None
        job = next_job()
        if job is None:
            return None
        try:
            return Transaction(self._exchange, job)
        except Unfit:
            return None  # it is told so when it has its turn

    def _finish(self, transaction: Transaction, held: bytes, following: Transaction | None) -> None:
        """Send ``held`` and the dot, with the beginning of ``following`` behind it, and hear about the dot."""
        try:
            flight = held + self._exchange.said(EndOfData())
            answers = len(self._session.due)
            if following is not None:
                flight += self._announced(following, answers)
            self._exchange.send_end(flight)
            transaction.conclude(answers)
        except Ended as ended:
            transaction.doubt(ended)

    def _announced(self, following: Transaction, answers: int) -> bytes:
        """The beginning of ``following``, behind an end that wants so many ``answers``."""
        try:
            octets = following.begin_ahead(answers)
        except Ended:
            return b""  # the session is over then, and the message before has no part in it
        self._ahead = following if octets else None
        return octets


def _not_yes(verdict: Verdict) -> Verdict:
    """What ``verdict`` is worth where the server had not got all of the text: a yes can have meant nothing of it."""
    if verdict.kind is not Kind.DELIVERED:
        return verdict
    return Verdict(Kind.DOUBTFUL, f"451 4.3.0 the server answered before it had all of the text: {verdict.reply}")
