"""Whose turn is next where several connections ask: the order of the batch, but a large message may be passed by.

A text of many megabytes occupies its connection for as long as it takes. At most half of the connections carry one
while anything smaller waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bsmtp_batch.replay.engine import Delivery

LARGE = 4 << 20
"""Octets of a large message."""
WORTH = 8
"""Messages for which a further connection is opened. Each costs the server a process, and a greeting."""


def is_large(delivery: Delivery | None) -> bool:
    """Whether ``delivery`` is of the kind that may be passed by."""
    return delivery is not None and delivery.job.size >= LARGE


class Source:
    """The deliveries of one run; ``room`` says whether one more large message may be begun now."""

    def __init__(self, deliveries: Iterable[Delivery], room: Callable[[], bool]) -> None:
        self._more = iter(deliveries)
        self._room = room
        self._waiting: deque[Delivery] = deque()
        self._passed: deque[Delivery] = deque()

    def worth(self, most: int) -> int:
        """How many connections are worth opening, up to ``most``, for what is to come. Raises what the source does."""
        self._waiting.extend(islice(self._more, max(0, most * WORTH - len(self._waiting))))
        weight = sum(WORTH if is_large(one) else 1 for one in self._waiting)
        return min(most, -(-weight // WORTH))

    def next(self) -> Delivery | None:
        """Whose turn it is now, if anybody's. Raises what the source does."""
        if self._passed and self._room():
            return self._passed.popleft()
        while True:
            delivery = self._waiting.popleft() if self._waiting else next(self._more, None)
            if delivery is None:  # nothing smaller is there that they could be in the way of
                return self._passed.popleft() if self._passed else None
            if not is_large(delivery) or self._room():
                return delivery
            self._passed.append(delivery)

    def put_back(self, delivery: Delivery) -> None:
        """Its turn did not come, or part of it has to have another."""
        self._waiting.appendleft(delivery)

    def left(self) -> list[Delivery]:
        """All that is still here, in its order. Raises what the source does."""
        found = [*self._waiting, *self._passed, *self._more]
        self._waiting.clear()
        self._passed.clear()
        return sorted(found, key=lambda delivery: delivery.number)
