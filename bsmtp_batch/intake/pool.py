"""A few threads for work that meets the disk. What the standard library has for this loads its logging with it, which
costs more memory than one large message here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

THREADS = 4


class Pool:
    """Runs what it is given, in order, in up to :data:`THREADS` threads, begun when there is work for them."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def submit(self, work: Callable[[], None]) -> None:
        """Have ``work`` done; it raises nothing. ``RuntimeError`` where the system has no thread for it."""
        if not self._idle.acquire(blocking=False) and len(self._threads) < THREADS:
            thread = threading.Thread(target=self._run, name="large", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if not self._threads:
                    raise
            else:
                self._threads.append(thread)
        self._work.put(work)

    def end(self, seconds: float) -> bool:
        """Take nothing more, and wait until all is done, for so many ``seconds``; whether it is."""
        until = time.monotonic() + seconds
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            work()
            self._idle.release()
