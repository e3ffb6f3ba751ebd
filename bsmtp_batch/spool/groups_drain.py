"""Draining: what group files hold becomes one file per message in ``new/`` of its route, as ``deliver`` puts it there.

A group file goes only when everything in it is durable elsewhere, so a drain may be stopped anywhere and done again: a
message that is in a batch by then is known by its KEY, one that is in ``new/`` is replaced by itself. What does not
get into its route is kept in a ``.left`` file, what cannot be read in a ``.odd`` file, and both are told.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from bsmtp_batch.spool import durable, reserve
from bsmtp_batch.spool.groups_file import (
    DRAIN_LOCK,
    FAILED,
    FULL,
    GROUPS,
    LEFT,
    ODD,
    OPEN,
    UNREAD,
    Gap,
    Name,
    Place,
    Record,
    chunks,
    cut_name,
    head,
    is_void,
    is_whole,
    parse_name,
    scan,
)
from bsmtp_batch.spool.groups_pour import Pourer
from bsmtp_batch.spool.groups_scratch import scratch
from bsmtp_batch.spool.groups_sync import NotSynced, Syncer
from bsmtp_batch.spool.listing import open_regular
from bsmtp_batch.spool.medium import write_part
from bsmtp_batch.spool.store import REASON

RETRY = 600
"""Seconds until what the disk does not give back is asked for again."""
GIVE_UP = 5 * 86400
"""Seconds after which that is left to people."""


def drain(spool: str) -> list[str]:
    """Move what group files hold to ``new/`` of its routes; whoever comes second waits and finds nothing left to do.

    Returns a sentence for each thing that was odd, once. Raises ``OSError`` when the disk refuses: everything is still
    in its group file, and nothing is lost by draining again. Cheap when there is nothing to drain.
    """
    directory = f"{spool}/{GROUPS}"
    try:
        if not any(_is_work(directory, name) for name in os.listdir(directory)):
            return []
    except FileNotFoundError:
        return []
    held = durable.lock(f"{directory}/{DRAIN_LOCK}")
    try:
        return _Drain(spool).run()
    finally:
        durable.unlock(held)


def _is_work(directory: str, entry: str) -> bool:
    name = parse_name(entry)
    if name is None or name.kind == ODD:
        return False
    if name.kind != UNREAD:
        return True
    try:
        path = f"{directory}/{entry}"
        tried, first = os.stat(path).st_mtime, os.stat(path + REASON).st_mtime
    except FileNotFoundError:
        return False
    # Not for ever: after days the KEYs of what was in it, and came to its route at the time, are forgotten.
    return time.time() - tried >= RETRY and time.time() - first < GIVE_UP


@dataclass
class _Group:
    """A group file that is drained: what of it did not get into its route and why, and what of it is no record."""

    path: str
    name: Name
    places: int = 0
    homeless: list[Place] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    unreadable: str = ""


class _Drain:
    def __init__(self, spool: str) -> None:
        self._spool = spool
        self._directory = f"{spool}/{GROUPS}"
        self._scratch = -1
        self._said: list[str] = []

    def run(self) -> list[str]:
        found = [name for entry in os.listdir(self._directory) if (name := self._sorted_out(entry)) is not None]
        for name in [one for one in found if one.kind == OPEN]:
            self._close(name.name)
        entries = [entry for entry in sorted(os.listdir(self._directory)) if _is_work(self._directory, entry)]
        found = [name for entry in entries if (name := parse_name(entry)) is not None]
        with scratch(self._spool) as self._scratch:
            self._all(found)
        return self._said

    def _all(self, found: list[Name]) -> None:
        # What was given up is synced file by file: the error its writer met would be met by a sync of everything, too.
        for one_by_one in (True, False):
            chosen = [n for n in found if n.kind != OPEN and (n.kind == FAILED) is one_by_one]
            self._move(chosen, one_by_one=one_by_one)

    def _sorted_out(self, entry: str) -> Name | None:
        """A name, if it is one of a group file. One that begins with a dot is what a drain left that was killed."""
        if entry.startswith("."):
            durable.remove(f"{self._directory}/{entry}")
        return parse_name(entry)

    def _close(self, name: str) -> None:
        """Take a group file from its writer, between two commits: the writer sees that its name is gone."""
        path = f"{self._directory}/{name}"
        try:
            fd = open_regular(path)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # given up by its writer just now; it has another name
                os.rename(path, path + FULL)
        finally:
            os.close(fd)

    def _move(self, found: list[Name], *, one_by_one: bool) -> None:
        """Drain the group files ``found``; a full disk gets its reserve back for it."""
        syncer = Syncer(self._spool, one_by_one=one_by_one)
        done: list[_Group] = []
        try:
            for name in found:
                try:
                    done.append(self._spread(name, syncer))
                except OSError as error:
                    if error.errno not in reserve.FULL:
                        raise
                    self._settle(done, syncer)
                    done = []
                    if not reserve.give_up(self._spool):
                        raise
                    done.append(self._spread(name, syncer))
            self._settle(done, syncer)
        except NotSynced as refused:
            # The kernel tells of a failed write once, and perhaps of one of somebody else's. Nothing that was written
            # is believed any more; all of it is written anew, and each file synced by itself as deliver does it.
            self._said.append(f"{self._spool}: {refused}; each message was written again and synced by itself")
            self._move(found, one_by_one=True)
        finally:
            syncer.close()

    def _spread(self, name: Name, syncer: Syncer) -> _Group:
        """Put each message of a group file under its name in ``new/``; durable when the syncer has synced."""
        group = self._try(name, syncer)
        return self._try(name, syncer) if group.unreadable else group

    def _try(self, name: Name, syncer: Syncer) -> _Group:
        group = _Group(f"{self._directory}/{name.name}", name)
        try:
            fd = open_regular(group.path)
        except FileNotFoundError:
            return group
        try:
            records = self._records(fd, group)
            pourer = Pourer(self._spool, fd, self._scratch, syncer)
            places = [place for record in records for place in record.places]
            group.places = len(places)
            pourer.pour(places)
            group.homeless, group.reasons = pourer.homeless, pourer.reasons
            group.unreadable = group.unreadable or pourer.unreadable
        finally:
            os.close(fd)
        return group

    def _records(self, fd: int, group: _Group) -> list[Record]:
        """What was acknowledged in ``group``, and notes of what was not."""
        size = os.fstat(fd).st_size
        if group.name.limit is not None:
            size = min(size, group.name.limit)
        try:
            parts = list(scan(fd, group.name.base, size))
            last = parts[-1] if parts else None
            can_be_torn = (
                group.name.kind != LEFT
            )  # that one came to its name whole; and it may wait for long, and be large
            if isinstance(last, Record) and can_be_torn and not is_whole(fd, last):
                # Long enough, and yet not what it says: the power went while it was written, or the disk has lost what
                # was acknowledged. Nobody can tell, so it is kept.
                parts[-1] = Gap(last.at, size, torn=False)
            gaps = [part for part in parts if isinstance(part, Gap)]
            group.gaps = [gap for gap in gaps if gap.end < size or not self._is_nothing(fd, gap, group)]
        except OSError as error:
            group.unreadable = f"it cannot be read: {error.strerror}"
            return []
        return [part for part in parts if isinstance(part, Record)]

    def _is_nothing(self, fd: int, gap: Gap, group: _Group) -> bool:
        """Whether nobody was told yes for ``gap``: a commit that was cut short, or room that was never written."""
        if gap.torn or is_void(fd, gap):
            self._said.append(
                f"{group.path}: the last {gap.end - gap.at} octets are of a commit that was cut short; nobody was told"
                " yes for it, and who sent it hands it in again"
            )
            return True
        return False

    def _settle(self, done: list[_Group], syncer: Syncer) -> None:
        """Make what was poured durable, keep what could not be, and only then let go of the group files."""
        if not done:
            return
        syncer.sync()
        for group in done:
            if group.unreadable:
                self._set_aside(group)
            elif not self._keep(group):
                durable.remove(group.path)
                durable.remove(group.path + REASON)
        durable.fsync_dir(self._directory)

    def _keep(self, group: _Group) -> bool:
        """Write down what of ``group`` is not in ``new/``. True when that has the name of the group file itself."""
        base = f"{self._directory}/{group.name.base}"
        if group.gaps:
            octets = sum(gap.end - gap.at for gap in group.gaps)
            with _Reading(group.path) as fd:
                _write(base + ODD, (chunk for gap in group.gaps for chunk in chunks(fd, gap.at, gap.end)))
            self._tell_odd(base + ODD, f"{octets} octets that are no whole record were found among acknowledged mail")
        if not group.homeless:
            return False
        if group.name.kind != LEFT or len(group.homeless) < group.places:
            table = [(place.route, place.name, place.size) for place in group.homeless]
            first = head(group.name.base, min(place.when for place in group.homeless), table)
            with _Reading(group.path) as fd:
                data = (chunk for place in group.homeless for chunk in chunks(fd, place.at, place.at + place.size))
                _write(base + LEFT, itertools.chain([first], data))
            counts = Counter(place.route for place in group.homeless)
            self._said += [f"{n} accepted for {r} wait in {base}{LEFT}: {group.reasons[r]}" for r, n in counts.items()]
        return group.name.kind == LEFT

    def _set_aside(self, group: _Group) -> None:
        """The disk does not give it back: keep all of it as it is, and try again later."""
        path = f"{self._directory}/{cut_name(group.name.base, UNREAD, group.name.limit)}"
        if group.name.kind != UNREAD:  # told first: what nobody was told of is not asked for again
            self._tell_odd(path, f"{group.unreadable}; what could be read has gone on, the rest is asked for again")
        os.rename(group.path, path)
        os.utime(path)

    def _tell_odd(self, path: str, reason: str) -> None:
        durable.write_file(path + REASON, (reason + "\n").encode())
        self._said.append(f"{path}: {reason}")


class _Reading:
    """A group file, open for reading while the block lasts."""

    def __init__(self, path: str) -> None:
        self._fd = open_regular(path)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _write(path: str, data: Iterable[bytes]) -> None:
    """Put a file with ``data`` under the name ``path``: like :func:`durable.write_file`, without holding all of it."""
    directory, _, name = path.rpartition("/")
    passing = f"{directory}/.{name}"
    durable.remove(passing)
    write_part(passing, data)
    durable.sync_close(os.open(passing, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    durable.rename_durably(passing, path)
