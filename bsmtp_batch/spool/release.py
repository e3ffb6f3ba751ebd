"""What a receipt does: the one way out of ``ready/``."""

from __future__ import annotations

from bsmtp_batch.errors import Bad
from bsmtp_batch.spool import durable, listing, names, recover
from bsmtp_batch.spool.store import MANIFEST, Route


def release(route: Route, name: str, sha256: str) -> bool:
    """Move the batch ``name`` to ``kept/`` because the far side said it is safe there; the caller holds
    ``contact.lock``.

    Returns False when it had been released before. Raises :class:`~bsmtp_batch.errors.Bad` for a receipt that matches
    no batch of ours: it releases nothing. The batch goes first: its manifest alone in ``ready/`` is a row of the
    table, the batch without one could be taken for unfinished.
    """
    parsed = names.parse_batch_name(name)
    expected = sha256_of(route, name) if parsed is not None and parsed[0] == route.name else None
    if expected != sha256:
        raise _no_match(name, "was never made here" if expected is None else "has another sha256")
    if not listing.is_there(route.at(names.READY, name)):
        return False
    durable.rename_durably(route.at(names.READY, name), route.at(names.KEPT, name))
    recover.finish_release(route, name)
    return True


def sha256_of(route: Route, name: str) -> str | None:
    """The hex sha256 of our batch ``name``; None when this spool did not make it, or has forgotten it."""
    parsed = names.parse_batch_name(name)
    if parsed is None or parsed[0] != route.name:
        return None
    try:
        intent = route.intent(parsed[1], done=True)
    except FileNotFoundError:
        return None
    return intent.sha256 if intent.name == name else None


def remove_kept(route: Route, name: str) -> None:
    """The time of the acknowledged batch ``name`` is over; the caller holds ``contact.lock``."""
    durable.remove(route.at(names.KEPT, name))
    durable.fsync_dir(route.at(names.KEPT))
    recover.finish_expiry(route, name)


def manifest_path(route: Route, name: str) -> str:
    """Where the manifest of a sealed batch is."""
    return route.at(names.READY, name + MANIFEST)


def _no_match(name: str, why: str) -> Bad:
    return Bad(
        f"a receipt for {name!r} matches nothing: it {why}",
        safe="The batches that wait here go on waiting",
        next="find out who wrote that receipt; a far side that lost its spool may repeat old ones",
    )
