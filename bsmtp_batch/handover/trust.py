"""Whether a batch may be taken on the word of whoever brings it, or needs the signature of its origin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bsmtp_batch.errors import Bad, Setting
from bsmtp_batch.handover.parcel import Parcel

Verify = Callable[[bytes, bytes, str], str]
"""Manifest, signature, origin: what is wrong with the signature, in words for people; ``""`` when it is good."""


@dataclass(frozen=True)
class Trust:
    """What is asked of the signature of a batch.

    ``required``: a batch without one is refused. ``verify`` is None where no allowed signers are known; then a
    signature that is there is carried along and not looked at.
    """

    required: bool = False
    verify: Verify | None = None

    def check(self, parcel: Parcel) -> None:
        """Raise :class:`~bsmtp_batch.errors.Bad` unless ``parcel`` may be taken; what ``verify`` raises, and
        :class:`~bsmtp_batch.errors.Setting` when a signature is required that nobody can check."""
        if self.required and self.verify is None:
            raise Setting(
                f"batch {parcel.name} is not taken: its signature is required, and no allowed signers are named",
                safe="Nothing of it was stored and it was not acknowledged, so the far side keeps it",
                next="name the file of allowed signers in the settings",
            )
        wrong = "it is not signed" if self.required and not parcel.signature else self._wrong(parcel)
        if wrong:
            raise Bad(
                f"batch {parcel.name} is not taken: {wrong}",
                safe="Nothing of it was stored and it was not acknowledged, so the far side keeps it",
                next=f"see that {parcel.manifest.origin} signs and that its key is among the allowed signers",
            )

    def _wrong(self, parcel: Parcel) -> str:
        if self.verify is None or not parcel.signature:
            return ""
        return self.verify(parcel.raw, parcel.signature, parcel.manifest.origin)


UNSIGNED = Trust()
"""Nothing is asked of signatures."""
