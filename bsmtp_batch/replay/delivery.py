"""What the engine is given: the messages of a batch, and the reports to senders; and what each verdict comes to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from bsmtp_batch.batch.file import BatchFile, Changed
from bsmtp_batch.ledger import Outcome
from bsmtp_batch.ledger.rows import (
    BOUNCED,
    DEFERRED,
    DELIVERED,
    DSN_DUE,
    DSN_KEPT,
    DSN_SENT,
    NO_DSN,
    QUARANTINED,
)
from bsmtp_batch.replay.aside import Aside
from bsmtp_batch.replay.contract import Job, Kind, Result, Span, Verdict
from bsmtp_batch.replay.examine import stamp_of
from bsmtp_batch.replay.journal import Journal
from bsmtp_batch.replay.plan import Notice, Task
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import stuff


@dataclass(frozen=True)
class Context:
    """What all deliveries of one batch share.

    ``bounce``: a refusal goes back to the sender; otherwise it is only kept. ``aside`` sets messages
    aside in the directory ``shelf``; ``complain`` takes a sentence for the operator, ``now`` is the clock, ``target``
    the name of what refuses. ``file`` is the open plain batch, and ``stamp`` that of ``Examined``.
    """

    batch: BatchFile
    file: BinaryIO
    sha256: str
    node: str
    target: str
    bounce: bool
    journal: Journal
    aside: Callable[[], Aside]
    complain: Callable[[str], None]
    now: Callable[[], float]
    shelf: str = "bad/"
    stamp: tuple[int, int] | None = None

    @property
    def stem(self) -> str:
        """What the names of this batch's jobs begin with."""
        return f"B{self.sha256[:32]}."


