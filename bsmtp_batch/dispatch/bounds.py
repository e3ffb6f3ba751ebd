"""How much and how long one dispatch may send."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bounds:
    """``max_octets`` of mail (None: any amount), ``until`` in seconds since 1970 as ``clock`` tells them (None: for
    ever). ``ended`` says that we have been asked to end. Messages that went by are counted with :meth:`spend`."""

    def __init__(
        self,
        max_octets: int | None = None,
        until: float | None = None,
        *,
        clock: Callable[[], float] = time.time,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._max = max_octets
        self._until = until
        self._clock = clock
        self._ended = ended
        self._spent = 0

    @property
    def over(self) -> str:
        """Why nothing more may be begun; ``""`` as long as it may."""
        if self._ended():
            return "the program was asked to end"
        if self._until is not None and self._clock() >= self._until:
            return "the window of this contact is over"
        return ""

    def against(self, octets: int) -> str:
        """Why a message of so many octets may not be begun now; ``""`` when it may."""
        if self.over or self._max is None or self._spent + octets <= self._max:
            return self.over
        if octets > self._max:
            return f"a message has {octets} octets, more than max_bytes = {self._max} lets go in any contact"
        return f"this contact would send more than max_bytes = {self._max}"

    def spend(self, octets: int) -> None:
        """A message of so many octets is about to go."""
        self._spent += octets
