"""What the sealer is told beforehand, and what it has to say while it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Caps:
    """The most that goes into one batch: ``octets`` of fragments (a single larger message still gets a batch of its
    own) and ``messages``."""

    octets: int = 50_000_000
    messages: int = 10_000


@dataclass(frozen=True)
class Waiting:
    """What waits in ``new/``: fragments, octets, and when the oldest was handed in (seconds since 1970; None:
    nothing)."""

    messages: int
    octets: int
    oldest: float | None


@dataclass(frozen=True)
class Sealed:
    """A batch is in ``ready/`` and may be taken."""

    route: str
    name: str
    sequence: int
    messages: int
    recipients: int
    octets: int
    sha256: str


@dataclass(frozen=True)
class SetAside:
    """A fragment failed its check: it lies in ``dead/`` with the reason beside it, and is in no batch."""

    route: str
    name: str
    path: str
    reason: str


@dataclass(frozen=True)
class Left:
    """Something stays where it is for the next run, and why."""

    route: str
    reason: str


@dataclass(frozen=True)
class Recovered:
    """What an earlier run had left unfinished is at rest again."""

    route: str
    what: str


Event = Sealed | SetAside | Left | Recovered
