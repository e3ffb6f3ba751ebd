"""What of a batch is still to be done: the messages in it, what the ledger knows of them, and whose mail is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bsmtp_batch.batch.events import Message
from bsmtp_batch.ledger.rows import BOUNCED, DEFERRED, DELIVERED, DSN_DUE, FINISHING, QUARANTINED, Fate, Outcome

FINAL = frozenset({DELIVERED, BOUNCED, QUARANTINED})
"""Outcomes that stand: the recipient is not tried again."""


@dataclass(frozen=True, slots=True)
class Task:
    """A message to hand in for some of its recipients (places in ``message.rcpts``); ``attempt`` counts from 1.

    ``doubtful``: an earlier attempt ended between the final dot and its reply.
    """

    message: Message
    recipients: tuple[int, ...]
    attempt: int
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Foreign:
    """Recipients of a message whose mail is not taken, each with the reason."""

    message: Message
    reasons: Mapping[int, str]
    attempt: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A report the sender of ``message`` is owed about recipients that were refused in one attempt."""

    message: Message
    outcomes: tuple[Outcome, ...]
    attempt: int


@dataclass(slots=True)
class Plan:
    """The work, in the order of the batch."""

    tasks: list[Task] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    settled: list[tuple[Message, Outcome]] = field(default_factory=list)

    @property
    def doubtful(self) -> list[int]:
        """The numbers of the messages in doubt."""
        return [task.message.number for task in self.tasks if task.doubtful]


def plan(
    messages: Iterable[Message],
    fates: Mapping[int, Fate],
    refusal: Callable[[bytes], str] = lambda path: "",
    *,
    doubtful_only: bool = False,
) -> Plan:
    """The plan for ``messages`` given their ``fates``; with ``doubtful_only`` it has only tasks that are in doubt.

    ``refusal`` says why a recipient (an address without brackets) is not taken, ``""`` when it is.
    """
    found = Plan()
    for message in messages:
        fate = fates.get(message.number) or Fate(message.number, message.mail.path, "", 0)
        doubtful = fate.state == FINISHING
        wanted: list[int] = []
        foreign: dict[int, str] = {}
        for index, rcpt in enumerate(message.rcpts):
            outcome = fate.outcomes.get(index)
            if outcome is not None and outcome.outcome in FINAL:
                found.settled.append((message, outcome))
            elif reason := refusal(rcpt.path):
                foreign[index] = reason
            else:
                wanted.append(index)
        if doubtful_only and not doubtful:
            continue
        if foreign:
            found.foreign.append(Foreign(message, foreign, fate.attempts + 1))
        if wanted:
            found.tasks.append(Task(message, tuple(wanted), fate.attempts + 1, doubtful))
    return found


def notices(messages: Iterable[Message], fates: Mapping[int, Fate]) -> list[Notice]:
    """The reports that are owed, one for each attempt of each message."""
    found = []
    for message in messages:
        fate = fates.get(message.number)
        due = [outcome for outcome in fate.outcomes.values() if outcome.dsn == DSN_DUE] if fate else []
        for attempt in sorted({outcome.attempt for outcome in due}):
            of_it = tuple(sorted((o for o in due if o.attempt == attempt), key=lambda o: o.recipient))
            found.append(Notice(message, of_it, attempt))
    return found


def is_final(outcome: Outcome | None) -> bool:
    """Whether ``outcome`` stands; None, no outcome so far, does not."""
    return outcome is not None and outcome.outcome != DEFERRED