class MessageDelivery:
    """A message of the batch for those of its recipients that are still to be served; a ``Delivery`` of the engine."""

    def __init__(self, context: Context, task: Task) -> None:
        self._context = context
        self._task = task
        message = task.message
        fd = context.file.fileno()

        def text() -> BatchFile:
            return BatchFile(cast(BinaryIO, Apart(fd)))  # several connections may be at their texts at once

        self._job = Job(
            f"{context.stem}{message.number}",
            message.mail,
            message.rcpts
            if len(task.recipients) == len(message.rcpts)
            else tuple([message.rcpts[index] for index in task.recipients]),
            message.size,
            message.eight_bit,
            lambda: text().wire(message),
            lambda: text().content(message),
            Span(fd, message.offset, message.wire_size) if message.exact else None,
        )

    @property
    def job(self) -> Job:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        return self._job

    @property
    def number(self) -> int:
        """The message's place in the batch, from 1."""
        return self._task.message.number

    def begin(self) -> None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        self.mark()
        self.commit()

    def mark(self) -> None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`. Raises :class:`~bsmtp_batch.batch.file.Changed`: where a
        text stood there may be that of another message by now, or half of it, and no dot may end that."""
        context = self._context
        if context.stamp is not None and context.stamp != stamp_of(context.file):
            raise Changed("the batch was changed after it was verified")
        message = self._task.message
        self._context.journal.mark(message.number, message.mail.path, self._task.attempt)

    def commit(self) -> None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        self._context.journal.commit()

    def settle(self, result: Result) -> MessageDelivery | None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        task = self._task
        doubtful = task.doubtful or any(verdict.kind is Kind.DOUBTFUL for verdict in result.verdicts)
        crowded: list[int] = []
        outcomes: list[Outcome] = []
        served = any(verdict.kind is Kind.DELIVERED for verdict in result.verdicts)
        for index, verdict in zip(task.recipients, result.verdicts, strict=True):
            if verdict.kind is Kind.CROWDED and served:
                crowded.append(index)
            else:
                outcomes.append(self._outcome(index, verdict))
        outcomes = self._set_aside(outcomes)
        self._context.journal.settle(
            task.message.number,
            task.message.mail.path,
            task.attempt,
            outcomes,
            recipients=len(task.message.rcpts),
            doubtful=doubtful,
        )
        if not crowded:
            return None
        return MessageDelivery(self._context, replace(task, recipients=tuple(crowded), doubtful=doubtful))

    def _outcome(self, index: int, verdict: Verdict) -> Outcome:
        """What ``verdict`` comes to: a refusal is told to the sender, or kept where there is nobody to tell."""
        message = self._task.message
        rcpt = message.rcpts[index]
        outcome, notice = DEFERRED, NO_DSN
        if verdict.kind is Kind.DELIVERED:
            outcome = DELIVERED
        elif verdict.kind is Kind.REJECTED and self._context.bounce and message.mail.path:
            from bsmtp_batch.replay import dsn  # what goes well needs no memory for reports

            outcome, notice = BOUNCED, DSN_DUE if dsn.wanted(rcpt) else NO_DSN
        elif verdict.kind is Kind.REJECTED:
            outcome = QUARANTINED
        return Outcome(index, rcpt.path, outcome, verdict.reply, self._task.attempt, notice)

    def _set_aside(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Keep the message for those that nobody can be told about. Where the disk does not take it they wait for the
        next run: what became of the other recipients has to be noted all the same, or they would get it again."""
        refused = [outcome for outcome in outcomes if outcome.outcome == QUARANTINED]
        if not refused:
            return outcomes
        message = self._task.message
        try:
            name = self._context.aside().message(
                self._context.batch,
                message,
                [outcome.recipient for outcome in refused],
                f"rejected{self._task.attempt}.{refused[0].recipient}",
                f"the target refused it: {refused[0].reply}",
            )
        except OSError as error:
            self._context.complain(
                f"message {message.number} was refused and cannot be kept in {self._context.shelf}"
                f" ({error.strerror or error}): it waits for the next run: {refused[0].reply}"
            )
            return [replace(one, outcome=DEFERRED) if one in refused else one for one in outcomes]
        why = "has the null sender, whom nobody answers" if not message.mail.path else "is kept"
        self._context.complain(
            f"message {message.number} was refused and {why}: see {name} in {self._context.shelf}: {refused[0].reply}"
        )
        return outcomes


class NoticeDelivery:
    """A report to a sender; a ``Delivery`` of the engine."""

    def __init__(self, context: Context, notice: Notice) -> None:
        self._context = context
        self._notice = notice
        message, batch = notice.message, context.batch
        from bsmtp_batch.replay import dsn

        report = dsn.Notice(
            node=context.node,
            mail=message.mail,
            failures=tuple(dsn.Failure(message.rcpts[o.recipient], o.reply) for o in notice.outcomes),
            headers=dsn.headers_of(batch.content(message)),
            identity=f"{context.sha256}:{message.number}:{notice.attempt}",
            target=context.target,
            when=context.now(),
        )
        content = dsn.report(report)
        self._job = Job(
            name=f"B{context.sha256[:32]}.{message.number}.dsn{notice.attempt}",
            mail=Mail(b""),
            rcpts=(Rcpt(message.mail.path),),
            size=len(content),
            eight_bit=not content.isascii(),
            wire=lambda: iter((stuff(content),)),
            content=lambda: iter((content,)),
        )

    @property
    def job(self) -> Job:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        return self._job

    @property
    def number(self) -> int:
        """The place in the batch of the message that this is a report about."""
        return self._notice.message.number

    def begin(self) -> None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`. A report is not marked: sent twice it has the same
        Message-ID, and the message it is about is decided."""
        self.commit()

    def mark(self) -> None:
        """See :meth:`begin`."""

    def commit(self) -> None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        self._context.journal.commit()

    def settle(self, result: Result) -> None:
        """See :class:`~bsmtp_batch.replay.engine.Delivery`."""
        verdict, number = result.verdicts[0], self.number
        if verdict.kind is Kind.DELIVERED:
            self._context.journal.note_dsn(number, self._notice.outcomes, DSN_SENT)
        elif verdict.kind is Kind.REJECTED:
            self._keep(verdict.reply)
        else:
            self._context.complain(
                f"message {number}: the report to its sender waits for the next run: {verdict.reply}"
            )

    def _keep(self, reply: str) -> None:
        notice, context = self._notice, self._context
        name = context.aside().message(
            context.batch,
            notice.message,
            [outcome.recipient for outcome in notice.outcomes],
            f"unreturnable{notice.attempt}",
            f"the target refused it ({notice.outcomes[0].reply}) and the report to its sender too ({reply})",
        )
        context.journal.note_dsn(notice.message.number, notice.outcomes, DSN_KEPT)
        context.complain(
            f"message {notice.message.number}: its sender takes no report, so it is kept: see {name} in"
            f" {context.shelf}: {reply}"
        )


class Apart:
    """The open file ``fd`` with a place of its own, for one reader; what a :class:`~bsmtp_batch.batch.file.BatchFile`
    needs of a file to give the texts of messages."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def seek(self, offset: int) -> int:
        """Go to ``offset``."""
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        """The next octets, ``size`` of them or fewer; ``b""`` at the end."""
        found = os.pread(self._fd, size, self._at)
        self._at += len(found)
        return found

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd
