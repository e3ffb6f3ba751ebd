"""Listening, and the bounds that many clients at one time meet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from bsmtp_batch.accounts.backoff import network
from bsmtp_batch.edge.listening import Socket
from bsmtp_batch.edge.serving import Line
from bsmtp_batch.server.line import Driver, Listener

SESSIONS = 500
"""Connections at one time."""
EACH = 20
"""Of these, from one address, which is for IPv6 a network of 64 bits."""
GRACE = 5.0
"""Seconds that sessions have to end when the daemon does."""
_BUSY = b"421 4.3.2 too many connections, come back later\r\n"


@dataclass(frozen=True)
class Port:
    """A socket that listens, and for what."""

    socket: Socket
    listener: Listener


class Daemon:
    """Serves ``ports`` until it is told to stop. ``workers`` answer, ``movers`` send over turned lines; both are the
    caller's to shut down. ``tell`` gets a line for the log."""

    def __init__(
        self, ports: Sequence[Port], *, workers: Executor, movers: Executor, tell: Callable[[str], None]
    ) -> None:
        self._ports = ports
        self._workers = workers
        self._movers = movers
        self._tell = tell
        self._sessions: set[asyncio.Task[None]] = set()
        self._drivers: set[Driver] = set()
        self._addresses: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until ``stop`` is set; ``ready`` is called once clients are."""
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        try:
            for port in self._ports:
                servers.append(await loop.create_server(self._factory(port.listener), sock=port.socket))
            ready()
            await stop.wait()
        finally:
            for server in servers:
                server.close()
            await self._end_sessions()

    def _factory(self, listener: Listener) -> Callable[[], Line]:
        def accept() -> Line:
            line = Line()
            task = asyncio.get_running_loop().create_task(self._serve(line, listener))
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)
            return line

        return accept

    async def _serve(self, line: Line, listener: Listener) -> None:
        await line.made
        address = network(line.peer())
        if len(self._sessions) > SESSIONS or self._addresses[address] >= EACH:
            if not listener.implicit:
                line.transport.write(_BUSY)
            line.close()
            return
        self._addresses[address] += 1
        driver = Driver(line, listener, self._workers, self._movers)
        self._drivers.add(driver)
        try:
            await driver.serve()
        except Exception as error:  # noqa: BLE001 - one session must not end the others, and must be told of
            self._tell(f"serve: a session from {address} ended by a fault of ours: {error!r}")
        finally:
            self._drivers.discard(driver)
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
            line.abort()  # last: whatever the event loop makes of it, the place is free again

    async def _end_sessions(self) -> None:
        """Let sessions end by themselves for a moment, then end them: what was not answered stays where it is."""
        for driver in self._drivers:
            driver.stop()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=GRACE)
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=GRACE)
