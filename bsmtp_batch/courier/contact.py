"""One contact, whatever the courier: receipts first, then batches, small ones before large ones.

Yields what happens as it happens. A batch that makes trouble is told of and left, and the contact goes on;
:class:`~bsmtp_batch.courier.contract.Cut` ends it. Everything may be run again at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bsmtp_batch.courier.bounds import UNWATCHED, Bounds, Watch
from bsmtp_batch.courier.contract import Courier, Cut, Refusal
from bsmtp_batch.errors import Bad, Problem
from bsmtp_batch.handover import outgoing
from bsmtp_batch.handover.events import Event
from bsmtp_batch.handover.intake import Differs, Intake
from bsmtp_batch.handover.outgoing import Hindrance
from bsmtp_batch.handover.parcel import Parcel, Receipt
from bsmtp_batch.handover.trust import UNSIGNED, Trust
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool import names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Route, Spool

ACKNOWLEDGED, RELEASED, SENT, THERE, ARRIVED, AGAIN, REFUSED, LATER, NOTICED = (
    "acknowledged",
    "released",
    "sent",
    "there already",
    "arrived",
    "here already",
    "refused",
    "later",
    "noticed",
)
"""What may happen to a batch in a contact; *noticed* is something about the numbers of an origin's batches."""

GROUP = 64
"""Routes held at a time: each costs a descriptor, and a process may have no more than some hundred."""


@dataclass(frozen=True)
class Terms:
    """What a contact is bound by.

    ``trust`` says which signatures are asked for. ``receipt`` is ``"ack"`` where only the far side's receipt releases
    a batch, ``"copied"`` where the courier's own word that it has arrived is to be enough. ``max_octets`` bounds the
    octets of all batches of one contact, ``until`` (seconds since 1970) its time, also in the middle of a batch; None:
    not at all.
    """

    trust: Trust = UNSIGNED
    receipt: str = "ack"
    max_octets: int | None = None
    until: float | None = None


ANY = Terms()
"""Bound by nothing."""


def push(
    routes: list[Route],
    courier: Courier,
    ledger: Ledger,
    *,
    terms: Terms = ANY,
    watch: Watch = UNWATCHED,
    clock: Callable[[], float] = time.time,
) -> Iterator[Event]:
    """Hand the sealed batches of ``routes`` over to ``courier``, which is entered here.

    Raises :class:`~bsmtp_batch.courier.contract.Cut`; the contact is in the ledger then, too.
    """
    contact = _Contact("push", courier, ledger, terms, _bounds(terms, watch, clock))
    return _recorded(contact, clock, _push(routes, contact))


def pull(
    spool: Spool,
    wanted: list[str] | None,
    courier: Courier,
    ledger: Ledger,
    *,
    terms: Terms = ANY,
    watch: Watch = UNWATCHED,
    clock: Callable[[], float] = time.time,
) -> Iterator[Event]:
    """Take what ``courier`` has for us, of the routes ``wanted`` there or of all; receipts for our own batches, too.

    Raises :class:`~bsmtp_batch.courier.contract.Cut`; the contact is in the ledger then, too.
    """
    contact = _Contact("pull", courier, ledger, terms, _bounds(terms, watch, clock))
    return _recorded(contact, clock, _pull(spool, wanted, contact))


@dataclass(frozen=True)
class _Contact:
    """What every step of a contact needs."""

    verb: str
    courier: Courier
    ledger: Ledger
    terms: Terms
    bounds: Bounds


def _bounds(terms: Terms, watch: Watch, clock: Callable[[], float]) -> Bounds:
    return Bounds(terms.max_octets, terms.until, watch=watch, clock=clock)


def _recorded(contact: _Contact, clock: Callable[[], float], events: Iterator[Event]) -> Iterator[Event]:
    """``events``, and at their end, however it comes, one row in the ledger."""
    started, batches, octets, result = clock(), 0, 0, "interrupted"
    try:
        with contact.courier:
            for event in events:
                if event.kind in (SENT, ARRIVED):
                    batches, octets = batches + 1, octets + event.octets
                if event.code and result == "interrupted":
                    result = event.note if event.name in event.note else f"batch {event.name}: {event.note}"
                yield event
            result = "ok" if result == "interrupted" else result
    except Problem as problem:
        result = problem.what
        raise
    finally:
        contact.ledger.record_contact(contact.courier.peer, contact.verb, started, clock(), batches, octets, result)


def _push(routes: list[Route], contact: _Contact) -> Iterator[Event]:
    for some in _groups(routes):
        yield from _push_some(some, contact)


def _groups(routes: list[Route]) -> Iterator[list[Route]]:
    for start in range(0, len(routes), GROUP):
        yield routes[start : start + GROUP]


