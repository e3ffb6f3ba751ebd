"""How much and how long one contact may move, and who watches it.

Everything that goes by is told through :meth:`Bounds.batch`, so that the end of a window also stops a batch that is
under way: what was moved of it stays, and a courier that can goes on there the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from bsmtp_batch.courier.contract import Cut, Moved
from bsmtp_batch.errors import Later
from bsmtp_batch.handover.parcel import Parcel

_T = TypeVar("_T")


class Over(Cut):
    """The time of the contact is over."""


class Watch(Protocol):
    """Whoever follows what goes by. What these methods raise ends the contact."""

    def begin(self, parcel: Parcel, number: int, of: int) -> None:
        """``parcel`` is about to be moved, the ``number``-th (from 1) of ``of`` batches that are known of so far."""

    def moved(self, octets: int) -> None:
        """So many more octets of it went by; 0 is a sign of life."""

    def end(self) -> None:
        """Nothing more of it comes in this contact, whether or not it is whole."""


class Unwatched:
    """Nobody watches."""

    def begin(self, parcel: Parcel, number: int, of: int) -> None:
        """Nothing."""

    def moved(self, octets: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


UNWATCHED = Unwatched()


class Bounds:
    """The bounds of one contact: ``max_octets`` of batches (None: any number), ``until`` in seconds since 1970 as
    ``clock`` tells them (None: for ever)."""

    def __init__(
        self, max_octets: int | None, until: float | None, *, watch: Watch, clock: Callable[[], float]
    ) -> None:
        self._max = max_octets
        self._until = until
        self._watch = watch
        self._clock = clock
        self._spent = 0
        self._number = 0
        self._known = 0
        self._told = 0

    def each(self, items: Iterable[_T]) -> Iterator[_T]:
        """``items``, one for each batch, as long as there is time. Raises :class:`Over`."""
        chosen = list(items)
        self._known += len(chosen)
        for item in chosen:
            self._in_time()
            self._number += 1
            yield item

    @contextmanager
    def batch(self, parcel: Parcel) -> Iterator[Moved]:
        """Around the moving of ``parcel``: gives what a courier has to tell, which raises :class:`Over` in its time.

        Raises :class:`~bsmtp_batch.errors.Later` when ``parcel`` is beyond the bound. A batch that did not come to its
        end counts as what was told of it, every other one as :meth:`spend` says.
        """
        self._room(parcel)
        self._told = 0
        self._watch.begin(parcel, self._number, self._known)
        try:
            yield self._moved
        except BaseException:
            self._spent += self._told
            raise
        finally:
            self._watch.end()

    def spend(self, octets: int) -> None:
        """So many octets have been moved for good."""
        self._spent += octets

    def _moved(self, octets: int) -> None:
        self._told += octets
        self._watch.moved(octets)
        self._in_time()

    def _in_time(self) -> None:
        if self._until is not None and self._clock() >= self._until:
            raise Over(
                "the window of this contact is over",
                safe="What was moved stays, the rest waits",
                next="nothing: a contact in the next window goes on from here",
            )

    def _room(self, parcel: Parcel) -> None:
        if self._max is None or self._spent + parcel.size <= self._max:
            return
        if parcel.size > self._max:
            raise Later(
                f"it has {parcel.size} octets, and max_bytes lets no more than {self._max} go in one contact",
                safe="It stays where it is, and no contact with this bound will ever move it",
                next="raise max_bytes (--max-bytes), or make smaller batches where it comes from: seal_size, which"
                " holds for mail that is not sealed yet",
            )
        raise Later(
            f"with its {parcel.size} octets this contact would move more than max_bytes = {self._max}",
            safe=f"It stays where it is; {self._spent} octets were moved before it",
            next="nothing: the next contact begins anew to count",
        )
