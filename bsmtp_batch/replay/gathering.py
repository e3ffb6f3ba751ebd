"""Who shares the next commit: those that are as far, and for a moment those that are about to be."""

from __future__ import annotations

import time
from collections.abc import Callable

from bsmtp_batch.replay.lane import Lane

SHARE = 0.5
"""How long a commit waits for others to be as far, in times of what a commit takes; while it runs they all wait."""
LONGEST = 0.005
"""Seconds it waits at most."""


class Gathering:
    """The lanes whose dots wait for a commit."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lanes: list[Lane] = []
        self._first = 0.0
        self._took = 0.001  # seconds of a commit, on average

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, lane: Lane) -> None:
        """``lane`` has come as far as a dot."""
        if not self._lanes:
            self._first = self._now()
        self._lanes.append(lane)

    def patience(self, on_their_way: int, flight: float) -> float:
        """Seconds to wait for more, when so many others are on their way, for as long as a ``flight`` takes; 0 or less:
        commit now. A server that takes longer over a message than a commit takes is not kept waiting for company."""
        if not on_their_way or flight > self._took:
            return 0.0
        return self._first + min(SHARE * self._took, LONGEST) - self._now()

    def take(self) -> list[Lane]:
        """All of them."""
        lanes, self._lanes = self._lanes, []
        return lanes

    def committed(self, since: float) -> None:
        """A commit that was begun at ``since`` has ended."""
        self._took += 0.2 * (self._now() - since - self._took)
