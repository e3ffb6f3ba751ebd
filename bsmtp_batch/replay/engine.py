"""The replay: messages one after the other over one connection, until they are done or the target takes no more.

Over several connections it is that of ``fleet.py``; the rules are the same.

The engine looks one delivery ahead, so that a connection may begin the next while it ends the one before.

A message that is put off does not hold up the next one. A lost connection costs the message it was lost with; the rest
goes on over a new one, unless that keeps happening: then the target is unwell and everything is left for the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from bsmtp_batch.replay.contract import Connection, Job, NextJob, Result, Target, Unreachable
from bsmtp_batch.replay.fleet import IDLE, Fleet
from bsmtp_batch.replay.health import Health


class Delivery(Protocol):
    """A job, and whoever wants to know what becomes of it."""

    @property
    def job(self) -> Job:
        """What is to be handed in."""

    @property
    def number(self) -> int:
        """The message's place in its batch."""

    def begin(self) -> None:
        """Note, durably, that the final dot is about to be sent: :meth:`mark` and :meth:`commit`."""

    def mark(self) -> None:
        """Take note that the final dot is about to be sent."""

    def commit(self) -> None:
        """Make everything durable that was noted about this delivery and others of its batch."""

    def settle(self, result: Result) -> Delivery | None:
        """Note what came of it; what is left to be tried at once, if anything (too many recipients for one go)."""


class Engine:
    """Hands deliveries to ``target``. A context manager: on leaving it the connection is closed.

    ``keep``: a connection is used however long it was idle, because it cannot be made again. ``connections``: how many
    there may be at once; with more than one the order of the messages is not kept.
    """

    def __init__(self, target: Target, *, keep: bool = False, connections: int = 1) -> None:
        self._target = target
        self._keep = keep
        self._connection: Connection | None = None
        self._health = Health(target.name, connections)
        self._fleet = Fleet(target, connections, self._health) if connections > 1 else None
        self._used = 0.0

    @property
    def stopped(self) -> str:
        """Why the target takes no more in this run; ``""`` as long as it does."""
        return self._health.stopped

    @property
    def code(self) -> int:
        """The exit code that goes with it."""
        return self._health.code

    @property
    def target(self) -> str:
        """What the target is called."""
        return self._target.name

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()
        if self._fleet is not None:
            self._fleet.close()

    def run(self, deliveries: Iterable[Delivery], over: Callable[[], bool] = lambda: False) -> list[Delivery]:
        """Hand in ``deliveries``, over one connection in order; those whose turn did not come, because the target takes
        no more or it is ``over``, come back.

        ``deliveries`` is asked for the next one while one is still being handed in, and must not wait for it to come.
        """
        if self._fleet is not None:
            return self._fleet.run(deliveries, over)
        left: list[Delivery] = []
        queue = _Queue(deliveries)
        for delivery in queue:
            if over():
                self._hang_up()  # this one may have been begun already
                left.append(delivery)
                continue
            rest: Delivery | None = delivery
            while rest is not None and not self.stopped:
                rest = self._hand_in(rest, queue.next_job)
            if rest is not None:
                left.append(rest)
        return left

    def _hand_in(self, delivery: Delivery, next_job: NextJob) -> Delivery | None:
        """Hand in one; what is left of it: all of it when no connection came about."""
        if not self._keep and time.monotonic() - self._used > IDLE:
            self._hang_up()
        if self._connection is None:
            try:
                self._connection = self._target.connect()
            except Unreachable as unreachable:
                self._health.away(unreachable)
                return delivery
        try:
            result = self._connection.carry(delivery.job, delivery.begin, next_job)
            self._used = time.monotonic()
            rest = delivery if result.untouched else delivery.settle(result)
        except BaseException:
            self._hang_up()  # in the middle of a message, or with the next one begun
            raise
        self._health.weigh(result)
        if result.ended:
            self._hang_up()
        return rest

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Queue:
    """``source`` with a look at what comes next; what goes wrong there is raised when its turn has come."""

    def __init__(self, source: Iterable[Delivery]) -> None:
        self._source = iter(source)
        self._next: Delivery | None = None
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[Delivery]:
        while self._look() is not None:
            delivery, self._next = self._next, None
            assert delivery is not None
            yield delivery
        if self._failure is not None:
            raise self._failure

    def next_job(self) -> Job | None:
        """See :data:`~bsmtp_batch.replay.contract.NextJob`."""
        delivery = self._look()
        return None if delivery is None else delivery.job

    def _look(self) -> Delivery | None:
        if self._next is None and self._failure is None:
            try:
                self._next = next(self._source, None)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is raised when its turn has come
                self._failure = failure
        return self._next
