"""Status: what waits where, and why. Reads only, takes no lock, and answers whatever state it meets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bsmtp_batch.batch.manifest import Manifest, ManifestError
from bsmtp_batch.ledger import Contact, Ledger
from bsmtp_batch.ledger.rows import DEFERRED, FINISHING
from bsmtp_batch.spool import listing, names
from bsmtp_batch.spool.groups import GROUPS, Grouped
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.listing import Entry, Odd
from bsmtp_batch.spool.store import MANIFEST, REASON, SIGNATURE, SMALL_CAP, Fragment, Route, Spool, Standing

TRIES = 3
"""Looks at a route before something odd is believed: files move while nobody holds them."""


@dataclass
class Heap:
    """Some files of one kind: ``oldest`` in seconds since 1970, None where there is nothing."""

    files: int = 0
    messages: int = 0
    octets: int = 0
    oldest: float | None = None

    def add(self, octets: int, when: float, messages: int = 0) -> None:
        """Count one more."""
        self.files += 1
        self.messages += messages
        self.octets += octets
        self.oldest = when if self.oldest is None else min(self.oldest, when)


@dataclass(frozen=True)
class Aside:
    """Something a person has to decide about: a file, its size, and the reason that stands beside it."""

    path: str
    octets: int
    reason: str


@dataclass(frozen=True)
class Begun:
    """A sealed batch of which some mail was sent already: ``recipients``, and how many of them came to which outcome
    (``counts``); the messages that are in doubt; a reply that made others wait."""

    name: str
    counts: dict[str, int]
    recipients: int
    doubtful: list[int]
    reply: str


@dataclass
class RouteStatus:
    """One route. ``waiting`` counts each hand-in once, and so those that are still in a group, which ``grouped`` counts
    by themselves; ``unfinished`` are seals that the next stage finishes or undoes."""

    route: str
    waiting: Heap = field(default_factory=Heap)
    grouped: Heap = field(default_factory=Heap)
    unfinished: int = 0
    ready: Heap = field(default_factory=Heap)
    kept: Heap = field(default_factory=Heap)
    aside: list[Aside] = field(default_factory=list)
    odd: list[Aside] = field(default_factory=list)
    last_contact: float | None = None


@dataclass
class OriginStatus:
    """One origin. ``missing`` says which numbers of its batches have not come, ``remarks`` what else was noticed about
    them."""

    origin: str
    new: Heap = field(default_factory=Heap)
    work: Heap = field(default_factory=Heap)
    done: Heap = field(default_factory=Heap)
    aside: list[Aside] = field(default_factory=list)
    odd: list[Aside] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def route_status(route: Route, grouped: Grouped | None = None) -> RouteStatus:
    """How things stand with ``route``; ``grouped`` is what the groups of its spool hold. Never raises for either."""
    found = RouteStatus(route.name, last_contact=route.last_contact())
    odd: list[Odd] = []
    counted = set()
    for waiting in route.waiting(lenient=True):
        if isinstance(waiting, Odd):
            odd.append(waiting)
        else:
            _count_fragment(found.waiting, waiting)
            counted.add(waiting.name)
    for place in grouped.routes.get(route.name, []) if grouped else []:
        if place.name not in counted:  # it may have come to new/ between the two looks
            found.waiting.add(place.size, place.when / 1e9, 1)
            found.grouped.add(place.size, place.when / 1e9, 1)
    standings, strange = _settled(route)
    for standing in standings:
        _count_batch(found, route, standing)
    found.aside = list(_asides(route.at(names.DEAD)))
    found.odd = [Aside(o.path, 0, o.reason) for o in (*odd, *strange)]
    return found


def origin_status(inbox: Inbox) -> OriginStatus:
    """How things stand with ``inbox``. Never raises for what the spool holds."""
    found = OriginStatus(inbox.origin)
    for directory, heap in ((names.NEW, found.new), (names.WORK, found.work), (names.DONE, found.done)):
        for entry in listing.entries(inbox.at(directory), lenient=True):
            if isinstance(entry, Odd):
                found.odd.append(Aside(entry.path, 0, entry.reason))
            elif not entry.name.endswith((MANIFEST, REASON, SIGNATURE)):
                heap.add(entry.size, max(entry.modified, entry.changed), _messages(entry.path + MANIFEST))
    found.aside = list(_asides(inbox.at(names.BAD)))
    try:
        seen = inbox.sequences()
        found.missing, found.remarks = seen.missing(), seen.remarks
    except OSError as error:
        found.odd.append(Aside(inbox.path, 0, f"the numbers seen cannot be read: {error.strerror}"))
    return found


def homeless(spool: Spool, grouped: Grouped) -> list[Aside]:
    """Accepted mail that cannot get into its route, one line for each route, and groups that nobody can read."""
    there = set(spool.routes())
    found = []
    for route, places in sorted(grouped.routes.items()):
        if route not in there or route in grouped.left:
            fault = "which cannot be written to" if route in there else "which is not there"
            reason = f"{len(places)} messages were accepted for {route}, {fault}; they go on when that is mended"
            found.append(Aside(f"{spool.path}/{GROUPS}", sum(place.size for place in places), reason))
    for odd in grouped.odd:
        entry = listing.entry(odd.path)
        found.append(Aside(odd.path, entry.size if isinstance(entry, Entry) else 0, odd.reason))
    return found


def contacts(spool: Spool) -> list[Contact]:
    """The last contact of each peer. Raises :class:`~bsmtp_batch.errors.Later` when the ledger cannot be read."""
    with Ledger(spool.ledger, read_only=True) as ledger:
        return ledger.last_contacts()


def begun(route: Route, ledger: Ledger) -> list[Begun]:
    """The batches in ``ready/`` of which some messages were sent. Raises :class:`~bsmtp_batch.errors.Later`."""
    found = []
    for standing in _settled(route)[0]:
        manifest = _manifest(route.at(names.READY, standing.name + MANIFEST)) if standing.name else None
        fates = ledger.fates(manifest.name) if manifest else {}
        if manifest is None or not fates:
            continue
        outcomes = [one for _, fate in sorted(fates.items()) for one in fate.outcomes.values()]
        waiting = [one.reply for one in outcomes if one.outcome == DEFERRED]
        doubtful = sorted(number for number, fate in fates.items() if fate.state == FINISHING)
        counts = dict(Counter(one.outcome for one in outcomes))
        found.append(Begun(standing.name, counts, manifest.recipients, doubtful, waiting[0] if waiting else ""))
    return found


def reserve_size(spool: Spool) -> int:
    """Octets of the reserve; 0 where it is missing."""
    try:
        return os.stat(f"{spool.path}/{names.RESERVE}").st_size
    except OSError:
        return 0


def _settled(route: Route) -> tuple[list[Standing], list[Odd]]:
    """Standings, and what is odd at every look."""
    standings, odd = route.standings(lenient=True)
    for _ in range(TRIES - 1):
        if not odd:
            break
        standings, again = route.standings(lenient=True)
        odd = [o for o in again if o in odd]
    return standings, odd


def _count_fragment(heap: Heap, fragment: Fragment) -> None:
    heap.add(fragment.size, fragment.modified, 1)


def _count_batch(found: RouteStatus, route: Route, standing: Standing) -> None:
    row = standing.row
    if row is None:
        return
    if row.recovery in ("undo", "finish_commit"):
        found.unfinished += 1
    for state, directory, heap in (("sealed", names.READY, found.ready), ("kept", names.KEPT, found.kept)):
        entry = listing.entry(route.at(directory, standing.name)) if row.name == state else None
        if isinstance(entry, Entry):
            heap.add(entry.size, entry.modified, _messages(entry.path + MANIFEST))


def _messages(manifest: str) -> int:
    """The number of messages a manifest speaks of; 0 where it cannot be read: it is a count for people."""
    found = _manifest(manifest)
    return found.messages if found else 0


def _manifest(path: str) -> Manifest | None:
    """The manifest in the file ``path``; None where it cannot be read."""
    try:
        return Manifest.from_bytes(listing.read_small(path, SMALL_CAP))
    except (OSError, ValueError, ManifestError):
        return None


def _asides(directory: str) -> Iterator[Aside]:
    found: Iterable[Entry | Odd] = sorted(listing.entries(directory, lenient=True), key=lambda e: e.path)
    for entry in found:
        if isinstance(entry, Odd):
            yield Aside(entry.path, 0, entry.reason)
        elif not entry.name.endswith((REASON, MANIFEST, SIGNATURE)):
            yield Aside(entry.path, entry.size, _reason(entry.path))


def _reason(path: str) -> str:
    try:
        text = listing.read_small(path + REASON, SMALL_CAP).decode("utf-8", "backslashreplace")
    except (OSError, ValueError):
        return "no reason stands beside it"
    return text.strip().partition("\n")[0]
