"""One sealed batch, message by message: what the ledger knows of it, what is sent, what the senders are told."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.dispatch.bounds import Bounds
from bsmtp_batch.dispatch.events import LATER, NOTICED, REFUSED, SENT, Watcher
from bsmtp_batch.errors import Bad, Later
from bsmtp_batch.handover import outgoing
from bsmtp_batch.handover.events import Event
from bsmtp_batch.handover.parcel import Parcel
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.ledger.rows import BOUNCED, DEFERRED, DELIVERED, DSN_DUE, QUARANTINED
from bsmtp_batch.replay.aside import Aside
from bsmtp_batch.replay.contract import Target
from bsmtp_batch.replay.delivery import Context, MessageDelivery, NoticeDelivery
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.examine import Examined, examine
from bsmtp_batch.replay.journal import Journal, Line
from bsmtp_batch.replay.plan import Plan, Task, notices, plan
from bsmtp_batch.spool import listing, names
from bsmtp_batch.spool.store import Route

VERB = "push"
ORDER = (DELIVERED, DEFERRED, BOUNCED, QUARANTINED)


@dataclass(frozen=True)
class Terms:
    """How mail is sent.

    ``node`` is how we introduce ourselves; ``notices`` takes the reports to senders (None: nobody does, so what is
    refused is kept in ``dead/``). ``max_octets`` bounds the mail of one dispatch, ``until`` (seconds since 1970) its
    time; where ``ended`` says so the message under way is its last.
    """

    node: str
    notices: Target | None = None
    max_octets: int | None = None
    until: float | None = None
    now: Callable[[], float] = time.time
    ended: Callable[[], bool] = lambda: False


class BatchDispatch:
    """The batch ``parcel`` of ``route``, whose ``contact.lock`` the caller holds."""

    def __init__(
        self,
        route: Route,
        parcel: Parcel,
        *,
        engine: Engine,
        ledger: Ledger,
        terms: Terms,
        bounds: Bounds,
        watcher: Watcher,
        tell: Callable[[Event], None],
    ) -> None:
        self.octets = 0
        """Octets of the messages of which a recipient was served in this run."""
        self._route = route
        self._parcel = parcel
        self._engine = engine
        self._ledger = ledger
        self._terms = terms
        self._bounds = bounds
        self._watcher = watcher
        self._tell = tell
        # By its name and not by its sum: two messages that are equal, handed in by hand, make two equal batches.
        self._journal = Journal(ledger, parcel.name, parcel.name, self._line)
        self._held = ""
        self._served: set[int] = set()

    def run(self) -> None:
        """Send what is left of it, and release it when nothing is.

        Raises :class:`~bsmtp_batch.errors.Later` when the ledger cannot be written, and ``OSError``.
        """
        if self._engine.stopped and not self._owing():
            self._leave()  # no batch is read through for a server that takes nothing
            return
        fd = listing.open_regular(self._route.at(names.READY, self._parcel.name))
        with os.fdopen(fd, "rb") as file:
            examined = examine(BatchFile(file), self._parcel.manifest)
            if examined.bad or examined.refused:
                raise Bad(
                    f"it is not what its manifest says: {examined.bad or examined.refused[0].fault}",
                    safe="Nothing of it was sent; it stays where it is",
                    next="see OPERATING, 'A damaged spool'",
                )
            self._replay(examined, file)
            self._send_notices(examined, file)
        self.octets = sum(m.size for m in examined.messages if m.number in self._served)
        if self._journal.complete(message.number for message in examined.messages):
            self._release()
        else:
            self._leave()

    # -- the customer's server -----------------------------------------------------------------------------------

    def _replay(self, examined: Examined, file: BinaryIO) -> None:
        work = plan(examined.messages, self._journal.fates)
        for number in work.doubtful:
            self._notice(
                f"message {number} was in doubt after an interruption between its final dot and the reply;"
                " it is sent again"
            )
        context = self._context(examined, file, self._engine.target)
        try:
            deliveries = (MessageDelivery(context, task) for task in self._admitted(work))
            if self._engine.run(deliveries, over=lambda: bool(self._bounds.over)):
                self._held = self._held or self._bounds.over
        finally:
            self._journal.flush()  # whatever ended it: what was answered stays answered

    def _admitted(self, work: Plan) -> Iterator[Task]:
        for task in work.tasks:
            if self._engine.stopped:
                return
            reason = self._bounds.against(task.message.size)
            if reason:
                self._held = self._held or reason
                continue
            self._bounds.spend(task.message.size)
            yield task

    # -- the senders ---------------------------------------------------------------------------------------------

    def _send_notices(self, examined: Examined, file: BinaryIO) -> None:
        """The reports that are owed, from an earlier run too; their server has nothing to do with the customer's."""
        owed = notices(examined.messages, self._journal.fates)
        if not owed:
            return
        if self._terms.notices is None:
            self._held = self._held or "nobody takes the reports to senders ([import] to names no server)"
            return
        context = self._context(examined, file, self._engine.target)
        with Engine(self._terms.notices) as engine:
            engine.run(NoticeDelivery(context, notice) for notice in owed)
            if engine.stopped:
                self._held = self._held or f"reports to senders wait: {engine.stopped}"

    # -- the end -------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        counts = self._counts()
        said = self._in_words(counts)
        outgoing.acknowledge(
            self._route, self._parcel.receipt, self._ledger, reason=f"sent to {self._engine.target}: {said}"
        )
        self._event(SENT, note=said)

    def _leave(self) -> None:
        """Something is left: say how much, and the first reason."""
        recipients = self._parcel.manifest.recipients
        counts = self._counts()
        final = sum(counts.values()) - counts[DEFERRED]
        reason = self._engine.stopped or self._held or self._last_reply()
        left = f"{recipients - final} of {recipients} recipients are left" if final < recipients else "reports are owed"
        self._event(LATER, note=f"{left}: {reason}", code=self._engine.code or Later.code)

    def _owing(self) -> bool:
        """Whether a report to a sender is owed, and there is somebody to take it."""
        outcomes = (one for fate in self._journal.fates.values() for one in fate.outcomes.values())
        return self._terms.notices is not None and any(one.dsn == DSN_DUE for one in outcomes)

    def _counts(self) -> Counter[str]:
        return Counter(one.outcome for fate in self._journal.fates.values() for one in fate.outcomes.values())

    def _last_reply(self) -> str:
        replies = (
            one.reply
            for _, fate in sorted(self._journal.fates.items())
            for one in fate.outcomes.values()
            if one.outcome == DEFERRED
        )
        return next(replies, "the reports to their senders wait for the next run")

    @staticmethod
    def _in_words(counts: Counter[str]) -> str:
        return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ORDER if counts[outcome])

    # -- telling -------------------------------------------------------------------------------------------------

    def _context(self, examined: Examined, file: BinaryIO, target: str) -> Context:
        stem = (
            f"{self._route.name}.{self._parcel.manifest.sequence:08d}"  # no time in it: it is not to look like a batch
        )
        return Context(
            batch=examined.batch,
            file=file,
            sha256=hashlib.sha256(self._parcel.name.encode()).hexdigest(),
            node=self._terms.node,
            target=target,
            bounce=self._terms.notices is not None,
            journal=self._journal,
            aside=lambda: Aside(self._route.path, stem, self._terms.node, names.DEAD),
            complain=lambda sentence: self._notice(sentence, code=Bad.code),
            now=self._terms.now,
            shelf="dead/",
        )

    def _line(self, line: Line) -> None:
        if line.outcome == DELIVERED:
            self._served.add(line.message)
        self._watcher.line(line)

    def _notice(self, sentence: str, code: int = 0) -> None:
        self._tell(Event(VERB, NOTICED, self._route.name, self._parcel.name, note=sentence, code=code))

    def _event(self, kind: str, *, note: str, code: int = 0) -> None:
        parcel = self._parcel
        self._tell(Event(VERB, kind, self._route.name, parcel.name, parcel.manifest.messages, parcel.size, note, code))


def unsendable(route: str, name: str, problem: str, code: int) -> Event:
    """The batch ``name`` cannot be sent (65), or not now."""
    return Event(VERB, REFUSED if code == Bad.code else LATER, route, name, note=problem, code=code)
