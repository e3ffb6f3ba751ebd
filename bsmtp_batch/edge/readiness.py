"""Waiting for many connections at once in one thread, which other threads can wake."""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Readiness:
    """Tells which of the descriptors that are watched can be read, or written where that was asked for.

    Belongs to one thread, but for :meth:`wake`. To be closed.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._woken, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Tell when ``fd`` can be read from, or has failed."""
        self._poll.register(fd, select.EPOLLIN)

    def watch_room(self, fd: int, *, wanted: bool) -> None:
        """Tell, or no longer tell, when a watched ``fd`` can be written to as well."""
        self._poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no longer."""
        self._poll.unregister(fd)

    def wait(self, seconds: float) -> list[int]:
        """The descriptors that are ready now, or within ``seconds``; none of them also when woken."""
        found = [fd for fd, _ in self._poll.poll(seconds)]
        if self._woken in found:
            found.remove(self._woken)
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
        return found

    def wake(self) -> None:
        """End :meth:`wait`, or the next one, from whatever thread."""
        with suppress(BlockingIOError):  # it is full of wakes already
            os.write(self._waker, b"x")

    def close(self) -> None:
        """Let go of everything; what was watched stays open."""
        self._poll.close()
        os.close(self._woken)
        os.close(self._waker)
