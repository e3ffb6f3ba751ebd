"""One transaction as far as its envelope goes: what is to be said, in groups, and what each recipient was told.

With PIPELINING (RFC 2920) the commands of a transaction go out in groups, the first of which may follow the end of the
message before in the same flight; without it one by one. Every reply is looked at, whatever was said ahead of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from bsmtp_batch.replay.contract import Job, Kind, Result, Verdict
from bsmtp_batch.replay.exchange import Ended, Exchange
from bsmtp_batch.replay.parameters import fitted
from bsmtp_batch.replay.replies import judge
from bsmtp_batch.wire.events import Data, EndOfData, MailFrom, RcptTo, Reply, Request, Rset, Verb

GROUP_OCTETS = 16384
GROUP_REQUESTS = 100
"""One pipelined group at most: it fits into the buffers of a pipe, so that neither side waits for the other to read.
Replies to a message that is ended in the same flight count as if they were asked for by the group."""


class Transaction:
    """The transaction of ``job`` on ``exchange``. Raises :class:`~bsmtp_batch.replay.parameters.Unfit`."""

    def __init__(self, exchange: Exchange, job: Job) -> None:
        mail, rcpts = fitted(job, exchange.session.extensions)
        self.job = job
        self.ahead = False
        """Whether it was begun before the message before it was answered for."""
        self.heard = False
        """Whether the server has answered anything of it."""
        self.crowded = False
        """Whether there were too many recipients for one transaction."""
        self._exchange = exchange
        self._unsaid: deque[Request] = deque([MailFrom(mail), *map(RcptTo, rcpts), Data()])
        self._said = 0
        self._refused: Verdict | None = None
        self._verdicts: list[Verdict | None] = []

    # -- the envelope --------------------------------------------------------------------------------------------

    def begin_ahead(self, answers: int) -> bytes:
        """The first group, to follow the end of a message that wants so many ``answers`` in the same flight; ``b""``
        where these leave no room for it. Raises :class:`~bsmtp_batch.replay.exchange.Ended`."""
        group = self._group(GROUP_REQUESTS - answers)
        self.ahead = bool(group)
        return group

    def negotiate(self) -> None:
        """Say what is not said yet and hear the answers: then it is known who is accepted, and whether the text is
        wanted. Raises :class:`~bsmtp_batch.replay.exchange.Ended`."""
        session = self._exchange.session
        if not self._said and not session.allows(Verb.MAIL):
            self._unsaid.appendleft(Rset())  # the transaction before was given up
        self._hear()
        most = GROUP_REQUESTS if b"PIPELINING" in session.extensions else 1
        while self._unsaid and session.allows(self._unsaid[0].verb):
            self._exchange.send(self._group(most))
            self._hear()
        if not self.heard:
            raise Ended(self._exchange.ended or "the server does not forget the message before")

    def wants_text(self) -> bool:
        """Whether the text is to be sent now. Where the server waits for one that nobody gets, it is given none.

        Raises :class:`~bsmtp_batch.replay.exchange.Ended`.
        """
        session = self._exchange.session
        if not session.content_due:
            if None in self._verdicts:
                raise self._ended_early()
            return False
        if not session.recipients:
            self._exchange.ask(EndOfData())  # a lone dot ends a 354 that came although nobody was accepted (RFC 2920)
            return False
        return True

    def _group(self, most: int) -> bytes:
        """The octets of the next group, of at most ``most`` requests and about :data:`GROUP_OCTETS`."""
        group: list[Request] = []
        room = GROUP_OCTETS
        while self._unsaid and len(group) < most:
            room -= _length(self._unsaid[0])
            if group and room < 0:
                break
            group.append(self._unsaid.popleft())
        self._said += len(group)
        return self._exchange.said(*group)

    def _hear(self) -> None:
        """Every answer to what was said."""
        while self._said:
            reply = self._exchange.reply()
            self._said -= 1
            self._note(reply)

    def _note(self, reply: Reply) -> None:
        match reply.request:
            case MailFrom():
                self.heard = True
                self._refused = None if reply.ok else judge(reply, Verb.MAIL)
            case RcptTo():
                verdict = None if reply.ok else judge(reply, Verb.RCPT)
                self.crowded = self.crowded or (verdict is not None and verdict.kind is Kind.CROWDED)
                self._verdicts.append(verdict)
            case Data() if not reply.go_on:
                self._verdicts = [verdict or judge(reply, Verb.DATA) for verdict in self._verdicts]

    # -- what becomes of it --------------------------------------------------------------------------------------

    def conclude(self, answers: int) -> None:
        """Hear what becomes of the accepted recipients: the end was sent, and wants so many ``answers``.

        Raises :class:`~bsmtp_batch.replay.exchange.Ended` when one of them stays away.
        """
        accepted = deque(index for index, known in enumerate(self._verdicts) if known is None)
        for due in range(answers, 0, -1):
            verdict = judge(self._exchange.reply(final=True), Verb.END)
            for _ in range(1 if due > 1 else len(accepted)):  # in LMTP one answer for each, in SMTP one for all
                self._verdicts[accepted.popleft()] = verdict

    def result(self) -> Result:
        """All there is to know. A recipient without a verdict is in doubt."""
        if self._refused is not None:
            return self._all(self._refused)
        unknown = Verdict(Kind.DOUBTFUL, "451 4.3.0 no verdict was reached")
        exchange = self._exchange
        verdicts = tuple(verdict or unknown for verdict in self._verdicts)
        return Result(verdicts, ended=exchange.ended, leave=exchange.leave)

    def broken_off(self, ended: Ended) -> Result:
        """The session ended before the end of the text was sent: nobody has the message."""
        self._exchange.failure = str(ended)
        leave = self._exchange.leave
        untouched = self.ahead and not self.heard and not leave
        return replace(self._all(_verdict(ended, Kind.DEFERRED)), ended=str(ended), leave=leave, untouched=untouched)

    def doubt(self, ended: Ended) -> None:
        """The session ended before all answers to the end of the text had come."""
        self._exchange.failure = str(ended)
        self._verdicts = [known or _verdict(ended, Kind.DOUBTFUL) for known in self._verdicts]

    def _all(self, verdict: Verdict) -> Result:
        exchange = self._exchange
        return Result((verdict,) * len(self.job.rcpts), ended=exchange.ended, leave=exchange.leave)

    def _ended_early(self) -> Ended:
        """The server closed the session, or refused, right behind its 354."""
        reply = self._exchange.unasked()
        doing = self._exchange.session.doing
        return Ended(str(reply) if reply else f"the connection was closed while {doing}", reply)


def _length(request: Request) -> int:
    """About how many octets ``request`` has at most."""
    return 1024 + len(request.rcpt.path) if isinstance(request, RcptTo) and request.rcpt.params else 300


def _verdict(ended: Ended, kind: Kind) -> Verdict:
    """The verdict for recipients whose transaction was broken off: the server's own, or ``kind``."""
    if ended.reply is not None:
        return judge(ended.reply, Verb.END)
    return Verdict(kind, f"451 4.4.2 {ended}")
