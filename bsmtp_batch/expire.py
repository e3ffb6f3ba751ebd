"""Expire: remove what has been acknowledged or imported long enough ago, and rubbish. Never mail that waits.

What goes, and when:

* acknowledged batches in ``kept/``, and imported ones in ``in/*/done``, older than their ``keep``;
* markers in ``sealed/`` and lists of batches that are gone, older than :data:`REMEMBER`;
* files in ``tmp/``, and files that never got their name, older than the longest time a writer may live.

``dead/`` and ``bad/`` are never touched: a person decides about those.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from bsmtp_batch.errors import Later
from bsmtp_batch.spool import clock, durable, listing, names, recover, table
from bsmtp_batch.spool.groups import drain
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.listing import Entry
from bsmtp_batch.spool.release import remove_kept
from bsmtp_batch.spool.store import MANIFEST, REASON, SIGNATURE, Route, Standing, batch_of

DAY = 86400
REMEMBER = 7 * DAY
"""Seconds a KEY is remembered: an MTA tries for five days, and two days of grace. A hand-in that is repeated later
than that would be a second copy."""


@dataclass(frozen=True)
class Overdue:
    """Something whose time is over: ``kind`` kept, done, key, list or rubbish; ``octets`` that become free."""

    kind: str
    party: str
    path: str
    octets: int


def check_clock(spool: str) -> None:
    """Raise :class:`~bsmtp_batch.errors.Later` when the clock has jumped since the last run; the next run goes
    ahead."""
    sentence = clock.jumped(spool, current=clock.now())
    if sentence:
        raise Later(
            f"{sentence}: nothing is expired this time",
            safe="Everything is kept",
            next="see that the clock is right; the next run believes it",
        )


def overdue_of_route(route: Route, *, keep: float, now: float) -> Iterator[Overdue]:
    """What of ``route`` is overdue at ``now``, ``keep`` seconds after its receipt; changes nothing."""
    standings, _ = route.standings()
    for standing in standings:
        yield from _overdue_batch(route, standing, keep, now)
    for entry in _files(route.at(names.SEALED)):
        # Not by when it was changed: markers are names of one file, which changes when another of them is removed.
        if now - entry.modified > REMEMBER:
            yield Overdue("key", route.name, entry.path, entry.size)
    for entry in _files(route.at(names.TMP), hidden=True):
        if _age(entry, now) > table.RUBBISH_AGE:
            yield Overdue("rubbish", route.name, entry.path, entry.size)
    for directory in (route.path, *(route.at(d) for d in (names.LISTS, names.DEAD))):
        yield from _unnamed(directory, route.name, now)


def overdue_of_inbox(inbox: Inbox, *, keep: float, now: float) -> Iterator[Overdue]:
    """What of ``inbox`` is overdue at ``now``, ``keep`` seconds after its import; changes nothing."""
    for entry in _files(inbox.at(names.DONE)):
        if _age(entry, now) > keep:
            yield Overdue("done", inbox.origin, entry.path, entry.size)
    for entry in _files(inbox.at(names.TMP), hidden=True):
        if _age(entry, now) > table.RUBBISH_AGE:
            yield Overdue("rubbish", inbox.origin, entry.path, entry.size)
    for directory in (inbox.path, inbox.at(names.NEW), inbox.at(names.BAD)):
        yield from _unnamed(directory, inbox.origin, now)
    yield from _lone_papers(inbox, now)


def expire_route(route: Route, *, keep: float, now: float) -> Iterator[Overdue]:
    """Remove what is overdue in ``route``; yields each thing removed.

    Raises :class:`~bsmtp_batch.spool.locks.Busy` when a sealer or a contact is at work, and ``OSError``.
    """
    with route.sealing(), route.contact():
        drain(route.spool)  # while the KEYs of what is in it are remembered
        recover.recover_seal(route)  # among others: `seq` is behind every list that is done, so any of those may go
        recover.recover_contact(route)
        touched = set()
        for found in overdue_of_route(route, keep=keep, now=now):
            if found.kind == "kept":
                remove_kept(route, os.path.basename(found.path))
            else:
                durable.remove(found.path)
                touched.add(os.path.dirname(found.path))
            yield found
        for directory in sorted(touched):
            durable.fsync_dir(directory)


def expire_inbox(inbox: Inbox, *, keep: float, now: float) -> Iterator[Overdue]:
    """Remove what is overdue in ``inbox``; yields each thing removed. Raises ``Busy`` and ``OSError``."""
    with inbox.intake():
        touched = set()
        for found in overdue_of_inbox(inbox, keep=keep, now=now):
            durable.remove(found.path)
            touched.add(os.path.dirname(found.path))
            yield found
        for directory in sorted(touched):
            durable.fsync_dir(directory)


def _overdue_batch(route: Route, standing: Standing, keep: float, now: float) -> Iterator[Overdue]:
    state = standing.row.name if standing.row is not None else ""
    if state == "kept":
        batch = listing.entry(route.at(names.KEPT, standing.name))
        beside = (listing.entry(route.at(names.KEPT, standing.name + suffix)) for suffix in (MANIFEST, SIGNATURE))
        if isinstance(batch, Entry) and _age(batch, now) > keep:
            octets = batch.size + sum(entry.size for entry in beside if isinstance(entry, Entry))
            yield Overdue("kept", route.name, batch.path, octets)
    elif state == "gone":
        done = listing.entry(route.list_path(standing.sequence, done=True))
        if isinstance(done, Entry) and _age(done, now) > max(keep, REMEMBER):
            yield Overdue("list", route.name, done.path, done.size)


def _unnamed(directory: str, party: str, now: float) -> Iterator[Overdue]:
    """Files that were to replace another and never got its name: their writer was killed."""
    for entry in _files(directory, hidden=True):
        if entry.name.startswith(".") and _age(entry, now) > table.RUBBISH_AGE:
            yield Overdue("rubbish", party, entry.path, entry.size)


def _lone_papers(inbox: Inbox, now: float) -> Iterator[Overdue]:
    """Manifests and signatures in ``new/`` of batches that are nowhere: the contact that brought them was killed, and
    the far side did not offer them again."""
    papers = [e for e in _files(inbox.at(names.NEW)) if batch_of(e.name) != e.name]
    old = [e for e in papers if _age(e, now) > table.RUBBISH_AGE]
    there = [e.name for d in names.IN_DIRECTORIES for e in _files(inbox.at(d))] if old else []
    for entry in old:
        batch = batch_of(entry.name)
        if not any(name.startswith(batch) and batch_of(name) == name for name in there):
            yield Overdue("rubbish", inbox.origin, entry.path, entry.size)


def _files(directory: str, *, hidden: bool = False) -> Iterator[Entry]:
    for found in listing.entries(directory, hidden=hidden, lenient=True):
        if isinstance(found, Entry) and not found.name.endswith(REASON):
            yield found


def _age(entry: Entry, now: float) -> float:
    """Seconds since ``entry`` came to where it is: a rename does not change when it was written."""
    return now - max(entry.modified, entry.changed)
