"""A standing pull: contact after contact, with waits that grow and are never the same twice; and how it is ended."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bsmtp_batch.edge.sockets import Channel
from bsmtp_batch.errors import Problem, Setting

if TYPE_CHECKING:
    from bsmtp_batch.odmr.contact import Outcome

FIRST = 0.25
"""Seconds to the next contact after one that was good: mail that comes meanwhile is to be here within a second."""
MOST = 300.0
"""The longest that a wait grows to, and how long it is where a setting has to be changed."""
POLL = 60.0
"""Seconds between contacts with a provider that keeps no line open."""
STOOD = 1.0
"""A line that was turned round and stood for so many seconds was good, also without mail."""


class Stopped(Exception):
    """We were asked to end, and nothing stands in the way."""


class Stop:
    """The wish to end, as a handler of signals for the main thread.

    It is heard at once where the program only waits (:meth:`open`), and otherwise the next time it would: between a
    message that is durable and the reply that says so nothing is to come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._open = False
        self._held = False

    def __call__(self, *_: object) -> None:
        self.asked = True
        if self._open:
            self._open = False
            raise Stopped

    @contextmanager
    def open(self) -> Iterator[None]:
        """Around a wait. Raises :class:`Stopped`."""
        if self._held:
            yield
            return
        self._open = True  # first: a signal between the two lines must not be lost in the wait
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._open = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around what is to come to its own end, waits included."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


class Heard:
    """A :class:`~bsmtp_batch.edge.sockets.Channel` on which ``stop`` is heard while nothing comes."""

    def __init__(self, channel: Channel, stop: Stop) -> None:
        self._channel = channel
        self._stop = stop

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """See :class:`~bsmtp_batch.edge.sockets.Channel`."""
        self._channel.send(data, seconds)

    def receive(self, seconds: float) -> bytes:
        """See :class:`~bsmtp_batch.edge.sockets.Channel`. Raises :class:`Stopped`."""
        with self._stop.open():
            return self._channel.receive(seconds)

    def close(self) -> None:
        """See :class:`~bsmtp_batch.edge.sockets.Channel`."""
        self._channel.close()


def stand(
    contact: Callable[[], Outcome],
    stop: Stop,
    *,
    tell: Callable[[str], None],
    sleep: Callable[[float], object] = time.sleep,
    chance: Callable[[], float] = random.random,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Make ``contact`` again and again until ``stop`` is asked for.

    After a good one the next follows at once; after each that was not, the wait doubles, so that a provider that is
    down is not run over by all its customers when it comes back. ``tell`` takes a line for the log, ``chance`` gives
    numbers from 0 to 1.
    """
    delay = FIRST
    try:
        while True:
            began = clock()
            try:
                outcome = contact()
            except (Problem, OSError) as problem:  # our own disk, for one: it may be mended while we wait
                tell(str(problem))
                wait, delay = delay, min(delay * 2, MOST)
            else:
                stood = outcome.turned and clock() - began >= STOOD
                delay = FIRST if outcome.messages or stood else delay
                wait, delay = _wait(outcome, delay), min(delay * 2, MOST)
            with stop.open():
                sleep(wait * (0.5 + chance()))
    except Stopped:
        return


def _wait(outcome: Outcome, delay: float) -> float:
    if outcome.code == Setting.code:
        return MOST
    return POLL if outcome.code == 0 and not outcome.stays else delay
