"""Making and removing routes: the only place where directories of ``out/`` appear and vanish."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from bsmtp_batch.errors import Setting, Usage
from bsmtp_batch.spool import durable, listing, names, reserve
from bsmtp_batch.spool.directories import DISK, make_directories
from bsmtp_batch.spool.groups_drain import drain
from bsmtp_batch.spool.groups_look import look
from bsmtp_batch.spool.listing import Entry
from bsmtp_batch.spool.store import MANIFEST, REASON, SIGNATURE, Route

_REMOVED = ".removed."
"""What the directory of a removed route begins with until it is gone; no route can be called so."""
MOUNTS = "/proc/self/mounts"
UNSAFE = {"nfs", "nfs4", "cifs", "smb3", "tmpfs", "ramfs", "overlay", "9p", "fuse.sshfs"}
"""File systems on which a rename, an fsync or a flock does not promise what the spool needs, or nothing survives a
reboot."""
MAX_NAME = 128
"""Octets of the name of a new route: with number, time, node and the suffixes of unfinished files it has to fit into
the 255 of a file name, or mail would be accepted that could never be sealed."""


@dataclass(frozen=True)
class Holding:
    """What is in a route that must not be thrown away."""

    fragments: int
    batches: int
    set_aside: int
    octets: int

    def __bool__(self) -> bool:
        return bool(self.fragments or self.batches or self.set_aside)


def make_spool(spool: str) -> None:
    """Make the spool with a place for what comes from others.

    Raises :class:`~bsmtp_batch.errors.Setting`, and ``OSError`` for a disk that is full or broken.
    """
    try:
        make_directories(spool, spool)
        make_directories(f"{spool}/{names.IN}", spool)
    except OSError as error:
        if error.errno in DISK:
            raise  # not the settings: a later run may find it mended
        raise Setting(
            f"the spool {spool} cannot be made: {error.strerror} ({error.filename})",
            safe="Nothing was moved",
            next="give --spool or [node] spool a directory that this user may write",
        ) from error


def add(spool: str, name: str, limits: names.Limits, *, reserve_size: int) -> Route:
    """Make the route ``name`` in ``spool``, or mend one that was made half way, and write its ``limits``.

    ``new/`` is made last: ``deliver`` takes a route for real when it can publish there, and by then the limits are
    those of the settings. Raises :class:`~bsmtp_batch.errors.Setting` when the spool cannot be written, ``Usage``
    for a name that cannot be used.
    """
    route = Route(spool, proper_name(name))
    if len(route.name) > MAX_NAME:
        raise Usage(
            f"{route.name} is longer than the {MAX_NAME} octets that leave room for number, time and node",
            safe="Nothing was changed",
            next="choose a shorter name for the route",
        )
    make_spool(spool)
    try:
        _sweep_removed(spool)
        for directory in (d for d in names.OUT_DIRECTORIES if d != names.NEW):
            make_directories(route.at(directory), spool)
        durable.write_file(route.at(names.LIMITS), limits.to_bytes())
        for lock in (names.INDEX_LOCK, names.SEAL_LOCK, names.CONTACT_LOCK):
            _make_lock(route.at(lock))
        make_directories(route.at(names.NEW), spool)
        durable.fsync_dir(route.path)
        reserve.make(spool, reserve_size)
    except OSError as error:
        raise Setting(
            f"the route {route.name} cannot be made in {spool}: {error.strerror} ({error.filename})",
            safe="No mail was touched; until the route is complete the MTA keeps its mail",
            next="give the spool a directory with room that this user may write, and add the route again",
        ) from error
    return route


def holding(route: Route) -> Holding:
    """What ``route`` still holds: fragments, also in groups; batches that wait for a contact; what was set aside."""
    fragments = _files(route.at(names.NEW))
    grouped = look(route.spool).routes.get(route.name, [])
    ready = [e for e in _files(route.at(names.READY)) if names.parse_batch_name(e.name)]
    dead = [e for e in _files(route.at(names.DEAD)) if not e.name.endswith((REASON, MANIFEST, SIGNATURE))]
    octets = sum(e.size for e in (*fragments, *ready, *dead)) + sum(place.size for place in grouped)
    return Holding(len(fragments) + len(grouped), len(ready), len(dead), octets)


def remove(route: Route) -> None:
    """Remove ``route`` with what is left of old batches in it; refuses (:class:`~bsmtp_batch.errors.Usage`) while mail
    waits.

    Under all locks, and by a rename: a hand-in is seen in ``new/``, or finds no route any more and leaves its message
    with the MTA. Mail that is acknowledged in a group goes to ``new/`` first.
    """
    drain(route.spool)
    with route.sealing(), route.contact(), route.index():
        refuse_while_holding(route)
        durable.rename_durably(route.path, f"{os.path.dirname(route.path)}/{_REMOVED}{route.name}.{durable.unique()}")
    _sweep_removed(route.spool)


def _sweep_removed(spool: str) -> None:
    """Clear away removed routes, also those of a removal that was stopped half way: they held no mail any more."""
    out = f"{spool}/{names.OUT}"
    left = [name for name in os.listdir(out) if name.startswith(_REMOVED)] if listing.is_directory(out) else []
    for name in left:
        shutil.rmtree(f"{out}/{name}", ignore_errors=True)  # another removal may be at the same work
    if left:
        durable.fsync_dir(out)


def refuse_while_holding(route: Route) -> None:
    """Raise :class:`~bsmtp_batch.errors.Usage` that says how much mail is in the way of removing ``route``."""
    found = holding(route)
    if found:
        raise Usage(
            f"route {route.name} holds mail: {found.fragments} messages in new/, {found.batches} batches in ready/,"
            f" {found.set_aside} files in dead/ ({found.octets} octets)",
            safe="Nothing was removed",
            next="stop the MTA from using the route, then `seal` and `push` it until `status` shows nothing,"
            " and move what is in dead/ elsewhere",
        )


def file_system(path: str) -> str | None:
    """The type of file system that ``path`` is on, where it is one that cannot keep the spool's promises; else None."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                _, place, found, *_ = line.split(" ")
                inside = real == place or real.startswith(place.rstrip("/") + "/")
                if inside and len(place) >= len(best):
                    best, kind = place, found
    except OSError:
        return None
    return kind if kind in UNSAFE else None


def _make_lock(path: str) -> None:
    try:
        os.close(durable.create(path))
    except FileExistsError:
        return
    os.utime(path, (0, 0))  # a lock nobody has held yet: see Route.last_contact


def proper_name(name: str) -> str:
    """The route that a user means by ``name``. Raises :class:`~bsmtp_batch.errors.Usage` when it can be none."""
    try:
        return names.route_name(name.encode())
    except ValueError as error:
        raise Usage(
            f"{name!r} cannot be the name of a route: {error}",
            safe="Nothing was changed",
            next="use the domain as it stands in DNS, such as example.org or xn--mller-kva.example",
        ) from error


def _files(directory: str) -> list[Entry]:
    try:
        return [e for e in listing.entries(directory) if isinstance(e, Entry)]
    except FileNotFoundError:
        return []  # a route that was made half way
