"""What a dispatch tells: events about batches, lines about recipients, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bsmtp_batch.handover.events import Event
from bsmtp_batch.replay.journal import Line

SENT, LATER, REFUSED, NOTICED = "sent", "later", "refused", "noticed"
"""Kinds of events: every recipient of the batch is decided and the batch released; something of it is left; it cannot
be sent at all; something an operator should know about a message of it."""

_RANK = (0, 65, 75, 70, 78)


class Watcher(Protocol):
    """Whoever is told what happens. What these methods raise ends the dispatch, between two messages."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def line(self, line: Line) -> None:
        """What became of one recipient; it is in the ledger already."""


@dataclass
class Summary:
    """What a dispatch came to: batches released, octets of mail that the server took, the exit code, and ``ok`` or the
    first thing that was in the way."""

    batches: int = 0
    octets: int = 0
    code: int = 0
    result: str = "ok"
    tried: bool = False
    """Whether there was anything to send."""

    def count(self, event: Event) -> None:
        """Take note of ``event``."""
        self.batches += event.kind == SENT
        self.code = max(self.code, event.code, key=_rank)
        if event.code and self.result == "ok":
            self.result = event.note

    def add(self, other: Summary) -> None:
        """Take note of what another dispatch in the same contact came to."""
        self.batches += other.batches
        self.octets += other.octets
        self.code = max(self.code, other.code, key=_rank)
        self.result = other.result if self.result == "ok" else self.result
        self.tried = self.tried or other.tried


def _rank(code: int) -> int:
    return _RANK.index(code) if code in _RANK else len(_RANK)
