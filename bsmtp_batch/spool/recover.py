"""Walk every unfinished row of the table of states on to a row that is at rest.

One function per recovery named in :mod:`bsmtp_batch.spool.table`. Each may be stopped anywhere and run again: it
changes one file at a time, in an order in which every halfway state is itself a row. The stages use the same
functions for the ordinary way forward, so that a crash exercises no code that a good day does not.
"""

from __future__ import annotations

import errno
import os

from bsmtp_batch.errors import Setting
from bsmtp_batch.spool import durable, listing, names, reserve, table
from bsmtp_batch.spool.listing import Entry
from bsmtp_batch.spool.lists import Intent, Member
from bsmtp_batch.spool.store import MANIFEST, REASON, SIGNATURE, Fragment, Route, Standing, batch_of

SLICE = 256
"""Members swapped for markers under one exclusive lock: hand-ins wait for a slice, not for the whole batch. Each
member is unlinked under the same lock under which it was remembered, and that is all the proof needs."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system says that has none, or no more of one file."""


def recover_seal(route: Route) -> list[str]:
    """Finish or undo what an earlier sealer of ``route`` left; the caller holds ``seal.lock``.

    Returns a sentence for each thing done. Raises ``OSError``, and :class:`~bsmtp_batch.errors.Setting` when a seal
    list stands where no row admits it: what is in ``new/`` might then be in a batch already.
    """
    done = []
    standings, _ = route.standings()
    for standing in standings:
        if standing.row is None and table.LIST in standing.present:
            raise _unknown(route, standing)
        if standing.row is not None and standing.row.recovery == "undo":
            undo(route, standing)
            done.append(f"batch {standing.sequence}: unfinished, its messages wait in new/ as before")
        elif standing.row is not None and standing.row.recovery == "finish_commit" and table.LIST in standing.present:
            finish_commit(route, route.intent(standing.sequence, done=False))
            done.append(f"batch {standing.sequence}: was written, now finished")
    done += _recover_fragments(route)
    settle_seq(route)
    return done


def recover_contact(route: Route) -> list[str]:
    """Finish what an earlier contact or expiry of ``route`` left; the caller holds ``contact.lock``.

    Returns a sentence for each thing done. Raises ``OSError``.
    """
    done = []
    for standing in route.standings()[0]:
        recovery = standing.row.recovery if standing.row is not None else ""
        if recovery == "finish_release":
            finish_release(route, standing.name)
            done.append(f"batch {standing.sequence}: acknowledged, now wholly in kept/")
        elif recovery == "finish_expiry":
            finish_expiry(route, standing.name)
            done.append(f"batch {standing.sequence}: expired, now wholly gone")
    return done


def undo(route: Route, standing: Standing) -> None:
    """*building*, *intended*: remove what was built; the members never left ``new/``. The list goes last, since what it
    names has no row without it."""
    for directory in (names.READY, names.TMP):
        for entry in listing.entries(route.at(directory)):
            if isinstance(entry, Entry) and _is_of(entry.name, standing.sequence):
                durable.remove(entry.path)
    durable.fsync_dir(route.at(names.READY))
    durable.remove(route.list_path(standing.sequence, done=False))
    durable.fsync_dir(route.at(names.LISTS))


def finish_commit(route: Route, intent: Intent) -> None:
    """*committed*: remember and remove the members, put the replaced batch aside, mark the list done.

    The batch may have been seen in ``ready/`` without being durable there (a crash, then a power cut), hence the first
    fsync: nothing is unlinked before the batch can no longer vanish.
    """
    durable.fsync_dir(route.at(names.READY))
    for start in range(0, len(intent.members), SLICE):
        _swap(route, intent.members[start : start + SLICE])
    if intent.replaces:
        _put_aside(route, intent)
    durable.rename_durably(route.list_path(intent.sequence, done=False), route.list_path(intent.sequence, done=True))
    settle_seq(route)


def finish_release(route: Route, name: str) -> None:
    """*released*: the batch is in ``kept/``, let its signature and then its manifest follow."""
    durable.fsync_dir(route.at(names.KEPT))
    if listing.is_there(route.at(names.READY, name + SIGNATURE)):
        durable.rename_durably(route.at(names.READY, name + SIGNATURE), route.at(names.KEPT, name + SIGNATURE))
    durable.rename_durably(route.at(names.READY, name + MANIFEST), route.at(names.KEPT, name + MANIFEST))


