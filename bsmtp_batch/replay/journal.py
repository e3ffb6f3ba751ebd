"""The ledger's side of one import: outcomes gathered, and written before the next final dot goes out.

What a message came to waits in memory until the next message of its connection is about to finish, and both facts are
one commit, which all connections share that are as far: one fsync for all of them. A crash in between leaves one
message of each connection marked as finishing, and its name in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from bsmtp_batch.ledger import Fate, Ledger, Outcome, Settled
from bsmtp_batch.ledger.rows import DONE, DSN_DUE, DSN_KEPT, FINISHING, PENDING
from bsmtp_batch.replay.plan import is_final


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one recipient, for whoever watches: an outcome and the reply that led to it."""

    batch: str
    message: int
    rcpt_to: bytes
    outcome: str
    reply: str


class Journal:
    """The fates of the messages of the batch that the ledger knows by ``key``, called ``name``; ``report`` gets every
    line once it is durable. All methods raise :class:`~bsmtp_batch.errors.Later` when the ledger cannot be written."""

    def __init__(self, ledger: Ledger, key: str, name: str, report: Callable[[Line], None]) -> None:
        self.fates = ledger.fates(key)
        """What is known, changes that are not written yet included."""
        self.unreturnable = 0
        """Reports that no sender could be given in this run."""
        self._ledger = ledger
        self._key = key
        self._name = name
        self._report = report
        self._news: list[Settled] = []
        self._marks: list[Settled] = []
        self._lines: list[Line] = []

    def mark(self, message: int, sender: bytes, attempt: int) -> None:
        """Take note that ``message`` is about to finish; its dot waits for :meth:`commit`."""
        mark = Settled(message, sender, FINISHING, attempt)
        self._marks.append(mark)
        self._news.append(mark)

    def commit(self) -> None:
        """Write what waits, the marks of any number of connections with it; returns when that is durable."""
        try:
            self.flush()
        except BaseException:
            # Their dots will not be sent: what came before may still be written, these must not.
            given_up = {id(mark) for mark in self._marks}
            self._news = [news for news in self._news if id(news) not in given_up]
            raise
        finally:
            self._marks = []

    def begin(self, message: int, sender: bytes, attempt: int) -> None:
        """Write what waits, and that ``message`` is about to finish; returns when that is durable."""
        self.mark(message, sender, attempt)
        self.commit()

    def settle(
        self,
        message: int,
        sender: bytes,
        attempt: int,
        outcomes: Iterable[Outcome],
        *,
        recipients: int,
        doubtful: bool = False,
    ) -> None:
        """Take note of ``outcomes`` of ``message``, which has so many ``recipients``; written with what comes next.

        ``doubtful`` leaves the message marked as finishing until it is done: a dot of it, now or in an earlier run,
        was sent and never answered.
        """
        found = tuple(outcomes)
        before = self.fates.get(message)
        known = {outcome.recipient: outcome for outcome in found}
        if before is not None:
            known = before.outcomes | known
        done = len(known) >= recipients and all(is_final(known.get(index)) for index in range(recipients))
        state = DONE if done else FINISHING if doubtful else PENDING
        self.fates[message] = Fate(message, sender, state, attempt, known)
        self._news.append(Settled(message, sender, state, attempt, found))
        self._lines += [self.line(message, outcome.address, outcome.outcome, outcome.reply) for outcome in found]

    def note_dsn(self, message: int, outcomes: Iterable[Outcome], state: str) -> None:
        """Write what became of the report about ``outcomes`` of ``message``."""
        found = list(outcomes)
        self.flush()
        self.unreturnable += state == DSN_KEPT
        self._ledger.note_dsn(self._key, message, [outcome.recipient for outcome in found], state)
        known = self.fates[message].outcomes
        known |= {outcome.recipient: replace(outcome, dsn=state) for outcome in found}

    def flush(self) -> None:
        """Write what waits, and report it."""
        if self._news:
            self._ledger.step(self._key, self._news)
            self._news = []
        lines, self._lines = self._lines, []
        for line in lines:
            self._report(line)

    def say(self, message: int, rcpt: bytes, outcome: str, reply: str) -> None:
        """Report something that changes nothing in the ledger."""
        self._report(self.line(message, rcpt, outcome, reply))

    def line(self, message: int, rcpt: bytes, outcome: str, reply: str) -> Line:
        """A line about this batch."""
        return Line(self._name, message, rcpt, outcome, reply)

    def complete(self, messages: Iterable[int]) -> bool:
        """Whether nothing is left to do for any of ``messages``, reports to senders included."""
        for message in messages:
            fate = self.fates.get(message)
            if fate is None or fate.state != DONE or any(o.dsn == DSN_DUE for o in fate.outcomes.values()):
                return False
        return True
