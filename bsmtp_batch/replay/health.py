"""What the results of a run say about the target: whether it is well enough to be given more."""

from __future__ import annotations

from bsmtp_batch.replay.contract import Kind, Result, Unreachable

MAX_LOSSES = 3
"""Connections lost in a row, with nothing settled in between, after which a run stops. Where several are open, one
disturbance costs all of them."""


class Health:
    """Of the target called ``name``, to which there are up to ``connections``."""

    def __init__(self, name: str, connections: int = 1) -> None:
        self.stopped = ""
        """Why the target takes no more in this run; ``""`` as long as it does. It is not tried again then: a target
        that is away costs one time-out and not one for each batch."""
        self.code = 0
        """The exit code that goes with it."""
        self._name = name
        self._most = MAX_LOSSES + connections - 1
        self._losses = 0

    def away(self, unreachable: Unreachable) -> None:
        """There is no connection, and none comes about."""
        self.stopped, self.code = str(unreachable), unreachable.code

    def settled(self) -> None:
        """A recipient has an answer that stands."""
        self._losses = 0

    def weigh(self, result: Result) -> None:
        """Decide what ``result`` says about the target."""
        if any(verdict.kind in (Kind.DELIVERED, Kind.REJECTED) for verdict in result.verdicts):
            self.settled()
        if not result.ended:
            return
        self._losses += 1
        if result.leave:
            self.code = Unreachable.code
            self.stopped = f"{self._name} asks to be left alone for now: {result.ended}"
        elif self._losses >= self._most:
            self.code = Unreachable.code
            self.stopped = f"{self._name} was lost {self._most} times in a row: {result.ended}"
