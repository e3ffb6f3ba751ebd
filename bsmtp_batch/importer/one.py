"""One verified batch from beginning to end: what is known, what is to be done, the replay, the reports, the summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

from bsmtp_batch.errors import Usage
from bsmtp_batch.importer.identity import digest_of
from bsmtp_batch.importer.policy import Policy
from bsmtp_batch.ledger import Ledger, Outcome
from bsmtp_batch.ledger.rows import BOUNCED, DEFERRED, DELIVERED, DONE, FINISHING, PENDING, QUARANTINED
from bsmtp_batch.replay.aside import Aside, make_origin
from bsmtp_batch.replay.contract import Target
from bsmtp_batch.replay.delivery import Context, MessageDelivery, NoticeDelivery
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.examine import Examined, Refused
from bsmtp_batch.replay.journal import Journal, Line
from bsmtp_batch.replay.plan import Foreign, Plan, notices, plan

SKIPPED = "skipped"
"""The outcome told of a recipient that was settled by an earlier run."""

MANY = 100
"""Messages from which on results are written in the way that is quicker by the message."""

Force = Literal["unknown", "failed", "all"]


class Watcher(Protocol):
    """Whoever is told what happens: the command line, the demonstration, a test."""

    def line(self, line: Line) -> None:
        """What became of one recipient."""

    def trouble(self, what: str) -> None:
        """A sentence for the operator."""

    def summary(self, tally: Tally) -> None:
        """A batch is through, for this run."""

    def agrees(self, question: str) -> bool:
        """Whether the operator wants it all the same."""


@dataclass(frozen=True)
class Options:
    """How to import. ``spool`` is its directory, ``node`` how we introduce ourselves.

    ``target`` may be missing for a ``dry_run``, which sends and changes nothing. ``bounce``: refusals go back to the
    sender, otherwise they are kept. ``force`` hands in again what was in doubt, refused, or everything; ``salvage``
    imports the complete messages of a damaged file without a manifest. ``cap`` limits what a batch may decompress to.
    ``verify`` (manifest, signature, origin) says what is wrong with the signature beside a file that was named; what
    has arrived in the spool was asked for its signature when it came. ``connections``: how many there may be to the
    target at once.
    """

    spool: str
    node: str
    policy: Policy
    target: Target | None = None
    bounce: bool = True
    force: Force | None = None
    salvage: bool = False
    dry_run: bool = False
    cap: int = 8 << 30
    verify: Callable[[bytes, bytes, str], str] | None = None
    connections: int = 1
    now: Callable[[], float] = time.time


@dataclass
class Tally:
    """What a run came to for one batch: recipients by outcome; ``bad`` and ``later`` decide about the exit code."""

    name: str
    messages: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    bad: bool = False
    later: bool = False

    def count(self, outcome: str) -> None:
        """Count one recipient."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        self.later = self.later or outcome == DEFERRED
        self.bad = self.bad or outcome == QUARANTINED


