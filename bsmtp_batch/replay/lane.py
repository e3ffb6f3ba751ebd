"""One of several connections: what is on its way on it, and a thread for whatever takes long.

While a message is like the others a lane belongs to the thread that looks after all of them; flights are said and heard
there (:mod:`bsmtp_batch.replay.steady`). To connect, to carry a large message, and to find out what an unusual answer
means, it is lent to its own thread, which knows nothing of ledgers: it asks before a dot, and tells what came of it.
"""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from bsmtp_batch.batch.file import Changed
from bsmtp_batch.edge.sockets import SocketChannel
from bsmtp_batch.replay.contract import Connection, Job, Result, Target
from bsmtp_batch.replay.smtp import SmtpConnection

if TYPE_CHECKING:
    from bsmtp_batch.replay.engine import Delivery

T = TypeVar("T")


class Phase(enum.Enum):
    """Where a lane stands."""

    CLOSED = enum.auto()
    """There is no connection."""
    IDLE = enum.auto()
    """There is a connection with nothing on it."""
    AWAY = enum.auto()
    """Its own thread has it."""
    ENVELOPE = enum.auto()
    """The envelope of ``current`` was sent."""
    READY = enum.auto()
    """The text of ``current`` is wanted, and its dot waits for the ledger."""
    DOT = enum.auto()
    """The dot of ``current`` was sent, with the envelope of ``following`` if there is one."""


class Withdrawn(Exception):
    """The dot must not be sent."""


class Lane:
    """A connection to ``target``, or the place for one. ``post`` has what it is given done by the thread of the fleet,
    to which everything here belongs but :meth:`_serve` and what that calls."""

    def __init__(self, target: Target, post: Callable[[Callable[[], None]], None]) -> None:
        self.phase = Phase.CLOSED
        self.connection: Connection | None = None
        self.line: SocketChannel | None = None
        """What flights go out on; None where each message needs the thread."""
        self.current: Delivery | None = None
        self.following: Delivery | None = None
        """What was announced behind ``current``."""
        self.stash: Delivery | None = None
        """What is to be handed in here next, and was not announced."""
        self.text = b""
        self.heard = b""
        self.unsent: memoryview | None = None
        self.sent = 0
        """Octets of the flight that the system has taken."""
        self.dots = 0
        """Answers that the dot wants."""
        self.rcpts = 0
        """Recipients of the envelope in the flight."""
        self.offered: frozenset[bytes] = frozenset()
        """The keywords of the server."""
        self.each = False
        """Whether it answers a dot for every recipient."""
        self.patience = 1.0
        self.place = -1
        """The descriptor of ``line`` while it is watched."""
        self.since = 0.0
        """When the flight began."""
        self.until = 0.0
        """When the answer, or the room for the rest of the flight, has to be there."""
        self.used = 0.0
        self._target = target
        self._post = post
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._answers: SimpleQueue[bool | Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def know(self, connection: SmtpConnection) -> None:
        """Remember what the server behind ``connection`` is like."""
        self.offered = frozenset(connection.extensions)
        self.patience = connection.patience
        self.each = connection.answers_each

    def load(self) -> None:
        """Have the text of ``current`` at hand, before its dot is noted anywhere. Raises ``OSError``."""
        assert self.current is not None
        span = self.current.job.span
        assert span is not None
        self.text = os.pread(span.fd, span.size, span.offset)
        if len(self.text) < span.size:
            raise Changed("the batch became shorter while it was read")

    # -- orders to the thread ------------------------------------------------------------------------------------

    def order(self, work: Callable[[], None]) -> None:
        """Have ``work`` done by the lane's own thread, after what it was given before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="replay", daemon=True)
            self._thread.start()
        self._orders.put(work)

    def answer(self, what: bool | Job | None) -> None:
        """Answer what the thread asks and waits for."""
        self._answers.put(what)

    def end(self) -> None:
        """Let the thread end, when it has done what it was given, and wait for that."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
            self._thread = None

    def cut(self) -> None:
        """End the connection under whoever waits for it."""
        self._answers.put(None)
        if isinstance(self.connection, SmtpConnection):
            self.connection.cut()

    def _serve(self) -> None:
        while (work := self._orders.get()) is not None:
            work()

    # -- what is done there; each of these tells the fleet by ``post`` ------------------------------------------------

    def connect(self, opened: Callable[[Connection], None], failed: Callable[[BaseException], None]) -> None:
        """Reach the target."""
        try:
            connection = self._target.connect()
        except BaseException as error:  # noqa: BLE001 - it is raised where the fleet is run
            self._tell(failed, error)
        else:
            self._tell(opened, connection)

    def carry(
        self,
        job: Job,
        wants_dot: Callable[[], None],
        asks_next: Callable[[], None],
        carried: Callable[[Result], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Hand in ``job`` by the wire core."""

        def before_dot() -> None:
            self._post(wants_dot)
            if not self._answers.get():
                raise Withdrawn

        def next_job() -> Job | None:
            self._post(asks_next)
            answer = self._answers.get()
            return answer if isinstance(answer, Job) else None

        assert self.connection is not None
        try:
            result = self.connection.carry(job, before_dot, next_job)
        except BaseException as error:  # noqa: BLE001 - as above
            self._tell(failed, error)
        else:
            self._tell(carried, result)

    def regain(
        self,
        dotted: Job | None,
        begun: Job | None,
        trouble: OSError | None,
        regained: Callable[[Result | None], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Find out what became of a flight that did not go like the others."""
        assert isinstance(self.connection, SmtpConnection)
        try:
            whole = self.sent >= len(self.text) + len(b".\r\n")
            result = self.connection.regain(dotted, begun, self.heard, trouble, whole=whole)
        except BaseException as error:  # noqa: BLE001 - as above
            self._tell(failed, error)
        else:
            self._tell(regained, result)

    def _tell(self, whom: Callable[[T], None], what: T) -> None:
        self._post(lambda: whom(what))
