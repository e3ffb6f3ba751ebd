"""One contact, whatever the courier: receipts first, then batches, small ones before large ones.

Yields what happens as it happens. A batch that makes trouble is told of and left, and the contact goes on;
:class:`~bsmtp_batch.courier.contract.Cut` ends it. Everything may be run again at any time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bsmtp_batch.courier.contract import Courier, Cut, Moved, Refusal
from bsmtp_batch.errors import Bad, Later, Problem
from bsmtp_batch.handover import outgoing
from bsmtp_batch.handover.intake import Differs, Intake
from bsmtp_batch.handover.outgoing import Hindrance
from bsmtp_batch.handover.parcel import Parcel, Receipt
from bsmtp_batch.handover.trust import UNSIGNED, Trust
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool import names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Route, Spool

ACKNOWLEDGED, SENT, THERE, ARRIVED, AGAIN, REFUSED, LATER = (
    "acknowledged",
    "sent",
    "there already",
    "arrived",
    "here already",
    "refused",
    "later",
)
"""What may happen to a batch in a contact."""

GROUP = 64
"""Routes held at a time: each costs a descriptor, and a process may have no more than some hundred."""


@dataclass(frozen=True)
class Event:
    """One thing that happened: ``kind`` as above, ``party`` the route or origin, ``code`` the exit code it asks for."""

    verb: str
    kind: str
    party: str
    name: str = ""
    messages: int = 0
    octets: int = 0
    note: str = ""
    code: int = 0


@dataclass(frozen=True)
class Terms:
    """What a contact is bound by.

    ``trust`` says which signatures are asked for. ``receipt`` is ``"ack"`` where only the far side's receipt releases
    a batch, ``"copied"`` where the courier's own word that it has arrived is to be enough. ``max_octets`` bounds the
    octets of all batches of one contact, ``until`` (seconds since 1970) its time; None: not at all.
    """

    trust: Trust = UNSIGNED
    receipt: str = "ack"
    max_octets: int | None = None
    until: float | None = None


def _nobody(_: int) -> None:
    pass


def push(
    routes: list[Route],
    courier: Courier,
    ledger: Ledger,
    *,
    moved: Moved = _nobody,
    clock: Callable[[], float] = time.time,
) -> Iterator[Event]:
    """Hand the sealed batches of ``routes`` over to ``courier``, which is entered here.

    Raises :class:`~bsmtp_batch.courier.contract.Cut`; the contact is in the ledger then, too.
    """
    return _recorded("push", courier, ledger, clock, _push(routes, courier, ledger, moved))


def pull(
    spool: Spool,
    wanted: list[str] | None,
    courier: Courier,
    ledger: Ledger,
    *,
    moved: Moved = _nobody,
    clock: Callable[[], float] = time.time,
) -> Iterator[Event]:
    """Take what ``courier`` has for us, of the routes ``wanted`` there or of all; receipts for our own batches, too.

    Raises :class:`~bsmtp_batch.courier.contract.Cut`; the contact is in the ledger then, too.
    """
    return _recorded("pull", courier, ledger, clock, _pull(spool, wanted, courier, ledger, moved))


def _recorded(
    verb: str, courier: Courier, ledger: Ledger, clock: Callable[[], float], events: Iterator[Event]
) -> Iterator[Event]:
    """``events``, and at their end, however it comes, one row in the ledger."""
    started, batches, octets, result = clock(), 0, 0, "interrupted"
    try:
        with courier:
            for event in events:
                if event.kind in (SENT, ARRIVED):
                    batches, octets = batches + 1, octets + event.octets
                if event.code and result == "interrupted":
                    result = event.note
                yield event
            result = "ok" if result == "interrupted" else result
    except Problem as problem:
        result = problem.what
        raise
    finally:
        ledger.record_contact(courier.peer, verb, started, clock(), batches, octets, result)


def _push(routes: list[Route], courier: Courier, ledger: Ledger, moved: Moved) -> Iterator[Event]:
    for some in _groups(routes):
        yield from _push_some(some, courier, ledger, moved)


def _groups(routes: list[Route]) -> Iterator[list[Route]]:
    for start in range(0, len(routes), GROUP):
        yield routes[start : start + GROUP]


def _push_some(routes: list[Route], courier: Courier, ledger: Ledger, moved: Moved) -> Iterator[Event]:
    with ExitStack() as stack:
        mine, hindrances = outgoing.enter(stack, routes)
        yield from (_hindered("push", h) for h in hindrances)
        for route in mine:
            yield from _guarded("push", route.name, "", _receipts("push", route, courier, ledger))
        found: list[tuple[Route, Parcel]] = []
        for route in mine:
            for one in outgoing.ready(route):
                if isinstance(one, Hindrance):
                    yield _hindered("push", one)
                else:
                    found.append((route, one))
        for route, parcel in sorted(found, key=lambda f: (f[1].size, f[1].name)):
            yield from _guarded("push", route.name, parcel.name, _send(route, parcel, courier, ledger, moved))


def _send(route: Route, parcel: Parcel, courier: Courier, ledger: Ledger, moved: Moved) -> Iterator[Event]:
    sent = courier.send(parcel, route.at(names.READY, parcel.name), moved)
    note = "" if sent.receipt else f"waits for a receipt from {courier.peer}"
    yield _about("push", SENT if sent.moved else THERE, route.name, parcel, note)
    if sent.receipt is not None:
        yield from _carry_out("push", route, sent.receipt, courier, ledger)


def _receipts(verb: str, route: Route, courier: Courier, ledger: Ledger) -> Iterator[Event]:
    for receipt in courier.receipts(route.name):
        if isinstance(receipt, Refusal):
            yield _refused(verb, route.name, receipt)
        elif not outgoing.made_here(route, receipt.name):
            continue  # where two nodes use one folder for a route of one name, each also meets its own receipts there
        else:
            yield from _guarded(verb, route.name, receipt.name, _carry_out(verb, route, receipt, courier, ledger))


def _carry_out(verb: str, route: Route, receipt: Receipt, courier: Courier, ledger: Ledger) -> Iterator[Event]:
    moved = outgoing.acknowledge(route, receipt, ledger)
    if moved:
        yield Event(verb, ACKNOWLEDGED, route.name, receipt.name)
    courier.clear(route.name, receipt)


def _pull(spool: Spool, wanted: list[str] | None, courier: Courier, ledger: Ledger, moved: Moved) -> Iterator[Event]:
    own = {name: Route(spool.path, name) for name in spool.routes()}
    for some in _groups([own[name] for name in (own if wanted is None else wanted) if name in own]):
        with ExitStack() as stack:
            mine, _ = outgoing.enter(stack, some)  # a route that is busy has its receipts read by whoever is at it
            for route in mine:
                yield from _guarded("pull", route.name, "", _receipts("pull", route, courier, ledger))
    found: list[Parcel] = []
    for offer in courier.offers(wanted):
        if isinstance(offer, Refusal):
            yield _refused("pull", "", offer)
        elif offer.route not in own or not outgoing.is_ours(own[offer.route], offer.name, offer.sha256):
            found.append(offer)
    intake = Intake(ledger)
    for parcel in sorted(found, key=lambda p: (p.size, p.name)):
        yield from _guarded("pull", parcel.manifest.origin, parcel.name, _take(spool, parcel, courier, intake, moved))


def _take(spool: Spool, parcel: Parcel, courier: Courier, intake: Intake, moved: Moved) -> Iterator[Event]:
    origin = parcel.manifest.origin
    inbox = Inbox(spool.path, origin)
    inbox.make()
    with inbox.intake():
        if intake.held(inbox, parcel):
            courier.acknowledge(parcel)
            yield _about("pull", AGAIN, origin, parcel, "acknowledged again")
            return
        _room(inbox, parcel)
        courier.fetch(parcel, inbox.part(parcel.name), moved)
        try:
            arrived = intake.keep(inbox, parcel)
        except Differs:
            inbox.drop_part(parcel.name)
            raise
        yield _about("pull", ARRIVED, origin, parcel, arrived.remark)
        courier.acknowledge(parcel)


def _room(inbox: Inbox, parcel: Parcel) -> None:
    """Raise :class:`~bsmtp_batch.errors.Later` when the batch would not fit: half of it would only fill the disk."""
    if shutil.disk_usage(inbox.path).free < parcel.size:
        raise Later(
            f"there is no room for {parcel.name} ({parcel.size} octets)",
            safe="It was not acknowledged, so the far side keeps it",
            next="make room in the spool, then run the command again",
        )


def _guarded(verb: str, party: str, name: str, step: Iterator[Event]) -> Iterator[Event]:
    """The events of ``step``; what goes wrong with this one batch becomes an event, and the contact goes on."""
    try:
        yield from step
    except Cut:
        raise
    except Bad as problem:
        yield Event(verb, REFUSED, party, name, note=str(problem), code=problem.code)
    except Problem as problem:
        yield Event(verb, LATER, party, name, note=str(problem), code=problem.code)
    except OSError as error:
        yield Event(verb, LATER, party, name, note=f"{error.filename or 'the spool'}: {error.strerror}", code=75)


def _about(verb: str, kind: str, party: str, parcel: Parcel, note: str) -> Event:
    return Event(verb, kind, party, parcel.name, parcel.manifest.messages, parcel.size, note)


def _hindered(verb: str, hindrance: Hindrance) -> Event:
    kind = REFUSED if hindrance.code == 65 else LATER
    return Event(verb, kind, hindrance.route, note=hindrance.reason, code=hindrance.code)


def _refused(verb: str, party: str, refusal: Refusal) -> Event:
    kind = LATER if refusal.code == 75 else REFUSED
    return Event(verb, kind, party, note=f"{refusal.what}: {refusal.reason}", code=refusal.code)
