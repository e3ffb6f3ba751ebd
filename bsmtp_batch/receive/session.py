"""The conversation of one contact, from ``READY`` to ``BYE`` (:mod:`bsmtp_batch.handover.protocol`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import BinaryIO

from bsmtp_batch.errors import Problem
from bsmtp_batch.handover.intake import Intake
from bsmtp_batch.handover.protocol import VERSION, Line, Silence, Unspeakable
from bsmtp_batch.handover.trust import UNSIGNED, Trust
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.receive.desk import Desk, Tally
from bsmtp_batch.receive.giving import Giving
from bsmtp_batch.receive.taking import Taking
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Route

Commands = dict[str, Callable[[Line], None]]


class Receiver:
    """Serves one contact of the origin of ``inbox``, whose mail waits in ``routes``.

    ``trust`` says which signatures its batches need; ``tell`` gets a line for people about each thing done.
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
        trust: Trust = UNSIGNED,
    ) -> None:
        self._inbox = inbox
        self._routes = routes
        self._ledger = ledger
        self._intake = Intake(ledger, trust)
        self._desk = Desk(inbox.origin, reading, writing, tell)

    @property
    def tally(self) -> Tally:
        """What the contact came to so far."""
        return self._desk.tally

    def serve(self) -> Tally:
        """Answer until the other side quits or goes away. Raises ``BrokenPipeError`` when nobody listens."""
        started = time.time()
        try:
            with ExitStack() as locks:
                commands = self._commands(locks)
                self._desk.say(Line("READY", "", (str(VERSION),)))
                while self._one(commands):
                    pass
            self._tell_gaps()
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

    def _tell_gaps(self) -> None:
        """Nothing hangs on it: `status` tells of them, too."""
        with suppress(OSError):
            for origin, sentence in self._intake.gaps():
                self._desk.tell(f"receive {origin}: {sentence}")

    def _commands(self, locks: ExitStack) -> Commands:
        giving = Giving(self._desk, self._inbox, self._routes, self._ledger, locks)
        taking = Taking(self._desk, self._inbox, self._intake, locks)
        out: Commands = {"list": giving.list, "get": giving.get, "pack": giving.pack, "ack": giving.ack}
        return out | {"put": taking.put, "offer": taking.offer, "size": taking.size, "sent": taking.sent}

    def _one(self, commands: Commands) -> bool:
        """One command; False after the last one."""
        try:
            line = self._desk.line()
        except Unspeakable as error:
            # What follows could be the octets of something that was not understood: no telling where the next line
            # begins.
            self._desk.refuse(64, str(error))
            return False
        if line is None or line.verb == "quit":
            if line is not None:
                self._desk.say(Line("BYE"))
            return False
        command = commands.get(line.verb)
        if command is None:
            self._desk.refuse(64, "there is no such command")
            return False
        try:
            command(line)
        except Problem as problem:
            self._desk.refuse(problem.code if problem.code in (65, 75) else 75, str(problem))
        except BrokenPipeError:
            raise
        except OSError as error:
            self._desk.refuse(75, f"{error.strerror or 'the disk refused'}; nothing was acknowledged")
        return not self._desk.owed
