"""The driver of one session: reads, has events answered, writes, begins TLS, turns the line round."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from bsmtp_batch.accounts.gate import Gate
from bsmtp_batch.edge.serving import Bridge, Line
from bsmtp_batch.server.contract import Client, Hub
from bsmtp_batch.server.hub import HubSession, Next
from bsmtp_batch.wire.events import Event, Violation
from bsmtp_batch.wire.sasl.values import Certificate
from bsmtp_batch.wire.session import Role, Session

_T = TypeVar("_T")

HANDSHAKE = 30.0
"""Seconds for TLS to begin."""
STRANGER = 120.0
"""Seconds a client may take to log in, however much it talks meanwhile."""
FAREWELL = 5.0


@dataclass(frozen=True)
class Listener:
    """What the connections of one port have in common. ``gate`` decides when a proof is looked at; ``tls`` is there
    from the start where ``implicit``."""

    hub: Hub
    gate: Gate
    tls: ssl.SSLContext | None
    implicit: bool = False
    patience: float = 1.0


class Driver:
    """Serves one accepted connection. ``workers`` answer events, which may block; ``movers`` send over turned lines."""

    def __init__(self, line: Line, listener: Listener, workers: Executor, movers: Executor) -> None:
        self._line = line
        self._listener = listener
        self._workers = workers
        self._movers = movers
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._hub: HubSession | None = None
        self._turned = self._stopping = False

    def stop(self) -> None:
        """End soon: after the answer that is being made, with a line that was turned round when nothing is sent."""
        self._stopping = True
        if not self._turned:
            self._line.wake()
        elif self._hub is not None and self._hub.turn is not None:
            self._hub.turn.end()

    async def serve(self) -> None:
        """Do it; raises nothing but what cancels the task."""
        try:
            if self._listener.implicit:
                assert self._listener.tls is not None
                await self._line.begin_tls(self._listener.tls, HANDSHAKE * self._listener.patience)
            await self._session()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # a client that went away or is no client: nothing was promised to it
        finally:
            self._line.close()

    async def _session(self) -> None:
        session = Session(Role.SERVER, secure=self._listener.implicit)
        self._hub = hub = HubSession(session, self._listener.hub, self._client())
        try:
            await self._write(hub.greeting(), session)
            while hub.next is Next.READ:
                await self._step(session, hub)
            if hub.next is Next.TURN:
                await self._turn(session, hub)
        finally:
            hub.close()
            if hub.turn is not None:
                hub.turn.close()  # here: the workers may all be waiting for just this, on behalf of newer lines
        await self._line.finish(FAREWELL)

    async def _step(self, session: Session, hub: HubSession) -> None:
        """One read, and what follows from it."""
        try:
            data = await self._next(session, hub)
        except TimeoutError:
            reason = b"going down" if self._stopping else b"it took too long"
            await self._write(hub.goodbye(reason), session)
            return
        out = await self._run(self._workers, lambda: _answers(session, hub, data))
        while hub.claim is not None:
            out += hub.settled(await self._listener.gate.settle(*hub.claim, self._line.peer()))
            pause, hub.pause = hub.pause, 0.0
            await asyncio.sleep(pause * self._listener.patience)
            out += await self._run(self._workers, lambda: _answers(session, hub, None))
        if out:
            await self._write(out, session)
        if hub.next is Next.TLS:
            assert self._listener.tls is not None
            await self._line.begin_tls(self._listener.tls, HANDSHAKE * self._listener.patience)
            session.upgraded()
            hub.upgraded(self._client())

    async def _next(self, session: Session, hub: HubSession) -> bytes:
        """The next octets. A request has so much time, not each octet of it; a stranger has so much altogether."""
        limit = session.timeout * self._listener.patience
        if hub.account is None:
            limit = min(limit, self._began + STRANGER * self._listener.patience - self._loop.time())
        if limit <= 0 or self._stopping:
            raise TimeoutError
        return await self._line.read(limit)

    async def _turn(self, session: Session, hub: HubSession) -> None:
        assert hub.turn is not None
        session.turn()
        turn, bridge = hub.turn, Bridge(self._line, self._loop, lines=session.secure)
        self._turned = True
        if self._stopping:
            turn.end()
        sending = self._loop.run_in_executor(self._movers, lambda: turn.send(bridge, session))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            self._line.abort()  # a thread cannot be called off: it ends because its line has
            await sending
            raise

    async def _write(self, data: bytes, session: Session) -> None:
        await self._line.write(data, session.timeout * self._listener.patience)

    async def _run(self, where: Executor, work: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(where, work)

    def _client(self) -> Client:
        found = self._line.certificate()
        if found is None:
            return Client(self._line.peer())
        der, parts = found
        names = parts.get("subjectAltName", ())
        assert isinstance(names, tuple)
        hosts = tuple(value.lower() for kind, value in names if kind == "DNS")
        return Client(self._line.peer(), Certificate(hashlib.sha256(der).hexdigest(), hosts))


def _answers(session: Session, hub: HubSession, data: bytes | None) -> bytes:
    """The octets to write for ``data``; None: for what has been received before."""
    out = b""
    events = session.resume() if data is None else session.receive(data)
    while events:
        out += b"".join(map(hub.answer, _carried_out(events)))
        events = session.resume() if hub.next is Next.READ else []
    return out


def _carried_out(events: list[Event]) -> list[Event]:
    """``events`` without a request that was followed by what must never follow it (STARTTLS, ATRN): its place has been
    taken by the violation, which is all that is answered."""
    return [event for event in events if isinstance(event, Violation) and event.fatal] or events
