"""Flights on many connections, said and heard in one thread: what the usual case needs, and nothing that waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from bsmtp_batch.edge.readiness import Readiness
from bsmtp_batch.replay.lane import Lane, Phase
from bsmtp_batch.replay.steady import Odd, answers
from bsmtp_batch.wire.events import Verb
from bsmtp_batch.wire.states import TIMEOUTS

TICK = 0.25
"""Seconds between two looks at who has been waiting too long."""


class Ends(Protocol):
    """Whoever is told how flights end."""

    def landed(self, lane: Lane, replies: list[str]) -> None:
        """All was accepted; ``replies`` are the answers to the dot."""

    def strayed(self, lane: Lane, trouble: OSError | None) -> None:
        """Something else was answered, or nothing: ``lane.heard`` has it. ``trouble`` ended the saying."""


class Flights:
    """The lanes whose phase is ``ENVELOPE`` or ``DOT``."""

    def __init__(self, readiness: Readiness, ends: Ends, now: Callable[[], float] = time.monotonic) -> None:
        self._readiness = readiness
        self._ends = ends
        self._now = now
        self._watched: dict[int, Lane] = {}
        self._looked = 0.0
        self.out = 0
        """How many are on their way."""
        self.took = 0.0
        """Seconds of a flight, on average."""

    def say(self, lane: Lane, phase: Phase, data: bytes, *, dots: int, rcpts: int) -> None:
        """Send ``data``, after which ``lane`` is in ``phase`` and wants answers: so many to a dot, and those to an
        envelope of so many recipients."""
        assert lane.line is not None
        lane.phase = phase
        lane.dots, lane.rcpts = dots, rcpts
        lane.heard, lane.sent = b"", 0
        verb = Verb.END if phase is Phase.DOT else Verb.MAIL
        lane.since = self._now()
        lane.until = lane.since + TIMEOUTS[verb] * lane.patience
        self.out += 1
        if lane.place < 0:
            self._watch(lane)
        try:
            taken = lane.line.offer(data)
        except OSError as error:
            self._astray(lane, error)
            return
        lane.sent = taken
        if taken < len(data):
            lane.unsent = memoryview(data)[taken:]
            self._readiness.watch_room(lane.place, wanted=True)

    def wait(self, seconds: float) -> None:
        """Hear what has come on any lane, or comes within ``seconds``."""
        for place in self._readiness.wait(seconds):
            lane = self._watched.get(place)
            if lane is not None:
                self._stir(lane)
        now = self._now()
        if now - self._looked > TICK:
            self._looked = now
            for lane in [*self._watched.values()]:
                if lane.phase in (Phase.ENVELOPE, Phase.DOT) and now > lane.until:
                    self._astray(lane, TimeoutError())

    def leave(self, lane: Lane) -> None:
        """Look after ``lane`` no longer: somebody else is to use its connection, or nobody."""
        if lane.place >= 0:
            del self._watched[lane.place]
            self._readiness.forget(lane.place)
            lane.place = -1

    def _watch(self, lane: Lane) -> None:
        assert lane.line is not None
        lane.line.loosen()
        lane.place = lane.line.fileno()
        self._watched[lane.place] = lane
        self._readiness.watch(lane.place)

    def _stir(self, lane: Lane) -> None:
        if lane.phase not in (Phase.ENVELOPE, Phase.DOT):
            return  # what the server says while it is our turn is heard as an answer to the next flight
        assert lane.line is not None
        try:
            if lane.unsent is not None:
                self._go_on(lane)
            data = lane.line.arrived()
        except OSError as error:
            self._astray(lane, error if lane.unsent is not None else None)
            return
        if data is None:
            return
        lane.heard += data
        try:
            if not data or lane.unsent is not None:
                raise Odd
            replies = answers(lane.heard, lane.dots, lane.rcpts)
        except Odd:
            early = lane.unsent is not None
            self._astray(lane, BrokenPipeError("it answered before all was sent") if early else None)
            return
        if replies is None:
            lane.line.acknowledge()
        else:
            self.out -= 1
            self.took += 0.1 * (self._now() - lane.since - self.took)
            self._ends.landed(lane, replies)

    def _go_on(self, lane: Lane) -> None:
        """Send more of what did not fit. Raises ``OSError``."""
        assert lane.line is not None
        assert lane.unsent is not None
        taken = lane.line.offer(lane.unsent)
        if taken:
            lane.until = max(lane.until, self._now() + TIMEOUTS[Verb.END] * lane.patience)
        lane.sent += taken
        lane.unsent = lane.unsent[taken:]
        if not lane.unsent:
            lane.unsent = None
            self._readiness.watch_room(lane.place, wanted=False)

    def _astray(self, lane: Lane, trouble: OSError | None) -> None:
        lane.unsent = None
        self.out -= 1
        self.leave(lane)
        self._ends.strayed(lane, trouble)
