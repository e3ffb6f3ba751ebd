"""What a courier is. The docstrings are the contract; ``tests/courier/conformance.py`` holds every courier to it.

A courier moves files and receipts for one contact with one far end. It decides nothing: what may be taken, what is
stored and what is released is decided by :mod:`bsmtp_batch.courier.contact`, the same for all couriers.

Three rules hold for every method:

* It may be called again with the same arguments, in this contact or a later one, also after a kill in the middle;
  what was done already is then left as it is.
* :class:`~bsmtp_batch.errors.Bad` concerns this one batch, and the contact goes on with the next.
  :class:`Cut` ends the contact. A plain :class:`~bsmtp_batch.errors.Later` concerns this batch, for now.
* What the far side says (names, sizes, manifests, receipts) is checked before it is used, never joined to a path, and
  never followed as a link.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from bsmtp_batch.errors import Later
from bsmtp_batch.handover.parcel import Parcel, Receipt

Moved = Callable[[int], None]
"""Told how many more octets of the batch (as it is uncompressed) went by, each time some did.

A courier that waits for something else calls it with 0, every few seconds at the least. It may raise, a :class:`Cut`
when the time of the contact is over: the courier ends what it has started and lets the exception through, and what has
arrived so far stays where the next contact can go on.
"""


class Cut(Later):
    """The far end cannot be reached, or not any more."""


@dataclass(frozen=True)
class Refusal:
    """Something the far side has that is not taken: ``what``, and why; ``code`` is 65, 75, or 0 for a mere remark."""

    what: str
    reason: str
    code: int


@dataclass(frozen=True)
class Sent:
    """What became of a batch that was sent: ``moved`` is false when the far side had it already; ``receipt`` is its
    word that the batch is safe there, None when that comes with a later contact."""

    moved: bool
    receipt: Receipt | None


class Courier(ABC):
    """One contact. A context manager; nothing is reached before it is entered."""

    peer: str
    """Who the far end is, for people and for the ledger."""

    def __enter__(self) -> Self:
        """Reach the far end. Raises :class:`Cut`."""
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """End the contact; never raises."""

    @abstractmethod
    def receipts(self, route: str) -> Iterator[Receipt | Refusal]:
        """The receipts that wait for us there, for batches of our ``route``; they stay until :meth:`clear`.

        A receipt is only what the far side says: the caller checks name and sha256.
        """

    @abstractmethod
    def clear(self, route: str, receipt: Receipt) -> None:
        """``receipt`` has been carried out, durably: the far side may forget it, and its copy on a medium may go."""

    @abstractmethod
    def send(self, parcel: Parcel, path: str, moved: Moved) -> Sent:
        """Hand the batch in file ``path`` over, with its manifest.

        Until the batch is whole and durable on the far side nothing there has its final name, and its manifest is
        there first. Raises :class:`~bsmtp_batch.errors.Bad` when the far side has another batch of that name, which
        is left alone, and when ``path`` is not what its manifest says.
        """

    @abstractmethod
    def offers(self, routes: list[str] | None) -> Iterator[Parcel | Refusal]:
        """What the far side has for us and nobody has acknowledged yet, for ``routes`` or for all.

        Batches that we made ourselves may be among them.
        """

    @abstractmethod
    def fetch(self, parcel: Parcel, into: str, moved: Moved) -> None:
        """Bring the offered batch into the file ``into``, which may hold the beginning of it from a contact that
        was cut: go on there or start anew.

        Returns when all octets are there, as many as the manifest says; durability and content are checked by the
        caller. Raises :class:`~bsmtp_batch.errors.Later` when they are not all there yet.
        """

    @abstractmethod
    def acknowledge(self, parcel: Parcel) -> None:
        """Tell the far side that the offered batch is durable here. Called only when it is."""
