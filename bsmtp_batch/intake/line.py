"""One connection of an intake: what a conversation wants done, done."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from bsmtp_batch.edge.reactor import Connection, Reactor
from bsmtp_batch.intake.conversation import Conversation
from bsmtp_batch.intake.desk import Desk
from bsmtp_batch.intake.message import Message
from bsmtp_batch.intake.pool import Pool
from bsmtp_batch.intake.spill import Spill
from bsmtp_batch.wire.events import Reply

IDLE = 300.0
"""Seconds a client may say nothing (RFC 5321 section 4.5.3.2.7)."""
DISK = 240.0
"""Seconds after which nobody waits for the disk any longer: Postfix waits 600 for the reply to the dot."""
IN_MEMORY = 1 << 20
"""Octets of text that one message may hold in memory."""
BUSY = 64 * 1024
"""... when all together hold more than :data:`ALTOGETHER`."""
ALTOGETHER = 32 << 20
SLICE = 256 * 1024
"""Octets of a large message that are handed to the disk at a time."""

SLOW = Reply(451, b"4.3.0", b"the disk does not answer")
_GONE = Reply(451, b"4.4.2", b"the connection was lost")
_BUG = Reply(451, b"4.3.0", b"a bug in bsmtp-batch, see its log")


@dataclass(frozen=True)
class Patience:
    """Seconds: between two words of a client, and for the disk."""

    idle: float = IDLE
    disk: float = DISK


class Host(Protocol):
    """What a line is part of."""

    desk: Desk
    tell: Callable[[str], None]
    patience: Patience
    reactor: Reactor
    disks: Pool
    held: int

    def wait(self, line: Line, message: Message) -> None:
        """The text of ``message`` is complete and in memory."""

    def later(self, line: Line) -> None:
        """``line`` has more to answer when others have had their turn."""

    def gone(self, line: Line) -> None:
        """``line`` is over."""


class Line:
    """See :class:`~bsmtp_batch.edge.reactor.Handler`."""

    __slots__ = ("_asked", "_connection", "_conversation", "_counted", "_ending", "_host", "_message", "_until")

    def __init__(self, host: Host, connection: Connection) -> None:
        self._host = host
        self._connection = connection
        self._conversation = Conversation(host.desk)
        self._message: Message | None = None  # the one under way that was seen last
        self._counted = 0  # of its octets in host.held
        self._until = 0.0  # when it has to be there
        self._asked = 0.0  # when a thread was given work on it
        self._ending = False

    def greet(self) -> None:
        """Say the first thing."""
        self._connection.deadline = time.monotonic() + self._host.patience.idle
        self._connection.write(self._conversation.greeting())

    # --- called by the reactor ----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """See ``Handler``."""
        if self._conversation.complete is not None:
            self._connection.pause()  # it speaks before it was answered: kept, and nothing more is read until then
            self._conversation.receive(data)
        else:
            self._after(self._conversation.receive(data))

    def expired(self) -> None:
        """See ``Handler``."""
        if self._conversation.complete is None:
            self._bye(b" it took too long")

    def lost(self) -> None:
        """See ``Handler``."""
        self._conversation.abandon()
        self._sweep()
        self._host.gone(self)

    # --- called by the host -------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Answer what was received before."""
        if not self._conversation.over:
            self._after(self._conversation.go_on())

    def settled(self, message: Message) -> None:
        """The verdicts on ``message`` are there."""
        if self._conversation.complete is not message:
            return  # it was told something else already
        self._uncount()
        out = self._conversation.settled(message)
        if self._ending:
            self._connection.write(out)
            self._bye(b" going down")
        elif not self._conversation.over:
            self._after(out + self._conversation.go_on())

    def failed(self, message: Message, reply: Reply) -> None:
        """It was not to be: ``reply`` for all of its recipients."""
        message.refuse(reply)
        self.settled(message)

    def abort(self) -> None:
        """A fault of ours was met in what was done for it."""
        self._connection.finish()

    def end(self) -> None:
        """The daemon ends: what is complete is still answered."""
        self._ending = True
        if self._conversation.complete is None:
            self._bye(b" going down")

    def look(self, now: float) -> None:
        """Called once a second: whether the disk keeps a large message waiting for too long."""
        message = self._conversation.complete or self._conversation.message
        if self._asked and message is not None and now - self._asked > self._host.patience.disk:
            self._asked = 0.0
            self._host.tell("serve: the disk does not answer for a large message; it is not acknowledged")
            self.failed(message, SLOW)
            self._connection.resume()

    # --- what follows from what was said ------------------------------------------------------------------------

    def _after(self, out: bytes) -> None:
        """``out`` is to be written; then see what is to be done."""
        conversation = self._conversation
        if out:
            self._connection.write(out)
        if conversation.dropped:
            self._sweep()
        if conversation.over:
            (self._connection.finish if conversation.quitted else self._connection.close)()
        elif conversation.complete is not None:
            self._connection.deadline = float("inf")
            self._complete(conversation.complete)
        elif conversation.behind:
            self._connection.pause()
            self._host.later(self)
        else:
            self._connection.resume()
            now = time.monotonic()
            self._connection.deadline = now + self._host.patience.idle
            if conversation.message is not None:
                self._under_way(conversation.message, now)

    def _under_way(self, message: Message, now: float) -> None:
        if message is not self._message:
            self._message, self._until = message, float("inf")
        if not message.came:
            return
        if self._until == float("inf"):
            self._until = now + min(route.limits.deadline for route in message.routes)
        self._connection.deadline = min(self._connection.deadline, self._until)
        self._host.held += message.held - self._counted
        self._counted = message.held
        self._bulk(message)

    def _bulk(self, message: Message) -> None:
        """A message that is too large for memory goes to the disk as it comes, and no faster."""
        spill = message.spill
        if message.refused is not None:
            if spill is not None and not spill.busy:
                self._discard(message)  # at once, whatever still comes
            return
        if spill is None:
            crowded = message.held > BUSY and self._host.held > ALTOGETHER
            if message.held <= IN_MEMORY and not crowded:
                return
            spill = message.spill = Spill(message)
        if message.held < SLICE:
            return
        if spill.busy:
            self._connection.pause()
        else:
            pieces = self._taken(message)
            self._work(message, lambda: spill.write(pieces))

    def _complete(self, message: Message) -> None:
        spill = message.spill
        if spill is None:
            self._host.wait(self, message)
        elif message.refused is not None:  # also while the disk hangs over it; what there is of it goes later then
            if not spill.busy:
                self._discard(message)
            self.settled(message)
        elif not spill.busy:
            pieces = self._taken(message)
            wanted = message.wanted
            self._work(message, lambda: spill.finish(pieces, wanted))

    def _work(self, message: Message, what: Callable[[], None]) -> None:
        """Have a thread do ``what`` to the spill of ``message``."""
        spill, call = message.spill, self._host.reactor.call
        assert spill is not None
        spill.busy = True
        self._asked = time.monotonic()

        def work() -> None:
            try:
                what()
            except Exception as error:  # noqa: BLE001 - told to the client and to the log
                fault = repr(error)
                call(lambda: self._worked(message, fault))
            else:
                call(lambda: self._worked(message, ""))

        try:
            self._host.disks.submit(work)
        except RuntimeError as error:
            fault = repr(error)
            call(lambda: self._worked(message, fault))

    def _worked(self, message: Message, fault: str) -> None:
        spill = message.spill
        assert spill is not None
        spill.busy = False
        self._asked = 0.0
        if fault:
            self._host.tell(f"serve: a large message met a fault of ours: {fault}")
            message.refuse(_BUG)
        if message.refused is not None:
            self._discard(message)
        if self._conversation.complete is message:
            if spill.finished:
                self.settled(message)
            else:
                self._complete(message)
        elif self._conversation.message is message and not self._conversation.over:
            self._connection.resume()
            self._bulk(message)

    # --- letting go ---------------------------------------------------------------------------------------------

    def _taken(self, message: Message) -> list[bytes]:
        self._uncount()
        return message.taken()

    def _uncount(self) -> None:
        self._host.held -= self._counted
        self._counted = 0

    def _sweep(self) -> None:
        """Messages that will not be completed leave nothing behind."""
        self._uncount()
        dropped, self._conversation.dropped = self._conversation.dropped, []
        for message in dropped:
            message.refuse(_GONE)
            if message.spill is not None and not message.spill.busy:
                self._discard(message)

    def _discard(self, message: Message) -> None:
        spill = message.spill
        if spill is not None and not spill.finished:
            spill.finished = True
            with suppress(RuntimeError):  # there is no thread for it, and has been none: it has written nothing
                self._host.disks.submit(spill.discard)

    def _bye(self, words: bytes) -> None:
        name = self._host.desk.name
        self._connection.write(self._conversation.goodbye(Reply(421, b"4.3.2", name + words)))
        self._sweep()
        self._connection.close()