def finish_expiry(route: Route, name: str) -> None:
    """*expiring*: the batch has gone from ``kept/``, let its signature and then its manifest follow."""
    if listing.is_there(route.at(names.KEPT, name + SIGNATURE)):
        durable.remove(route.at(names.KEPT, name + SIGNATURE))
        durable.fsync_dir(route.at(names.KEPT))
    durable.remove(route.at(names.KEPT, name + MANIFEST))
    durable.fsync_dir(route.at(names.KEPT))


def drop_sealed(route: Route, fragment: Fragment) -> None:
    """*sealing* with no list left that names it: the disk brought back a member whose removal it had confirmed."""
    with route.index():
        if route.remembers(fragment.key):
            durable.remove(fragment.path)
            durable.fsync_dir(route.at(names.NEW))


def drop_reason(route: Route, name: str) -> None:
    """*lone reason*: the fragment it speaks of is still in ``new/`` or was replaced; it will be checked again."""
    durable.remove(route.at(names.DEAD, name + REASON))


def settle_seq(route: Route) -> None:
    """Move ``seq`` on behind the highest list that is done; nothing happens when it is there already."""
    number, previous = route.numbering()
    if not route.seq_is(number, previous):
        route.write_seq(number, previous)


def _recover_fragments(route: Route) -> list[str]:
    done = []
    for found in route.waiting():
        if isinstance(found, Fragment) and route.remembers(found.key):
            drop_sealed(route, found)
            done.append(f"{found.name}: is in a batch already, removed from new/")
    dead = {e.name for e in listing.entries(route.at(names.DEAD)) if isinstance(e, Entry)}
    for name in sorted(dead):
        about = name.removesuffix(REASON)
        if name.endswith(REASON) and names.parse_fragment(about) and about not in dead:
            drop_reason(route, about)
    return done


def _swap(route: Route, members: tuple[Member, ...]) -> None:
    """Swap in smaller slices where the disk has no inodes for so many markers: each member removed frees one."""
    try:
        _swap_slice(route, members)
    except OSError as error:
        if error.errno not in reserve.FULL or len(members) < 2:
            raise
        half = len(members) // 2
        _swap(route, members[:half])
        _swap(route, members[half:])


def _swap_slice(route: Route, members: tuple[Member, ...]) -> None:
    """Under one exclusive lock: remember the members' KEYs, durably, then remove the members, durably."""
    parsed = [(member.name, names.parse_fragment(member.name)) for member in members]
    with route.index():
        made = ""
        for _, found in parsed:
            if found is not None:
                made = _mark(route.at(names.SEALED, found[0]), made)
        durable.fsync_dir(route.at(names.SEALED))
        for name, found in parsed:
            if found is not None:
                durable.remove(route.at(names.NEW, name))
        durable.fsync_dir(route.at(names.NEW))


def _mark(path: str, like: str) -> str:
    """Make the marker ``path``, as another name of the marker ``like`` where that is possible.

    They are all empty, and a name needs no inode, nor, as on ext4 after many removals, a long search for a free one.
    Returns a marker made in this slice, for the next; ``""`` when there is none.
    """
    try:
        if like and _linked(like, path):
            return like
        os.close(durable.create(path))
        return path
    except FileExistsError:
        return like  # an earlier sealer got as far as here


def _linked(path: str, other: str) -> bool:
    try:
        durable.link(path, other)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def _put_aside(route: Route, intent: Intent) -> None:
    name = intent.replaces
    durable.write_file(route.at(names.DEAD, name + REASON), f"replaced by {intent.name}\n".encode())
    for file in (name, name + SIGNATURE, name + MANIFEST):
        if listing.is_there(route.at(names.READY, file)):
            durable.rename_durably(route.at(names.READY, file), route.at(names.DEAD, file))


def _is_of(name: str, sequence: int) -> bool:
    parsed = names.parse_batch_name(batch_of(name))
    return parsed is not None and parsed[1] == sequence


def _unknown(route: Route, standing: Standing) -> Setting:
    there = ", ".join(sorted(standing.present))
    return Setting(
        f"batch {standing.sequence} of {route.name} is in a state that nothing leads to ({there})",
        safe=f"No mail of {route.name} is touched; it goes on being accepted",
        next="see OPERATING, 'A damaged spool', before the next seal",
    )
