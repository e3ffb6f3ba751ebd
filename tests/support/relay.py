"""A TCP relay on loopback that ends the connection at an octet of one's choice, or calls something there.

One thread, and every socket without blocking: only so a reset is a reset, at the very octet it was asked for.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

CHUNK = 1 << 18
UP, DOWN = "up", "down"
RESET, CLOSE, SILENCE, NOTHING = "reset", "close", "silence", "nothing"
"""How a connection ends: with RST, with FIN, by swallowing everything, or not at all (the action alone)."""


@dataclass
class _Trap:
    """After ``after`` octets more (of ``direction``, or of both) the connection ends, once."""

    after: int
    how: str
    direction: str | None
    action: Callable[[], None] | None


@dataclass(eq=False)
class _End:
    """One side of a connection: what is to be written to it, and whether it is still there."""

    socket: socket.socket
    direction: str
    """The direction of what is read from it."""
    pending: bytearray = field(default_factory=bytearray)
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    """What is to be written to it, and when; ``b""`` for the end."""
    closing: bool = False
    other: _End = field(init=False)


class Relay:
    """Listens on :attr:`port` and passes on to ``target``; :attr:`up` and :attr:`down` count the octets passed on.

    ``delay``: seconds that everything is under way in each direction.
    """

    def __init__(self, target: int, *, delay: float = 0.0) -> None:
        self._target = target
        self._delay = delay
        self.up = self.down = 0
        self.flights = 0
        """How often the target spoke after the near side had."""
        self._spoke = ""
        self.connections = 0
        self.fired = threading.Event()
        """Set when the last trap has snapped."""
        self._trap: _Trap | None = None
        self._silent = False
        self._lock = threading.Lock()
        self._ends: dict[int, _End] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = os.pipe()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def total(self) -> int:
        """The octets of both directions."""
        return self.up + self.down

    def cut(
        self,
        after: int,
        how: str = RESET,
        *,
        direction: str | None = None,
        action: Callable[[], None] | None = None,
    ) -> None:
        """End the connection when ``after`` more octets have gone by; ``action`` runs in the relay's thread first.

        Only the first connection that comes so far is ended; later ones pass until :meth:`cut` is called again.
        """
        with self._lock:
            self._silent = False
            self.fired.clear()
            self._trap = _Trap(after, how, direction, action)

    def heal(self) -> None:
        """Forget the trap that was set, and a silence that holds."""
        with self._lock:
            self._trap = None
            self._silent = False

    def drop(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            self._trap = None
        os.write(self._waker, b"d")

    def close(self) -> None:
        """End every connection and the relay."""
        self._stop = True
        os.write(self._waker, b"s")
        self._thread.join(20)
        assert not self._thread.is_alive()
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        try:
            while not self._stop:
                self._turn()
        finally:
            for end in list(self._ends.values()):
                self._end(end, reset=False)
            self._listener.close()

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        for fd, end in self._ends.items():
            reading = not end.other.pending and not end.closing
            poll.register(fd, (select.POLLIN if reading else 0) | (select.POLLOUT if end.pending else 0))
        for fd, events in poll.poll(self._arrived()):
            if fd == self._wake:
                if b"d" in os.read(self._wake, 100):
                    for end in list(self._ends.values()):
                        self._end(end, reset=True)
            elif fd == self._listener.fileno():
                self._accept()
            elif fd in self._ends:
                self._serve(self._ends[fd], events)

    def _arrived(self) -> int | None:
        """Pass on what was long enough under way; milliseconds until the next of it is."""
        now, soonest = time.monotonic(), None
        for end in list(self._ends.values()):
            while end.under_way and end.under_way[0][0] <= now:
                _, data = end.under_way.popleft()
                if not data:
                    self._end(end.other, reset=False)
                    break
                end.pending += data
                self._flush(end)
            if end.under_way and end.socket.fileno() in self._ends:
                soonest = min(soonest or end.under_way[0][0], end.under_way[0][0])
        return None if soonest is None else max(1, int((soonest - now) * 1000) + 1)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return  # gone already
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            near.close()
            return
        self.connections += 1
        one, two = _End(near, UP), _End(far, DOWN)
        one.other, two.other = two, one
        for end in (one, two):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends[end.socket.fileno()] = end

    def _serve(self, end: _End, events: int) -> None:
        if end.pending and events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
            self._flush(end)
        elif events & (select.POLLIN | select.POLLERR | select.POLLHUP) and not end.other.pending:
            self._pass_on(end)

    def _pass_on(self, end: _End) -> None:
        try:
            data = end.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._end(end, reset=True)
            return
        if not data and self._delay:
            end.other.under_way.append((time.monotonic() + self._delay, b""))
            end.closing = True
            return
        if not data:
            self._end(end, reset=False)
            return
        with self._lock:
            if self._silent:
                return
            data, trap = self._spend(data, end.direction)
        self.flights += end.direction == DOWN and self._spoke == UP
        self._spoke = end.direction
        if self._delay:
            end.other.under_way.append((time.monotonic() + self._delay, data))
        else:
            end.other.pending += data
        if end.direction == UP:
            self.up += len(data)
        else:
            self.down += len(data)
        self._flush(end.other)
        if trap is not None:
            self._snap(trap, end)

    def _spend(self, data: bytes, direction: str) -> tuple[bytes, _Trap | None]:
        """What of ``data`` goes by before the trap snaps, and the trap when it does. Under the lock."""
        trap = self._trap
        if trap is None or trap.direction not in (None, direction):
            return data, None
        if len(data) < trap.after:
            trap.after -= len(data)
            return data, None
        self._trap = None
        self._silent = trap.how == SILENCE
        return (data if trap.how == NOTHING else data[: trap.after]), trap

    def _snap(self, trap: _Trap, end: _End) -> None:
        if trap.action is not None:
            trap.action()
        if trap.how in (RESET, CLOSE):
            self._end(end, reset=trap.how == RESET)
        self.fired.set()

    def _flush(self, end: _End) -> None:
        try:
            sent = end.socket.send(end.pending)
            del end.pending[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._end(end, reset=True)
            return
        if end.closing and not end.pending:
            self._end(end, reset=False)

    def _end(self, end: _End, *, reset: bool) -> None:
        """Close both sides. What has been read by then is written out first, unless it is a reset."""
        other = end.other
        if not reset and other.pending and other.socket.fileno() in self._ends:
            other.closing = end.closing = True
            self._forget(end, reset=False)
            return
        for one in (end, other):
            self._forget(one, reset=reset)

    def _forget(self, end: _End, *, reset: bool) -> None:
        fd = end.socket.fileno()
        if self._ends.pop(fd, None) is None:
            return
        if reset:
            with contextlib.suppress(OSError):
                end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.socket.close()
