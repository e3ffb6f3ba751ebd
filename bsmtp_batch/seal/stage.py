"""The sealer of one route: choose, build, check, list, commit, forget the members.

Nothing but the spool carries state from one step to the next: a sealer that is stopped anywhere leaves a row of the
table of states, and whoever comes next walks on from there (:mod:`bsmtp_batch.spool.recover`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.errors import Later, Problem, Setting
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal.build import BadMember, Building, NeedsEhlo, Unreadable, Unsound
from bsmtp_batch.seal.events import Caps, Event, Left, Recovered, Sealed, SetAside, Waiting
from bsmtp_batch.spool import durable, names, recover, reserve
from bsmtp_batch.spool.groups import Place, drain
from bsmtp_batch.spool.listing import open_regular
from bsmtp_batch.spool.lists import Intent
from bsmtp_batch.spool.store import MANIFEST, REASON, SIGNATURE, Fragment, Route

SKEW = 60
"""Seconds a hand-in may seem to lie in the future before its age is taken for unknown, and so for old enough."""


@dataclass(frozen=True)
class _Order:
    """What one call of :func:`seal_route` was asked for."""

    route: Route
    node: str
    classic: bool
    now: Callable[[], float]
    ledger: Ledger | None
    sign: Callable[[bytes], bytes] | None


def waiting(route: Route, grouped: Sequence[Place] = ()) -> Waiting:
    """What waits in ``new/`` of ``route``, and, ``grouped``, in the groups of its spool."""
    found = [(f.size, f.modified) for f in route.waiting() if isinstance(f, Fragment)]
    found += [(place.size, place.when / 1e9) for place in grouped]
    return Waiting(len(found), sum(size for size, _ in found), min((when for _, when in found), default=None))


def is_due(found: Waiting, *, age: float, octets: int, messages: int, now: float) -> bool:
    """Whether what waits is to be sealed by now: by ``age`` of the oldest in seconds, by size or by count."""
    if found.oldest is None:
        return False
    waited = now - found.oldest
    return waited >= age or waited < -SKEW or found.octets >= octets or found.messages >= messages


def seal_route(
    route: Route,
    *,
    node: str,
    caps: Caps,
    classic: bool = False,
    reserve_size: int = 64_000_000,
    ledger: Ledger | None = None,
    now: Callable[[], float] = time.time,
    sign: Callable[[bytes], bytes] | None = None,
) -> Iterator[Event]:
    """Seal what waits in ``route`` at this moment; yields what happens as it happens, and notes batches in ``ledger``.
    ``sign`` gives the signature over a manifest; without it batches are not signed.

    Raises :class:`~bsmtp_batch.spool.locks.Busy` when another sealer is at work, :class:`~bsmtp_batch.errors.Later`
    when the disk refuses (every message is in ``new/`` or in a batch, as before), what ``sign`` raises (likewise), and
    :class:`~bsmtp_batch.errors.Setting` for a node name that cannot stand in a batch.
    """
    if not names.valid_node(node.encode()):
        raise _no_node(node)
    try:
        with route.sealing():
            yield from _rounds(_Order(route, node, classic, now, ledger, sign), caps)
            _make_reserve(route.spool, reserve_size)
    except OSError as error:
        raise _refused(route, error) from error


def _rounds(order: _Order, caps: Caps) -> Iterator[Event]:
    """One batch per round until all that waited at the start is sealed."""
    yield from _drain(order.route)
    yield from _recover(order.route)
    rest = sorted((f for f in order.route.waiting() if isinstance(f, Fragment)), key=lambda f: (f.modified, f.name))
    esmtp = False
    while rest:
        chosen = _choose(rest, caps)
        try:
            yield from _one(order, chosen, esmtp=esmtp)
            rest, esmtp = rest[len(chosen) :], False
        except NeedsEhlo:
            esmtp = True
        except OSError as error:
            if error.errno not in reserve.FULL:
                raise
            freed = reserve.give_up(order.route.spool)
            if not freed and len(chosen) == 1:
                yield Left(order.route.name, "the disk is full: not even one message can be sealed")
                return
            yield from _recover(order.route)
            octets = sum(f.size for f in chosen)
            caps = replace(caps, octets=min(caps.octets, freed // 2 if freed else octets // 4))


def _choose(rest: list[Fragment], caps: Caps) -> list[Fragment]:
    chosen, octets = [rest[0]], rest[0].size
    for fragment in rest[1 : caps.messages]:
        octets += fragment.size
        if octets > caps.octets:
            break
        chosen.append(fragment)
    return chosen


def _one(order: _Order, chosen: list[Fragment], *, esmtp: bool) -> Iterator[Event]:
    """One batch: from the fragments in ``new/`` to a file in ``ready/`` whose list is done."""
    route = order.route
    sequence, previous = route.numbering()
    when = order.now()
    name = names.batch_name(route.name, sequence, when, order.node)
    passing = route.at(names.TMP, name)
    try:
        with Building(passing, order.node, esmtp=esmtp, classic=order.classic) as building:
            yield from _add_all(route, building, chosen)
            sha256 = building.finish()
    except (NeedsEhlo, Unsound) as error:
        durable.remove(passing)
        if isinstance(error, NeedsEhlo):
            raise
        raise _unsound(route, error) from error
    if not building.members:
        durable.remove(passing)
        return
    manifest = Manifest(
        name=name,
        route=route.name,
        origin=order.node,
        sequence=sequence,
        messages=building.messages,
        recipients=building.recipients,
        bytes=building.size,
        sha256=sha256,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
        previous=previous,
        dialect="classic" if order.classic else "esmtp",
    )
    signature = _signature(order, manifest, passing)
    _commit(route, manifest, signature, building)
    sealed = Sealed(route.name, name, sequence, building.messages, building.recipients, building.size, sha256)
    yield sealed
    yield from _note(order.ledger, sealed)


def _signature(order: _Order, manifest: Manifest, passing: str) -> bytes:
    """The signature over ``manifest``, empty where none is wanted; without one that is wanted the batch goes."""
    try:
        return order.sign(manifest.to_bytes()) if order.sign else b""
    except Problem:
        durable.remove(passing)
        raise


def _note(ledger: Ledger | None, sealed: Sealed) -> Iterator[Event]:
    """The batch into the ledger; no trouble there keeps mail from being sealed."""
    if ledger is None:
        return
    try:
        ledger.note_batch(
            "out",
            sealed.route,
            sealed.name,
            sealed.sequence,
            sealed.sha256,
            sealed.messages,
            sealed.recipients,
            sealed.octets,
            names.READY,
        )
    except Later as problem:
        yield Left(sealed.route, f"{sealed.name} is sealed, but not in the ledger: {problem.what}")


def _add_all(route: Route, building: Building, chosen: list[Fragment]) -> Iterator[Event]:
    for fragment in chosen:
        try:
            source = open_regular(fragment.path)
        except FileNotFoundError:
            continue  # finished by the recovery after a full disk
        except OSError as error:
            yield Left(route.name, f"{fragment.path} cannot be opened: {error.strerror}")
            continue
        try:
            building.add(fragment, source)
        except Unreadable as error:
            yield Left(route.name, f"{fragment.path} cannot be read: {error}; the messages beside it are sealed")
        except BadMember as error:
            if _set_aside(route, fragment, source, str(error)):
                yield SetAside(route.name, fragment.name, route.at(names.DEAD, fragment.name), str(error))
            else:
                yield Left(route.name, f"{fragment.name} was handed in again while its damaged copy was read")
        finally:
            os.close(source)


def _commit(route: Route, manifest: Manifest, signature: bytes, building: Building) -> None:
    """Intent, commit, and the walk to the end; each step durable before the next."""
    name = manifest.name
    durable.write_file(route.at(names.TMP, name + MANIFEST), manifest.to_bytes())
    if signature:
        durable.write_file(route.at(names.TMP, name + SIGNATURE), signature)
    intent = Intent(
        name=name,
        route=route.name,
        sequence=manifest.sequence,
        size=manifest.bytes,
        sha256=manifest.sha256,
        manifest=manifest.digest(),
        members=tuple(building.members),
    )
    durable.write_file(route.list_path(manifest.sequence, done=False), intent.to_bytes())
    for file in (name + MANIFEST, *([name + SIGNATURE] if signature else []), name):
        durable.rename_durably(route.at(names.TMP, file), route.at(names.READY, file))
    recover.finish_commit(route, intent)


def _set_aside(route: Route, fragment: Fragment, source: int, reason: str) -> bool:
    """Move a damaged fragment to ``dead/``; its KEY is not remembered, so the MTA may hand the message in again.

    Under the exclusive lock, and only while ``new/`` still has the file that was read: an MTA that repeats itself may
    have put a sound copy in its place, and was told yes for it. False when it has.
    """
    with route.index():
        try:
            there, read = os.stat(fragment.path, follow_symlinks=False), os.fstat(source)
        except FileNotFoundError:
            return False
        if (there.st_dev, there.st_ino) != (read.st_dev, read.st_ino):
            return False
        dead = route.at(names.DEAD, fragment.name)
        durable.write_file(dead + REASON, (reason + "\n").encode())
        durable.rename_durably(fragment.path, dead)
    return True


def _drain(route: Route) -> Iterator[Event]:
    """Mail acknowledged in a group, whatever became of its server. What is in ``new/`` does not wait for that."""
    try:
        for sentence in drain(route.spool):
            yield Recovered(route.name, sentence)
    except OSError as error:
        yield Left(route.name, f"accepted mail stays in its group: {error.strerror or error} ({error.filename})")


def _recover(route: Route) -> Iterator[Event]:
    for sentence in recover.recover_seal(route):
        yield Recovered(route.name, sentence)


def _make_reserve(spool: str, size: int) -> None:
    try:
        reserve.make(spool, size)
    except OSError:
        pass  # still full: every seal and `route add` try again, and `status` shows that it is missing


def _no_node(node: str) -> Setting:
    return Setting(
        f"{node!r} cannot be the name of a node",
        safe="Nothing was changed",
        next="set [node] name to a host name: letters, digits, hyphens and dots, in lower case",
    )


def _refused(route: Route, error: OSError) -> Later:
    return Later(
        f"the disk refused while {route.name} was sealed: {error.strerror or error} ({error.filename or route.path})",
        safe="Every message waits in new/ or is in a batch, none is in between for good",
        next="look at the disk and the kernel's messages, then seal again",
    )


def _unsound(route: Route, error: Unsound) -> Later:
    return Later(
        f"the batch of {route.name} could not be read back as it was written: {error}",
        safe="It was thrown away; its messages wait in new/ as before",
        next="test the disk and the memory of this machine, then seal again",
    )
