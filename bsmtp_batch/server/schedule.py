"""Pushes that nobody outside asks for: as soon as mail is there, or every so often."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RETRY = 300.0
"""Seconds after which a push "at once" that left something behind is tried again."""


@dataclass(frozen=True)
class Entry:
    """A ``peer`` that is pushed ``routes``, ``every`` so many seconds while anything waits for it; 0: at once. ``open``
    says whether it is time for it at all (its window)."""

    peer: str
    routes: tuple[str, ...]
    every: float
    open: Callable[[], bool]


class Schedule:
    """``fresh`` and ``sealed`` tell whether a route has mail that is in no batch yet, and batches. ``start`` begins a
    push to a peer, and tells whether it did; what it begins runs elsewhere."""

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        fresh: Callable[[str], bool],
        sealed: Callable[[str], bool],
        start: Callable[[str, tuple[str, ...]], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._fresh = fresh
        self._sealed = sealed
        self._start = start
        self._now = now
        self._last: dict[str, float] = {}

    def look(self) -> None:
        """Begin what is due; to be called again and again."""
        for entry in self._entries:
            if self._due(entry) and entry.open() and self._start(entry.peer, entry.routes):
                self._last[entry.peer] = self._now()

    def _due(self, entry: Entry) -> bool:
        fresh = any(map(self._fresh, entry.routes))
        if entry.every == 0 and fresh:
            return True
        since = self._now() - self._last.get(entry.peer, float("-inf"))
        return since >= (entry.every or RETRY) and (fresh or any(map(self._sealed, entry.routes)))
