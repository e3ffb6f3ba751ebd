"""Receive: the far end of a push or pull, speaking over two streams with one customer and about nobody else's mail.

What it may give are the batches of the routes it was started with, and what it takes goes to the one origin it was
started with; no name that comes over the line is looked for anywhere else. See
:mod:`bsmtp_batch.handover.protocol`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from bsmtp_batch.errors import Bad, Later, Problem
from bsmtp_batch.handover import outgoing
from bsmtp_batch.handover.intake import Differs, Intake
from bsmtp_batch.handover.outgoing import Hindrance
from bsmtp_batch.handover.parcel import Parcel, Receipt, parcel
from bsmtp_batch.handover.protocol import VERSION, Line, Silence, Unspeakable, no, read_exactly, read_line
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool import names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.listing import open_regular
from bsmtp_batch.spool.medium import CHUNK, write_part
from bsmtp_batch.spool.store import Route


@dataclass
class Tally:
    """What a contact came to: batches and octets that went over, and the exit code of the worst thing in it."""

    batches: int = 0
    octets: int = 0
    code: int = 0
    result: str = "ok"

    def blame(self, code: int, sentence: str) -> None:
        """Something went wrong; of several things the first is remembered, and 75 outranks 65."""
        if self.code == 0:
            self.result = sentence
        self.code = 75 if 75 in (code, self.code) else code


class Receiver:
    """Serves one contact of ``origin``, whose mail waits in ``routes``.

    ``tell`` gets a line for people about each thing done.
    """

    def __init__(
        self,
        inbox: Inbox,
        routes: list[Route],
        ledger: Ledger,
        *,
        reading: BinaryIO,
        writing: BinaryIO,
        tell: Callable[[str], None],
    ) -> None:
        self._inbox = inbox
        self._routes = routes
        self._mine: dict[str, Route] | None = None
        self._ledger = ledger
        self._intake = Intake(ledger)
        self._reading = reading
        self._writing = writing
        self._tell = tell
        self._commands = {"list": self._list, "get": self._get, "ack": self._ack, "put": self._put}
        self._owed = 0  # octets of a body that were announced and have not gone by: until then nothing else can be said
        self.tally = Tally()

    def serve(self) -> Tally:
        """Answer until the other side quits or goes away. Raises ``BrokenPipeError`` when nobody listens."""
        started = time.time()
        try:
            with ExitStack() as locks:
                self._say(Line("READY", "", (str(VERSION),)).to_bytes())
                while self._one(locks):
                    pass
        except Silence as silence:
            self.tally.blame(75, f"the contact broke off: {silence}")
        except BaseException:
            self.tally.blame(75, "the contact broke off")
            raise
        finally:
            tally = self.tally
            self._ledger.record_contact(
                self._inbox.origin, "receive", started, time.time(), tally.batches, tally.octets, tally.result
            )
        return tally

    def _one(self, locks: ExitStack) -> bool:
        """One command; False after the last one."""
        try:
            line = read_line(self._reading)
        except Unspeakable as error:
            # What follows could be the octets of something that was not understood: no telling where the next line
            # begins.
            self._refuse(64, str(error))
            return False
        if line is None or line.verb == "quit":
            if line is not None:
                self._say(Line("BYE").to_bytes())
            return False
        command = self._commands.get(line.verb)
        if command is None:
            self._refuse(64, "there is no such command")
            return False
        try:
            command(line, locks)
        except Problem as problem:
            self._refuse(problem.code if problem.code in (65, 75) else 75, str(problem))
        except BrokenPipeError:
            raise
        except OSError as error:
            self._refuse(75, f"{error.strerror or 'the disk refused'}; nothing was acknowledged")
        return not self._owed

    def _list(self, _: Line, locks: ExitStack) -> None:
        for route in self._held(locks).values():
            for one in outgoing.ready(route):
                if isinstance(one, Hindrance):
                    self._note(one.code, one.reason)
                else:
                    self._say(Line("BATCH", one.name, (str(len(one.raw)),)).to_bytes() + one.raw)
        self._say(Line("END").to_bytes())

    def _get(self, line: Line, locks: ExitStack) -> None:
        route, found = self._ours(line.name, locks)
        offset = line.number(0)
        if offset > found.size:
            raise _unknown(line.name)
        fd = open_regular(route.at(names.READY, found.name))
        try:
            size = os.fstat(fd).st_size
            if size != found.size:
                raise Bad(
                    f"ALARM: {found.name} has {size} octets where its manifest says {found.size}",
                    safe="It was not handed over",
                    next="look at the disk",
                )
            self._say(Line("DATA", found.name, (str(size - offset),)).to_bytes())
            self._owed = size - offset
            os.lseek(fd, offset, os.SEEK_SET)
            while self._owed and (chunk := os.read(fd, min(self._owed, CHUNK))):
                self._writing.write(chunk)
                self._owed -= len(chunk)
            self._writing.flush()
        finally:
            os.close(fd)
        self._count(found.size - offset)
        self._tell(f"give {found.route}: batch {found.name}, {found.manifest.messages} messages, {found.size} octets")

    def _ack(self, line: Line, locks: ExitStack) -> None:
        parsed = names.parse_batch_name(line.name)
        route = self._held(locks).get(parsed[0]) if parsed else None
        if route is None:
            raise _unknown(line.name)
        if outgoing.acknowledge(route, Receipt(line.name, line.values[0]), self._ledger):
            self._tell(f"acknowledged {route.name}: batch {line.name}")
        self._say(Line("OK", line.name).to_bytes())

    def _put(self, line: Line, _: ExitStack) -> None:
        raw = read_exactly(self._reading, line.number(1))
        offered = parcel(line.name, raw)
        if offered.size != line.number(0):
            raise _other_size(offered)
        self._inbox.make()
        with self._inbox.intake():
            if not self._intake.held(self._inbox, offered):
                self._take(offered)
        self._say(offered.receipt.to_bytes())

    def _take(self, offered: Parcel) -> None:
        part = self._inbox.part(offered.name)
        offset = min(_size(part), offered.size)
        if offset == offered.size:
            offset = 0  # a part that is whole and was not kept is not what it should be
        _room(self._inbox, offered.size - offset)
        self._say(Line("GO", offered.name, (str(offset),)).to_bytes())
        write_part(part, self._body(offered.size - offset), append=offset > 0)
        try:
            arrived = self._intake.keep(self._inbox, offered)
        except Differs as error:
            raise self._damaged(offered, error, resumed=offset > 0) from error
        self._count(offered.size - offset)
        self._tell(
            f"receive {self._inbox.origin}: batch {offered.name}, {offered.manifest.messages} messages,"
            f" {offered.size} octets" + (f" ({arrived.remark})" if arrived.remark else "")
        )

    def _body(self, size: int) -> Iterator[bytes]:
        self._owed = size
        while self._owed:
            chunk = self._reading.read(min(self._owed, CHUNK))
            if not chunk:
                raise Silence(f"{self._owed} more octets of a batch were announced")
            self._owed -= len(chunk)
            yield chunk

    def _damaged(self, offered: Parcel, error: Differs, *, resumed: bool) -> Problem:
        """It came to its end and is wrong. What was resumed may have begun wrong: then the next contact starts anew."""
        if resumed:
            self._inbox.drop_part(offered.name)
            return error
        path = self._inbox.set_damaged(offered.name, offered.raw, error.what)
        self._intake.note(self._inbox, offered, "damaged", error.what)
        return Bad(error.what, safe=f"It was not acknowledged; what came is in {path}", next="send it again")

    def _held(self, locks: ExitStack) -> dict[str, Route]:
        """The routes of this customer, held from the first question about them to the end of the contact."""
        if self._mine is None:
            mine, hindrances = outgoing.enter(locks, self._routes)
            for hindrance in hindrances:
                self._note(hindrance.code, hindrance.reason)
            self._mine = {route.name: route for route in mine}
        return self._mine

    def _ours(self, name: str, locks: ExitStack) -> tuple[Route, Parcel]:
        """The route and parcel of a batch that this customer may have."""
        for route in self._held(locks).values():
            for one in outgoing.ready(route):
                if isinstance(one, Parcel) and one.name == name:
                    return route, one
        raise _unknown(name)

    def _count(self, octets: int) -> None:
        self.tally.batches += 1
        self.tally.octets += octets

    def _note(self, code: int, sentence: str) -> None:
        self.tally.blame(code, sentence)
        self._tell(f"receive {self._inbox.origin}: {sentence}")

    def _refuse(self, code: int, sentence: str) -> None:
        self._note(code, sentence)
        self._say(no(code, sentence))

    def _say(self, data: bytes) -> None:
        self._writing.write(data)
        self._writing.flush()


def _size(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _room(inbox: Inbox, octets: int) -> None:
    system = os.statvfs(inbox.path)
    if system.f_bavail * system.f_frsize < octets:
        raise Later(
            f"there is no room here for {octets} octets",
            safe="Nothing of the batch was taken, so the far side keeps it",
            next="make room in the spool; the next contact tries again",
        )


def _unknown(name: str) -> Bad:
    # The same sentence whether there is no such batch or it is somebody else's: no names can be guessed.
    return Bad(f"there is no batch {name} for you here", safe="Nothing was moved", next="ask with `list` what there is")


def _other_size(offered: Parcel) -> Bad:
    return Bad(
        f"the manifest of {offered.name} says {offered.size} octets, the command another number",
        safe="Nothing of it was taken",
        next="send it again",
    )