class BatchImport:
    """One batch, examined and locked.

    ``file`` is its plain file, ``key`` what the ledger knows it by, ``name`` what people call it, ``origin`` and
    ``stem`` where in the spool, and under which names, its messages are set aside. ``engine`` may be missing for a dry
    run.
    """

    def __init__(
        self,
        examined: Examined,
        file: BinaryIO,
        *,
        key: str,
        name: str,
        origin: str,
        stem: str,
        options: Options,
        ledger: Ledger,
        watcher: Watcher,
        engine: Engine | None,
    ) -> None:
        self.tally = Tally(name, messages=len(examined.messages) + len(examined.refused))
        self._examined = examined
        self._file = file
        self._origin = origin
        self._stem = stem
        self._options = options
        self._ledger = ledger
        self._watcher = watcher
        self._engine = engine
        self._key = key
        self._journal = Journal(ledger, key, name, self._tell)

    def run(self) -> bool:
        """Import what is left of the batch; whether nothing of it is left then.

        Raises :class:`~bsmtp_batch.errors.Later` when the ledger cannot be written, :class:`~bsmtp_batch.errors.Usage`
        when the operator does not agree to a forced run, and ``OSError`` when the batch or the spool cannot be used.
        """
        if self._options.force:
            self._reopen(self._options.force)
        work = self._plan()
        self._tell_settled(work)
        if self._options.dry_run:
            self._tell_intentions(work)
            return True
        self._refuse_foreign(work.foreign)
        if self._options.force != "unknown":
            for refused in self._examined.refused:
                self._refuse_malformed(refused)
        for number in work.doubtful:
            self._watcher.trouble(
                f"{self.tally.name}: message {number} was in doubt after an interruption between its final dot and the"
                " reply; it is sent again"
            )
        self._replay(work)
        return self._complete()

    # -- before anything is sent ---------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        only = self._options.force == "unknown"
        return plan(self._examined.messages, self._journal.fates, self._options.policy.refusal, doubtful_only=only)

    def _reopen(self, force: Force) -> None:
        """Say what a forced run may double, and make the ledger forget the outcomes in question."""
        outcomes = [o.outcome for fate in self._journal.fates.values() for o in fate.outcomes.values()]
        delivered = outcomes.count(DELIVERED)
        refused = outcomes.count(BOUNCED) + outcomes.count(QUARANTINED)
        doubtful = sum(len(task.recipients) for task in self._plan().tasks if task.doubtful)
        forgotten: list[str] = []
        if force == "all":
            what = f"up to {delivered + doubtful} recipients may get a message twice; {refused} refused are tried again"
            forgotten = [DELIVERED, BOUNCED, QUARANTINED]
        elif force == "failed":
            what = f"{refused} recipients refused before are tried again; a sender may be told of a failure twice"
            forgotten = [BOUNCED, QUARANTINED]
        else:
            what = f"{doubtful} recipients in doubt are sent their message again and may get it twice"
        self._watcher.trouble(f"{self.tally.name}: --force={force}: {what}")
        if self._options.dry_run:
            return
        if force == "all" and delivered and not self._watcher.agrees(f"Hand in {self.tally.name} again?"):
            raise Usage(
                f"{self.tally.name} was not handed in again",
                safe="Nothing was sent",
                next="answer yes, or add --yes, if the duplicates are wanted",
            )
        if forgotten and self._ledger.reopen(self._key, forgotten):
            self._journal = Journal(self._ledger, self._key, self.tally.name, self._tell)

    def _tell_settled(self, work: Plan) -> None:
        for message, outcome in work.settled:
            self._journal.say(
                message.number, outcome.address, SKIPPED, f"{outcome.outcome} by an earlier import: {outcome.reply}"
            )
        for refused in self._examined.refused:
            fate = self._journal.fates.get(refused.fault.message)
            for outcome in fate.outcomes.values() if fate else ():
                self._journal.say(refused.fault.message, b"", SKIPPED, f"set aside before: {outcome.reply}")

    def _tell_intentions(self, work: Plan) -> None:
        for foreign in work.foreign:
            for index, reason in foreign.reasons.items():
                rcpt = foreign.message.rcpts[index].path
                self._journal.say(foreign.message.number, rcpt, QUARANTINED, reason)
        for task in work.tasks:
            for index in task.recipients:
                self._journal.say(task.message.number, task.message.rcpts[index].path, PENDING, "it would be handed in")
        for refused in self._examined.refused:
            if not self._settled_before(refused.fault.message):
                self._journal.say(refused.fault.message, b"", QUARANTINED, refused.fault.reason)

    # -- setting aside -------------------------------------------------------------------------------------------

    def _aside(self) -> Aside:
        """Made only when something has to be set aside: an import that goes well needs no directory for it."""
        return Aside(make_origin(self._options.spool, self._origin), self._stem, self._options.node)

    def _refuse_foreign(self, found: list[Foreign]) -> None:
        """Set the recipients aside that this site does not take; one commit for all of them."""
        for foreign in found:
            message = foreign.message
            reason = next(iter(foreign.reasons.values()))
            name = self._aside().message(self._examined.batch, message, foreign.reasons, "foreign", reason)
            outcomes = [
                Outcome(index, message.rcpts[index].path, QUARANTINED, why, foreign.attempt)
                for index, why in foreign.reasons.items()
            ]
            fate = self._journal.fates.get(message.number)
            self._journal.settle(
                message.number,
                message.mail.path,
                foreign.attempt - 1,
                outcomes,
                recipients=len(message.rcpts),
                doubtful=fate is not None and fate.state == FINISHING,
            )
            self._trouble(f"message {message.number}: {reason}: see {name} in bad/")
        self._journal.flush()

    def _refuse_malformed(self, refused: Refused) -> None:
        """Set a message aside that the grammar refuses, octet for octet."""
        fault = refused.fault
        if self._settled_before(fault.message):
            return
        name = self._aside().extract(self._file, fault.message, refused.start, refused.end, str(fault))
        outcome = Outcome(0, b"", QUARANTINED, fault.reason, 0)
        self._journal.settle(fault.message, b"", 0, [outcome], recipients=1)
        self._journal.flush()
        self._trouble(f"{fault}: see {name} in bad/")

    # -- sending -------------------------------------------------------------------------------------------------

    def _replay(self, work: Plan) -> None:
        engine = self._engine
        assert engine is not None
        context = Context(
            batch=self._examined.batch,
            file=self._file,
            sha256=digest_of(self._key),
            node=self._options.node,
            target=engine.target,
            bounce=self._options.bounce,
            journal=self._journal,
            aside=self._aside,
            complain=self._trouble,
            now=self._options.now,
            stamp=self._examined.stamp,
        )
        before = engine.stopped
        with self._ledger.hurried() if len(work.tasks) >= MANY else nullcontext():
            try:
                left = engine.run(MessageDelivery(context, task) for task in work.tasks)
            finally:
                self._journal.flush()  # also when the batch can be read no further: what was answered stays answered
        for delivery in left:
            for rcpt in delivery.job.rcpts:
                self._journal.say(delivery.number, rcpt.path, DEFERRED, f"451 4.4.1 {engine.stopped}")
        if not engine.stopped:
            owed = notices(self._examined.messages, self._journal.fates)
            engine.run(NoticeDelivery(context, notice) for notice in owed)
        if engine.stopped != before:
            self._trouble(
                f"{engine.stopped}. What it did not take stays here. Next: see to it, then run the import again"
            )

    def _complete(self) -> bool:
        numbers = [message.number for message in self._examined.messages]
        numbers += [refused.fault.message for refused in self._examined.refused]
        complete = self._journal.complete(numbers)
        self.tally.later = self.tally.later or not complete
        self.tally.bad = self.tally.bad or self._journal.unreturnable > 0
        return complete

    def _settled_before(self, number: int) -> bool:
        fate = self._journal.fates.get(number)
        return fate is not None and fate.state == DONE

    # -- telling -------------------------------------------------------------------------------------------------

    def _tell(self, line: Line) -> None:
        self.tally.count(line.outcome)
        self._watcher.line(line)

    def _trouble(self, what: str) -> None:
        self._watcher.trouble(f"{self.tally.name}: {what}")
