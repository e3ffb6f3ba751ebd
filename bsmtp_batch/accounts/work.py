"""A bound on the hashing of passwords that goes on at once, whoever asks for it.

Argon2id is meant to be dear, so whoever may make a server do it at will can keep it from everything else. A few threads
do it, a bounded number of logins wait for them, and those of accounts that have logged in from the same address before
go first and have places of their own: a crowd of strangers, from however many addresses, cannot take these.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


class Busy(Exception):
    """Too many logins wait already; this one has to come again."""


class Work:
    """``at_once`` threads, and up to ``waiting`` strangers and as many known ones who wait for them.

    For one event loop. :meth:`close` ends the threads.
    """

    def __init__(self, *, at_once: int = 2, waiting: int = 32) -> None:
        self._free = at_once
        self._waiting = waiting
        self._queues: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="passwords")

    async def run(self, job: Callable[[], _Result], *, known: bool) -> _Result:
        """What ``job`` gives, which is called in a thread when its time has come. Raises :class:`Busy`."""
        await self._enter(known)
        running = asyncio.get_running_loop().run_in_executor(self._threads, job)
        # A thread cannot be called off: its place is free when it has ended, also if nobody waits for it any more.
        running.add_done_callback(lambda _: self._leave())
        return await asyncio.shield(running)

    def close(self) -> None:
        """No more work; what runs in a thread is waited for."""
        self._threads.shutdown(cancel_futures=True)

    async def _enter(self, known: bool) -> None:
        if self._free:
            self._free -= 1
            return
        queue = self._queues[known]
        if len(queue) >= self._waiting:
            raise Busy
        place = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in queue:
                queue.remove(place)
            elif not place.cancelled():
                self._leave()  # it was given a thread in the same moment in which it was called off
            raise

    def _leave(self) -> None:
        """Give the thread to whoever waits first, the known ones before the strangers."""
        for queue in (self._queues[True], self._queues[False]):
            while queue:
                place = queue.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._free += 1
