"""What the ledger's questions are answered with: frozen rows, times in seconds since 1970, addresses as bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

PENDING, FINISHING, DONE = "pending", "finishing", "done"
"""States of a message: something is still to be sent; its final dot was about to be sent (in doubt, once nobody
works on it any more); every recipient has an outcome that stands."""

DELIVERED, DEFERRED, BOUNCED, QUARANTINED = "delivered", "deferred", "bounced", "quarantined"
"""Outcomes of a recipient. Only ``deferred`` is tried again."""

NO_DSN, DSN_DUE, DSN_SENT, DSN_KEPT = "", "due", "sent", "kept"
"""What became of the notice to the sender: none is owed; owed; the target took it; it could not be handed over for
good, and the message lies in ``bad/``."""


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact with a peer: ``direction`` is push, pull, receive or dequeue; ``result`` is ``ok`` or a sentence.

    ``code`` 78: nothing will come of it before somebody changes a setting. Over ODMR ``batches`` counts messages.
    """

    peer: str
    direction: str
    started: float
    ended: float
    batches: int
    octets: int
    result: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch this node made (``direction`` out, ``party`` the route) or was given (in, the origin)."""

    direction: str
    party: str
    name: str
    sha256: str
    sequence: int
    messages: int
    recipients: int
    octets: int
    state: str
    reason: str
    seen: float
    changed: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient; ``recipient`` counts from 0 within the message, ``attempt`` from 1."""

    recipient: int
    address: bytes
    outcome: str
    reply: str
    attempt: int
    dsn: str = NO_DSN


@dataclass(frozen=True, slots=True)
class Fate:
    """What is known about one message of a batch; ``outcomes`` holds the recipients that were tried."""

    message: int
    sender: bytes
    state: str
    attempts: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """News about one message, to be written in one go with others (see ``Ledger.step``)."""

    message: int
    sender: bytes
    state: str
    attempts: int
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """A recipient whose message lies in ``bad/``, and why."""

    batch: str
    message: int
    address: bytes
    reply: str
    changed: float
