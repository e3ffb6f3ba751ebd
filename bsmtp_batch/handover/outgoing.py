"""Let batches go: which may be taken, and what a receipt does to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bsmtp_batch.batch.manifest import MAX_BYTES
from bsmtp_batch.errors import Problem
from bsmtp_batch.handover.parcel import Parcel, Receipt, parcel
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool import listing, names, recover
from bsmtp_batch.spool.locks import Busy
from bsmtp_batch.spool.release import release, sha256_of
from bsmtp_batch.spool.store import MANIFEST, SIGNATURE, SIGNATURE_CAP, Route


@dataclass(frozen=True)
class Hindrance:
    """Why something of ``route`` stays where it is; ``code`` is the exit code that says so."""

    route: str
    reason: str
    code: int


def enter(stack: ExitStack, routes: list[Route]) -> tuple[list[Route], list[Hindrance]]:
    """Hold ``contact.lock`` of each route until ``stack`` is closed, and finish what was left unfinished there.

    Returns the routes that are ours now, and why the others are not.
    """
    mine: list[Route] = []
    hindrances: list[Hindrance] = []
    for route in routes:
        try:
            stack.enter_context(route.contact())
            route.note_contact()
            recover.recover_contact(route)
            mine.append(route)
            _recover_seal(route)
        except Problem as problem:
            hindrances.append(Hindrance(route.name, str(problem), problem.code))
        except OSError as error:
            hindrances.append(Hindrance(route.name, f"{error.filename or route.path}: {error.strerror}", 75))
    return mine, hindrances


def _recover_seal(route: Route) -> None:
    try:
        with route.sealing():
            recover.recover_seal(route)
    except Busy:
        pass  # the sealer at work has done it, or is about to


def ready(route: Route) -> Iterator[Parcel | Hindrance]:
    """The batches of ``route`` that may be taken: lists done, manifest and batch in ``ready/``."""
    try:
        sealed = route.sealed()
    except OSError as error:
        yield Hindrance(route.name, f"{error.filename or route.path} cannot be read: {error.strerror}", 75)
        return
    for standing in sealed:
        try:
            yield one(route, standing.name)
        except OSError as error:
            yield Hindrance(route.name, f"{error.filename or standing.name} cannot be read: {error.strerror}", 75)
        except ValueError as error:
            yield Hindrance(route.name, f"manifest or signature of {standing.name} cannot be used: {error}", 65)
        except Problem as problem:
            yield Hindrance(route.name, f"{standing.name}: {problem.what}", problem.code)


def one(route: Route, name: str) -> Parcel:
    """The batch ``name`` of ``route``, which is sealed. Raises ``OSError``, ``ValueError`` and ``Bad``."""
    raw = listing.read_small(route.at(names.READY, name + MANIFEST), MAX_BYTES)
    try:
        signature = listing.read_small(route.at(names.READY, name + SIGNATURE), SIGNATURE_CAP)
    except FileNotFoundError:
        signature = b""
    return parcel(name, raw, signature)


def acknowledge(route: Route, receipt: Receipt, ledger: Ledger, *, reason: str = "") -> bool:
    """Carry out ``receipt`` under the route's ``contact.lock``; False when it was carried out before. ``reason`` is a
    sentence for the ledger.

    Raises :class:`~bsmtp_batch.errors.Bad` when it matches no batch, and ``OSError``.
    """
    if is_ours(route, receipt.name, receipt.sha256) and listing.is_there(route.at(names.READY, receipt.name)):
        # First, because it is never offered again once it has moved: a kill in between would leave it without its row.
        # The other way round the next receipt writes the same row again.
        note(route, receipt.name, names.KEPT, ledger, reason=reason)
    return release(route, receipt.name, receipt.sha256)


def is_ours(route: Route, name: str, sha256: str) -> bool:
    """Whether this spool made the batch: then it is not for us, wherever we meet it."""
    return sha256_of(route, name) == sha256


def made_here(route: Route, name: str) -> bool:
    """Whether this spool made a batch of this name, and still knows of it."""
    return sha256_of(route, name) is not None


def note(route: Route, name: str, state: str, ledger: Ledger, *, reason: str = "") -> None:
    """Write the new state of our batch ``name`` into the ledger."""
    parsed = names.parse_batch_name(name)
    assert parsed is not None, name
    intent = route.intent(parsed[1], done=True)
    ledger.note_batch(
        "out",
        route.name,
        name,
        intent.sequence,
        intent.sha256,
        sum(m.messages for m in intent.members),
        sum(m.recipients for m in intent.members),
        intent.size,
        state,
        reason,
    )
