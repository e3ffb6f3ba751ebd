"""Take a batch in: is it here already, is it what its manifest says, and then its final name.

The receipt that the far side gets is the consequence of :meth:`Intake.held` or :meth:`Intake.keep` and of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bsmtp_batch.batch.manifest import Manifest, ManifestError
from bsmtp_batch.errors import Bad, Later
from bsmtp_batch.handover.parcel import Parcel
from bsmtp_batch.handover.trust import UNSIGNED, Trust
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.inbox import Inbox, digest_of
from bsmtp_batch.spool.sequences import Sequences

IMPORTED = "done"
"""The state in which the ledger vouches for a batch whose file is gone."""


class Differs(Later):
    """What came is not (yet) the batch that its manifest describes."""


@dataclass(frozen=True)
class Arrived:
    """A batch is safe here: where, and a remark about its number (``""``: none)."""

    path: str
    remark: str


class Intake:
    """Takes batches in for one contact, those that ``trust`` lets pass. The caller holds ``inbox.intake()`` around each
    batch."""

    def __init__(self, ledger: Ledger, trust: Trust = UNSIGNED) -> None:
        self._ledger = ledger
        self._trust = trust
        self._admitted: Parcel | None = None
        self._before: dict[str, tuple[Inbox, Sequences]] = {}
        self._imported: dict[str, dict[str, str]] = {}

    def admit(self, parcel: Parcel) -> None:
        """Ask whether ``parcel`` may be taken at all; to be called before anything is made or moved for it.

        Raises what :meth:`~bsmtp_batch.handover.trust.Trust.check` raises.
        """
        if parcel != self._admitted:
            self._trust.check(parcel)
            self._admitted = parcel

    def held(self, inbox: Inbox, parcel: Parcel) -> bool:
        """Whether this very batch is safe here already, so that it may be acknowledged (again).

        Raises :class:`~bsmtp_batch.errors.Bad` when another batch has its name: ours stays, theirs is not taken; and
        ``OSError``, and what :meth:`admit` raises.
        """
        self.admit(parcel)
        inbox.resume_part(parcel.name)
        for directory, path in inbox.places(parcel.name):
            # What import found bad may have been damaged here; only the same bad bytes again are a repetition.
            found = digest_of(path)[1] if directory == names.BAD else _sha256(inbox, parcel.name, path)
            if found == parcel.sha256:
                # Seen is not durable: whoever brought it may have been stopped between the rename and the fsync, or
                # before its number was noted, which would be told as a gap for ever.
                durable.fsync_dir(inbox.at(directory))
                _see(inbox, parcel.manifest, again=True)
                self._note_if_missing(inbox, parcel, directory)
                return True
            if directory != names.BAD:
                raise _other_bytes(parcel)
        known = self._known(inbox.origin).get(parcel.name)
        if known is not None and known != parcel.sha256:
            raise _other_bytes(parcel)
        return known is not None

    def keep(self, inbox: Inbox, parcel: Parcel) -> Arrived:
        """Store what the courier brought (``inbox.part(name)``) for good.

        Raises :class:`Differs` when it is not what the manifest says, and ``OSError``, and what :meth:`admit` raises;
        then nothing has its final name.
        """
        self.admit(parcel)
        size, sha256 = inbox.settle_part(parcel.name)
        manifest = parcel.manifest
        difference = manifest.matches(size, sha256, manifest.messages, manifest.recipients)
        if difference is not None:
            raise Differs(
                f"{parcel.name} did not come whole: {difference}",
                safe="It was not acknowledged, so the far side keeps it",
                next="the next contact tries again",
            )
        path = inbox.publish(parcel.name, parcel.raw, parcel.signature)
        remark = self._remarkable(inbox, manifest)
        self.note(inbox, parcel, names.NEW, remark)
        return Arrived(path, remark)

    def gaps(self) -> Iterator[tuple[str, str]]:
        """At the end of the contact: origin and sentence for each gap that it left. Raises ``OSError``."""
        for inbox, before in self._before.values():
            for sentence in inbox.sequences().gaps_since(before):
                yield inbox.origin, sentence

    def _remarkable(self, inbox: Inbox, manifest: Manifest) -> str:
        """Note the number; what is to be said of it now. What came of a gap of this very contact is nothing yet."""
        _, before = self._before.setdefault(inbox.origin, (inbox, inbox.sequences()))
        remark = _see(inbox, manifest)
        was_missing = before.is_missing(manifest.origin, manifest.route, manifest.sequence)
        if remark.startswith("gap:") or (remark.startswith("late:") and not was_missing):
            return ""
        return remark

    def note(self, inbox: Inbox, parcel: Parcel, state: str, reason: str) -> None:
        """Write the batch into the ledger."""
        m = parcel.manifest
        self._ledger.note_batch(
            "in",
            inbox.origin,
            m.name,
            m.sequence,
            m.sha256,
            m.messages,
            m.recipients,
            m.bytes,
            state,
            reason,
        )

    def _note_if_missing(self, inbox: Inbox, parcel: Parcel, state: str) -> None:
        """Give a batch its row when whoever brought it was stopped before writing it."""
        rows = self._ledger.batches(direction="in", party=inbox.origin)
        if not any(row.name == parcel.name for row in rows):
            self.note(inbox, parcel, state, "")

    def _known(self, origin: str) -> dict[str, str]:
        if origin not in self._imported:
            rows = self._ledger.batches(direction="in", party=origin, state=IMPORTED)
            self._imported[origin] = {row.name: row.sha256 for row in rows}
        return self._imported[origin]


def _see(inbox: Inbox, manifest: Manifest, *, again: bool = False) -> str:
    return inbox.see(
        manifest.origin,
        manifest.route,
        manifest.sequence,
        digest=manifest.digest(),
        previous=manifest.previous,
        again=again,
    )


def _sha256(inbox: Inbox, name: str, path: str) -> str:
    """What a stored batch was when it came: by its manifest, by its bytes where that is gone."""
    raw = inbox.manifest(name)
    try:
        return Manifest.from_bytes(raw or b"").sha256
    except ManifestError:
        return digest_of(path)[1]


def _other_bytes(parcel: Parcel) -> Bad:
    return Bad(
        f"ALARM: another batch with the name {parcel.name} is here already",
        safe="The one that is here stays as it is, the other was refused and not acknowledged",
        next="find out who made a second batch under this name: a restored spool repeats numbers (see OPERATING)",
    )
