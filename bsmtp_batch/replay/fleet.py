"""The replay over several connections: one source of messages, one ledger, and whoever is as far shares a commit.

One thread hands out the messages, notes marks and outcomes, and says and hears the flights of the usual case: threads
per connection would spend more on taking turns than messages cost. For each connection the rules are those of one (see
``engine.py``): the outcome of a message is durable before its next dot, so each may leave one message in doubt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bsmtp_batch.edge.readiness import Readiness
from bsmtp_batch.replay.contract import Connection, Kind, Result, Target, Unreachable, Verdict
from bsmtp_batch.replay.flights import Flights
from bsmtp_batch.replay.gathering import Gathering
from bsmtp_batch.replay.health import Health
from bsmtp_batch.replay.lane import Lane, Phase, Withdrawn
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.replay.source import Source, is_large
from bsmtp_batch.replay.steady import Odd, envelope
from bsmtp_batch.wire.dots import END

if TYPE_CHECKING:
    from bsmtp_batch.replay.engine import Delivery

IDLE = 5.0
"""Seconds without use after which a connection is replaced: verifying the next batch may take longer than a busy server
waits, and its 421 would be read as a wish to be left alone."""


class Fleet:
    """Up to ``most`` connections to ``target``. To be closed."""

    def __init__(self, target: Target, most: int, health: Health) -> None:
        self._target = target
        self._most = most
        self._health = health
        self._readiness = Readiness()
        self._flights = Flights(self._readiness, self)
        self._inbox: deque[Callable[[], None]] = deque()
        self._lanes: list[Lane] = []
        self._retired: set[Lane] = set()
        self._group = Gathering()
        self._failure: Exception | None = None
        self._dead = False
        self._over: Callable[[], bool] = lambda: False
        self._source = Source((), self._room)

    def run(self, deliveries: Iterable[Delivery], over: Callable[[], bool]) -> list[Delivery]:
        """See :meth:`~bsmtp_batch.replay.engine.Engine.run`; the order is about that of ``deliveries``. Whatever fails
        here, in a ledger or in the source, lets what was ended be answered for, and is raised then."""
        self._over, self._failure = over, None
        self._retired.clear()
        self._source = Source(deliveries, self._room)
        wanted = self._source.worth(self._most)
        try:
            while len(self._lanes) < wanted:
                self._lanes.append(Lane(self._target, self._post))
            for lane in sorted(self._lanes, key=lambda lane: lane.connection is None)[:wanted]:
                self._feed(lane)
            while self._busy():
                self._turn()
        except BaseException:
            self._cut()
            raise
        for lane in self._lanes:  # in any case: the next run is about another batch, and this one's file is closed
            self._put_back(lane.stash)
            lane.stash = None
        if self._failure is not None:
            raise self._failure
        return self._source.left()

    def close(self) -> None:
        """End all connections politely."""
        if self._dead:
            return  # threads may be about to tell us something; nobody waits for them
        for lane in self._lanes:
            if lane.connection is not None:
                self._flights.leave(lane)
                lane.order(lane.connection.close)
        for lane in self._lanes:
            lane.end()
        self._lanes.clear()
        self._readiness.close()

    # -- one turn ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._flights.wait(self._patience() if self._group else 1.0)
        while self._inbox:
            self._inbox.popleft()()
        if self._group and self._patience() <= 0:
            self._commit()

    def _patience(self) -> float:
        return self._group.patience(self._flights.out, self._flights.took)

    def _busy(self) -> bool:
        if any(lane.phase not in (Phase.CLOSED, Phase.IDLE) for lane in self._lanes) or self._inbox:
            return True
        for lane in self._lanes:  # something may have been put back when nobody was there to take it
            if lane not in self._retired:
                self._feed(lane)
                if lane.phase not in (Phase.CLOSED, Phase.IDLE):
                    return True
        return False

    def _post(self, what: Callable[[], None]) -> None:
        """Have ``what`` done in the next turn; called by other threads."""
        self._inbox.append(what)
        self._readiness.wake()

    def _no_more(self) -> bool:
        """Whether nothing more is to be begun or ended; dots that were sent are waited for all the same."""
        return self._failure is not None or bool(self._health.stopped) or self._over()

    def _fail(self, failure: BaseException) -> None:
        if not isinstance(failure, Exception):
            raise failure
        self._failure = self._failure or failure

    def _room(self) -> bool:
        """Whether one more large message may be begun."""
        large = sum(is_large(one) for lane in self._lanes for one in (lane.current, lane.following, lane.stash))
        return large < max(1, len(self._lanes) // 2)

    # -- who is given what ---------------------------------------------------------------------------------------

    def _next(self) -> Delivery | None:
        if self._no_more():
            return None
        try:
            return self._source.next()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is raised when all dots are answered for
            self._fail(failure)
            return None

    def _put_back(self, *deliveries: Delivery | None) -> None:
        for delivery in reversed(deliveries):
            if delivery is not None:
                self._source.put_back(delivery)

    def _feed(self, lane: Lane) -> None:
        """Give ``lane``, on which nothing is, something to do."""
        if lane.stash is None:
            lane.stash = self._next()
        if lane.stash is None or self._no_more():
            self._flights.leave(lane)
            return
        if lane.connection is None or time.monotonic() - lane.used > IDLE:
            self._connect(lane)
            return
        lane.current, lane.stash = lane.stash, None
        group = self._group_of(lane, lane.current)
        if group:
            self._flights.say(lane, Phase.ENVELOPE, group, dots=0, rcpts=len(lane.current.job.rcpts))
        else:
            self._carry(lane)

    @staticmethod
    def _group_of(lane: Lane, delivery: Delivery) -> bytes:
        """The group with which ``delivery`` begins on ``lane``; ``b""`` where that is not the usual case."""
        if lane.line is None:
            return b""
        try:
            return envelope(delivery.job, lane.offered)
        except Odd:
            return b""

    def _connect(self, lane: Lane) -> None:
        before, lane.connection = lane.connection, None
        self._flights.leave(lane)
        lane.phase = Phase.AWAY
        if before is not None:
            lane.order(before.close)
        lane.order(lambda: lane.connect(lambda c: self._opened(lane, c), lambda e: self._failed(lane, e)))

    def _opened(self, lane: Lane, connection: Connection) -> None:
        lane.connection = connection
        if isinstance(connection, SmtpConnection):
            lane.know(connection)
        self._back(lane)

    def _back(self, lane: Lane) -> None:
        """``lane`` is ours again, with nothing on it."""
        connection = lane.connection
        lane.line = connection.line() if isinstance(connection, SmtpConnection) else None
        lane.phase = Phase.IDLE
        lane.used = time.monotonic()
        self._feed(lane)

    # -- the usual case ------------------------------------------------------------------------------------------

    def landed(self, lane: Lane, replies: list[str]) -> None:
        """See :class:`~bsmtp_batch.replay.flights.Ends`."""
        if lane.phase is Phase.DOT:
            assert lane.current is not None
            verdicts = tuple([Verdict(Kind.DELIVERED, reply) for reply in replies])
            if len(verdicts) == 1:
                verdicts *= len(lane.current.job.rcpts)
            self._health.settled()
            self._settle(lane.current, Result(verdicts))
            lane.current, lane.following = lane.following, None
            if lane.current is None:
                lane.phase = Phase.IDLE
                lane.used = time.monotonic()
                self._feed(lane)
                return
        try:
            lane.load()
        except OSError as error:
            self._fail(error)
        if self._no_more():
            self._withdraw(lane)
        else:
            lane.phase = Phase.READY
            self._group.add(lane)

    def strayed(self, lane: Lane, trouble: OSError | None) -> None:
        """See :class:`~bsmtp_batch.replay.flights.Ends`."""
        ended = lane.phase is Phase.DOT
        dotted = lane.current if ended else None
        begun = lane.following if ended else lane.current
        lane.phase = Phase.AWAY
        lane.order(
            lambda: lane.regain(
                dotted.job if dotted else None,
                begun.job if begun else None,
                trouble,
                lambda result: self._regained(lane, result),
                lambda error: self._failed(lane, error),
            )
        )

    def _fly(self, lane: Lane) -> None:
        """Send the text of ``lane``, its dot, and the beginning of what comes next."""
        assert lane.current is not None
        following, group = 0, b""
        self._look_ahead(lane)
        if lane.stash is not None and (group := self._group_of(lane, lane.stash)):
            lane.following, lane.stash = lane.stash, None
            following = len(lane.following.job.rcpts)
        dots = len(lane.current.job.rcpts) if lane.each else 1
        self._flights.say(lane, Phase.DOT, b"".join((lane.text, END, group)), dots=dots, rcpts=following)

    def _look_ahead(self, lane: Lane) -> None:
        """Reserve what comes next on ``lane``: nothing behind a large message, where it would have to wait for it."""
        if lane.stash is None and not is_large(lane.current):
            lane.stash = self._next()

    # -- the commit ----------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Note durably what all of the group are about to end, and what was answered since; then let them."""
        group = self._group.take()
        started = time.monotonic()
        ending = [lane.current for lane in group if lane.current is not None]
        withdrawn = self._no_more()
        try:
            if not withdrawn:
                for delivery in ending:
                    delivery.mark()
                ending[0].commit()  # it is for all of them
        except Exception as failure:  # noqa: BLE001 - as above
            self._fail(failure)
            withdrawn = True
        if withdrawn:
            for lane in group:
                self._withdraw(lane)
            return
        self._group.committed(started)
        for lane in group:
            if lane.phase is Phase.READY:
                self._fly(lane)
            else:
                lane.answer(True)

    # -- what its own thread does for a lane ---------------------------------------------------------------------

    def _carry(self, lane: Lane) -> None:
        assert lane.current is not None
        job = lane.current.job
        self._flights.leave(lane)
        lane.phase = Phase.AWAY
        lane.order(
            lambda: lane.carry(
                job,
                lambda: self._wants_dot(lane),
                lambda: self._asks_next(lane),
                lambda result: self._carried(lane, result),
                lambda error: self._failed(lane, error),
            )
        )

    def _wants_dot(self, lane: Lane) -> None:
        if self._no_more():
            lane.answer(False)
        else:
            self._group.add(lane)

    def _asks_next(self, lane: Lane) -> None:
        """What may be announced behind the dot of a message that the thread carries; it carries that as well then."""
        self._look_ahead(lane)
        if lane.stash is None:
            lane.answer(None)
            return
        if self._group_of(lane, lane.stash):
            lane.answer(None)
        else:
            lane.following, lane.stash = lane.stash, None
            lane.answer(lane.following.job)

    def _carried(self, lane: Lane, result: Result) -> None:
        delivery, lane.current, following = lane.current, None, lane.following
        lane.following = None
        assert delivery is not None
        if result.untouched:
            self._put_back(delivery)
        else:
            self._settle(delivery, result)
        self._health.weigh(result)
        if result.ended or (following is not None and self._no_more()):
            self._put_back(following)
            self._hang_up(lane)
        elif following is not None:
            lane.current = following
            self._carry(lane)
        else:
            self._back(lane)

    def _regained(self, lane: Lane, result: Result | None) -> None:
        if result is not None:
            assert lane.current is not None
            self._settle(lane.current, result)
            self._health.weigh(result)
            lane.current, lane.following = lane.following, None
        if (result is not None and result.ended) or (lane.current is not None and self._no_more()):
            self._put_back(lane.current)
            lane.current = None
            self._hang_up(lane)
        elif lane.current is None:
            self._back(lane)
        else:
            self._carry(lane)

    def _settle(self, delivery: Delivery, result: Result) -> None:
        try:
            self._put_back(delivery.settle(result))
        except Exception as failure:  # noqa: BLE001 - as above
            self._fail(failure)

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _failed(self, lane: Lane, error: BaseException) -> None:
        self._put_back(lane.current, lane.following, lane.stash)
        lane.current = lane.following = lane.stash = None
        if not isinstance(error, Unreachable):
            if not isinstance(error, Withdrawn):
                self._fail(error)
            self._hang_up(lane)
            return
        lane.phase = Phase.CLOSED
        self._retired.add(lane)
        if all(other.phase is Phase.CLOSED for other in self._lanes):
            self._health.away(error)

    def _withdraw(self, lane: Lane) -> None:
        """The dot of ``lane`` is not sent."""
        if lane.phase is Phase.AWAY:
            lane.answer(False)
            return
        self._put_back(lane.current, lane.following)
        lane.current = lane.following = None
        self._hang_up(lane)

    def _hang_up(self, lane: Lane) -> None:
        connection, lane.connection, lane.line = lane.connection, None, None
        self._flights.leave(lane)
        lane.phase = Phase.AWAY
        if connection is not None:
            # In the middle of a message there is no word that would be understood, and elsewhere it may be lost.
            lane.order(connection.drop if isinstance(connection, SmtpConnection) else connection.close)
        lane.order(lambda: self._post(lambda: self._hung_up(lane)))

    def _hung_up(self, lane: Lane) -> None:
        lane.phase = Phase.CLOSED
        self._feed(lane)

    def _cut(self) -> None:
        """Let go of everything at once."""
        self._dead = True
        for lane in self._lanes:
            self._flights.leave(lane)
            lane.cut()
