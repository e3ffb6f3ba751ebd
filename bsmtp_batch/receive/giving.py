"""The half of the conversation in which batches go out: list, get, pack, ack."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from bsmtp_batch.edge import road
from bsmtp_batch.errors import Bad
from bsmtp_batch.handover import outgoing
from bsmtp_batch.handover.outgoing import Hindrance
from bsmtp_batch.handover.parcel import Parcel, Receipt
from bsmtp_batch.handover.protocol import Line, Silence, papers
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.receive.desk import Desk, in_words
from bsmtp_batch.receive.door import unknown
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.expected import GRANTED, allow, forbid
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.listing import open_regular
from bsmtp_batch.spool.medium import CHUNK
from bsmtp_batch.spool.store import Route, road_copy

MOST = 5_000
"""Batches told of in one answer to ``list``."""


class Giving:
    """Gives what waits in ``routes``, which are held from the first question about them to the end of ``locks``."""

    def __init__(self, desk: Desk, inbox: Inbox, routes: list[Route], ledger: Ledger, locks: ExitStack) -> None:
        self._desk = desk
        self._inbox = inbox
        self._routes = routes
        self._ledger = ledger
        self._locks = locks
        self._copies = ExitStack()
        locks.callback(self._copies.close)
        self._mine: dict[str, Route] | None = None
        self._complete = True

    def list(self, _: Line) -> None:
        """What there is; of very many batches the smallest, and the others another time."""
        for one in heapq.nsmallest(MOST, self._ready(), key=lambda one: (one.size, one.name)):
            sizes, octets = papers(one)
            self._desk.say(Line("BATCH", one.name, sizes), octets)
        if self._complete:
            self._desk.say(Line("END"))
        else:
            # An empty list would be taken for "there is nothing", and the line hung up.
            self._desk.withhold("not all that waits here can be given now. It stays here. Next: run the command again")

    def _ready(self) -> Iterator[Parcel]:
        for route in self._held().values():
            for one in outgoing.ready(route):
                if isinstance(one, Hindrance):
                    self._hindered(one)
                else:
                    yield one

    def get(self, line: Line) -> None:
        """A batch, from an offset on."""
        route, found = self._ours(line.name)
        offset = line.number(0)
        if offset > found.size:
            raise unknown(line.name)
        fd = open_regular(route.at(names.READY, found.name))
        try:
            _check_size(found, os.fstat(fd).st_size)
            self._desk.say(Line("DATA", found.name, (str(found.size - offset),)))
            self._desk.owed = found.size - offset
            os.lseek(fd, offset, os.SEEK_SET)
            self._give(fd, found)
        finally:
            os.close(fd)
        self._given(found, found.size - offset)

    def _give(self, fd: int, found: Parcel) -> None:
        """The octets that were announced; once they began, a word of ours would be taken for one of them."""
        try:
            self._desk.give(_octets(fd, self._desk.owed))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Silence(f"{found.name} cannot be read: {error.strerror}") from error
        if self._desk.owed:
            raise Silence(f"{found.name} became shorter while it was read")

    def pack(self, line: Line) -> None:
        """A batch in the form in which another program is to take it away."""
        route, found = self._ours(line.name)
        form, path = line.values[0], route.at(names.READY, line.name)
        size = os.stat(path, follow_symlinks=False).st_size
        _check_size(found, size)
        if form != "plain":
            copy = road_copy(path, road.SUFFIXES[form])
            self._copies.close()  # one at a time: together they would need the room of all that waits
            self._copies.callback(_drop, copy)
            size = road.compress(path, copy, form, _nobody)
        self._inbox.make()
        self._locks.callback(forbid, self._inbox, GRANTED)
        allow(self._inbox, GRANTED, found.name + road.SUFFIXES[form], size)
        self._desk.say(Line("PACKED", found.name, (str(size),)))
        self._given(found, size)

    def ack(self, line: Line) -> None:
        """The receipt for a batch."""
        parsed = names.parse_batch_name(line.name)
        route = self._held().get(parsed[0]) if parsed else None
        if route is None:
            raise unknown(line.name)
        if outgoing.acknowledge(route, Receipt(line.name, line.values[0]), self._ledger):
            self._desk.tell(f"acknowledged {route.name}: batch {line.name}")
        self._desk.say(Line("OK", line.name))

    def _held(self) -> dict[str, Route]:
        if self._mine is None:
            mine, hindrances = outgoing.enter(self._locks, self._routes)
            for hindrance in hindrances:
                self._hindered(hindrance)
            self._mine = {route.name: route for route in mine}
        return self._mine

    def _hindered(self, hindrance: Hindrance) -> None:
        self._complete = self._complete and hindrance.code != 75
        self._desk.note(hindrance.code, hindrance.reason)

    def _ours(self, name: str) -> tuple[Route, Parcel]:
        """The route and parcel of a batch that this customer may have."""
        parsed = names.parse_batch_name(name)
        route = self._held().get(parsed[0]) if parsed else None
        if route is None or not route.is_sealed(name):
            raise unknown(name)
        return route, outgoing.one(route, name)

    def _given(self, found: Parcel, octets: int) -> None:
        self._desk.tally.count(octets)
        self._desk.tell(
            f"give {found.route}: batch {found.name}, {in_words(found.manifest.messages)}, {found.size} octets"
        )


def _check_size(found: Parcel, size: int) -> None:
    if size != found.size:
        raise Bad(
            f"ALARM: {found.name} has {size} octets where its manifest says {found.size}",
            safe="It was not handed over",
            next="look at the disk",
        )


def _octets(fd: int, size: int) -> Iterator[bytes]:
    while size and (chunk := os.read(fd, min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def _drop(copy: str) -> None:
    with suppress(OSError):  # what is left over is removed by age
        durable.remove(copy)


def _nobody(_: int) -> None:
    pass
