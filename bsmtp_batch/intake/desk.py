"""What the sessions of an intake share: what is taken at all, and whether there is room for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from bsmtp_batch.intake.routing import Refused, Route, Routes, later
from bsmtp_batch.spool.names import Limits
from bsmtp_batch.wire.events import Reply

EXTENSIONS = b"PIPELINING\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES\nCHUNKING\nXFORWARD IDENT"
"""What is offered, beside SIZE. Of what XFORWARD can tell only the queue id is of use here."""
LOOK = 0.1
"""Seconds for which a look at the free space is believed."""
FLOOR = 10.0
"""Seconds for which the lowest limits of all routes are believed."""


@dataclass(frozen=True)
class Bounds:
    """What one session may do. ``octets`` of a message (0: any number), ``recipients`` of one, ``faults`` before it is
    closed, ``idle`` commands in a row that move no mail."""

    octets: int = 0
    recipients: int = 1000
    faults: int = 20
    idle: int = 1000


def leeway(most: int) -> int:
    """By how much the size that an MTA tells may be too large (Exim's is, by more than 1024): what is refused for good
    on the word of a number alone must be too large indeed."""
    return most // 8 + 4096


class Desk:
    """``name`` is what we call ourselves."""

    def __init__(
        self,
        name: str,
        spool: str,
        routes: Routes,
        bounds: Bounds,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name.encode()
        self.greeting = Reply(220, b"", self.name + b" LMTP")
        size = b"SIZE %d" % bounds.octets if bounds.octets else b"SIZE"
        self.hello = Reply(250, b"", b"\n".join((self.name, EXTENSIONS, size)))
        self.routes = routes
        self.bounds = bounds
        self.closed: Reply | None = None
        """Why nothing is taken at present: 421."""
        self._spool = spool
        self._now = now
        self._looked = self._floored = float("-inf")
        self._free = self._inodes = 0
        self._counted = False
        self._floor = (0, 0)

    def no_mail_now(self) -> Reply | None:
        """The 421 to MAIL while no route takes anything."""
        if self.closed is not None:
            return self.closed
        try:
            if self._room():
                return None
        except OSError as error:
            return Reply(421, b"4.3.0", self.name + b" " + _unseen(error).encode())
        return Reply(421, b"4.3.1", self.name + b" there is no room for mail now")

    def admit(self, route: Route, size: int) -> None:
        """Raises :class:`Refused` where ``route`` takes no message of ``size`` octets, as far as can be known now."""
        limits = route.limits
        if limits.max_size and size > limits.max_size + leeway(limits.max_size):
            raise Refused(552, b"5.3.4", f"the route {route.name} takes messages of up to {limits.max_size} octets")
        try:
            self._look()
        except OSError as error:
            raise later(_unseen(error)) from None
        if not self._has(limits.min_free + size, limits.min_inodes):
            raise Refused(452, b"4.3.1", f"there is no room for mail of the route {route.name} now")

    def _room(self) -> bool:
        """Whether any route takes anything. Raises ``OSError``."""
        usual = Limits()
        self._look()
        if self._has(usual.min_free, usual.min_inodes):
            return True
        now = self._now()
        if now - self._floored > FLOOR:
            self._floor = self.routes.floor()
            self._floored = now
        return self._has(*self._floor)

    def _has(self, octets: int, inodes: int) -> bool:
        return self._free >= octets and (not self._counted or self._inodes >= inodes)

    def _look(self) -> None:
        now = self._now()
        if now - self._looked > LOOK:
            disk = os.statvfs(self._spool)
            self._free, self._inodes = disk.f_bavail * disk.f_frsize, disk.f_favail
            self._counted = bool(disk.f_files)  # some file systems count no inodes
            self._looked = now


def _unseen(error: OSError) -> str:
    return f"the spool cannot be looked at: {error.strerror}"