def _push_some(routes: list[Route], contact: _Contact) -> Iterator[Event]:
    with ExitStack() as stack:
        mine, hindrances = outgoing.enter(stack, routes)
        yield from (_hindered("push", h) for h in hindrances)
        for route in mine:
            yield from _guarded("push", route.name, "", _receipts(route, contact))
        found: list[tuple[Route, Parcel]] = []
        for route in mine:
            for one in outgoing.ready(route):
                if isinstance(one, Hindrance):
                    yield _hindered("push", one)
                else:
                    found.append((route, one))
        for route, parcel in contact.bounds.each(sorted(found, key=lambda f: (f[1].size, f[1].name))):
            yield from _guarded("push", route.name, parcel.name, _send(route, parcel, contact))


def _send(route: Route, parcel: Parcel, contact: _Contact) -> Iterator[Event]:
    with contact.bounds.batch(parcel) as moved:
        sent = contact.courier.send(parcel, route.at(names.READY, parcel.name), moved)
    if sent.moved:
        contact.bounds.spend(parcel.size)
    copied = sent.receipt is None and contact.terms.receipt == "copied"
    note = "" if sent.receipt or copied else f"waits for a receipt from {contact.courier.peer}"
    yield _about("push", SENT if sent.moved else THERE, route.name, parcel, note)
    if sent.receipt is not None:
        yield from _carry_out(route, sent.receipt, contact)
    elif copied and outgoing.acknowledge(route, parcel.receipt, contact.ledger):
        # The courier is told of no receipt: that would let it clear away what nobody has taken yet.
        yield Event("push", RELEASED, route.name, parcel.name, note="copied, not acknowledged: receipt = copied")


def _receipts(route: Route, contact: _Contact) -> Iterator[Event]:
    verb = contact.verb
    for receipt in contact.courier.receipts(route.name):
        if isinstance(receipt, Refusal):
            yield _refused(verb, route.name, receipt)
        elif not outgoing.made_here(route, receipt.name):
            continue  # where two nodes use one folder for a route of one name, each also meets its own receipts there
        else:
            yield from _guarded(verb, route.name, receipt.name, _carry_out(route, receipt, contact))


def _carry_out(route: Route, receipt: Receipt, contact: _Contact) -> Iterator[Event]:
    if outgoing.acknowledge(route, receipt, contact.ledger):
        yield Event(contact.verb, ACKNOWLEDGED, route.name, receipt.name)
    contact.courier.clear(route.name, receipt)


def _pull(spool: Spool, wanted: list[str] | None, contact: _Contact) -> Iterator[Event]:
    own = {name: Route(spool.path, name) for name in spool.routes()}
    for some in _groups([own[name] for name in (own if wanted is None else wanted) if name in own]):
        with ExitStack() as stack:
            mine, _ = outgoing.enter(stack, some)  # a route that is busy has its receipts read by whoever is at it
            for route in mine:
                yield from _guarded("pull", route.name, "", _receipts(route, contact))
    found: list[Parcel] = []
    for offer in contact.courier.offers(wanted):
        if isinstance(offer, Refusal):
            yield _refused("pull", "", offer)
        elif offer.route not in own or not outgoing.is_ours(own[offer.route], offer.name, offer.sha256):
            found.append(offer)
    intake = Intake(contact.ledger, contact.terms.trust)
    for parcel in contact.bounds.each(sorted(found, key=lambda p: (p.size, p.name))):
        yield from _guarded("pull", parcel.manifest.origin, parcel.name, _take(spool, parcel, intake, contact))
    yield from (Event("pull", NOTICED, origin, note=sentence) for origin, sentence in intake.gaps())


def _take(spool: Spool, parcel: Parcel, intake: Intake, contact: _Contact) -> Iterator[Event]:
    intake.admit(parcel)  # before anything is made for an origin that nobody vouches for
    origin = parcel.manifest.origin
    inbox = Inbox(spool.path, origin)
    inbox.make()
    with inbox.intake():
        if intake.held(inbox, parcel):
            contact.courier.acknowledge(parcel)
            yield _about("pull", AGAIN, origin, parcel, "acknowledged again")
            return
        with contact.bounds.batch(parcel) as moved:
            inbox.need_room(parcel.size)
            contact.courier.fetch(parcel, inbox.part(parcel.name), moved)
        contact.bounds.spend(parcel.size)
        try:
            arrived = intake.keep(inbox, parcel)
        except Differs:
            inbox.drop_part(parcel.name)
            raise
        yield _about("pull", ARRIVED, origin, parcel, arrived.remark)
        contact.courier.acknowledge(parcel)


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
