"""The look whether a push is due goes on whatever became of the last one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from bsmtp_batch.cli import serve


class Failing:
    def __init__(self, enough):
        self.looks, self._enough = 0, enough

    def look(self):
        self.looks += 1
        if self.looks == 2:
            self._enough()
        raise RuntimeError("can't start new thread")


def test_a_look_that_fails_is_told_and_not_the_last_one():
    told = []

    async def run():
        enough, loop = asyncio.Event(), asyncio.get_running_loop()
        schedule = Failing(lambda: loop.call_soon_threadsafe(enough.set))
        with ThreadPoolExecutor(1) as workers:
            task = asyncio.create_task(serve._push(schedule, workers, told.append))
            await asyncio.wait_for(enough.wait(), 20)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())
    assert "can't start new thread" in told[0]
