"""Connections of the daemon: asyncio underneath, and a blocking :class:`~bsmtp_batch.edge.sockets.Channel` on top.

Nothing is read before somebody asks for it. That bounds memory, and it is what makes STARTTLS safe: octets that came
in the clear behind the command are still in the kernel when TLS begins, which then finds no handshake in them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


class Line(asyncio.Protocol):
    """One accepted connection, in an event loop. Its methods are for one task at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._ended = self._beginning = self._finishing = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self.made: asyncio.Future[None] = self._loop.create_future()

    @property
    def transport(self) -> asyncio.Transport:
        """What is underneath, TLS included."""
        assert self._transport is not None, "not connected yet"
        return self._transport

    # --- called by the loop -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``; again when TLS has begun."""
        self._transport = cast("asyncio.Transport", transport)
        if not self.made.done():
            # Not at once: in Python 3.11.2 (Debian 12) the loop begins to read behind this call, paused or not, and
            # what came in the clear behind STARTTLS would be here. Behind this round it has begun, and read nothing.
            self._loop.call_soon(self._hold)

    def _hold(self) -> None:
        """Read nothing until somebody asks."""
        self.transport.pause_reading()
        if not self.made.done():
            self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._finishing:
            return
        self._received += data
        if not self._beginning:
            self.transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> bool:
        """See ``asyncio.Protocol``: what we still have to say can be said, where there is no TLS."""
        self._ended = True
        self._readable.set()
        return self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._ended = True
        for event in (self._readable, self._writable, self._lost):
            event.set()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._writable.set()

    # --- called by whoever serves -------------------------------------------------------------------------------

    async def read(self, seconds: float) -> bytes:
        """The octets that arrive next; ``b""`` at the end. Raises ``TimeoutError``, also after :meth:`wake`.

        All there are: what stayed here in the clear would be taken for the first octets under TLS.
        """
        if not self._received and not self._ended:
            self._readable.clear()
            if not self.transport.is_closing():
                self.transport.resume_reading()
                await asyncio.wait_for(self._readable.wait(), seconds)
        data = bytes(self._received)
        self._received.clear()
        if not data and not self._ended and not self.transport.is_closing():
            raise TimeoutError
        return data

    def wake(self) -> None:
        """Whoever waits for octets is not to wait any longer."""
        self._readable.set()

    async def write(self, data: bytes, seconds: float) -> None:
        """Hand ``data`` over. Raises ``TimeoutError``, ``ConnectionError``."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection is gone")
        self.transport.write(data)
        await asyncio.wait_for(self._writable.wait(), seconds)

    async def write_lines(self, data: bytes, seconds: float) -> None:
        """As :meth:`write`; under TLS each line of ``data`` is a record."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection is gone")
        self.transport.writelines(data.splitlines(keepends=True))
        await asyncio.wait_for(self._writable.wait(), seconds)

    async def finish(self, seconds: float) -> None:
        """End the connection once all is written, and under TLS once the other side knows. Raises ``TimeoutError``."""
        self._finishing = True
        if not self.transport.is_closing():
            self.transport.resume_reading()  # else TLS waits for ever behind what nobody reads any more
        self.close()
        await asyncio.wait_for(self._lost.wait(), seconds)

    async def begin_tls(self, context: ssl.SSLContext, seconds: float) -> None:
        """Be the server of a TLS handshake. Raises ``OSError`` (``ssl.SSLError`` among them), ``TimeoutError``."""
        # What a client says right behind the handshake comes before we are given the new transport. To pause the old
        # one for that would stop TLS itself, for good.
        self._beginning = True
        try:
            made = await self._loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=seconds
            )
        finally:
            self._beginning = False
        if made is None:
            raise ConnectionResetError("the connection was lost in the handshake")
        self._transport = made
        if self._received:
            made.pause_reading()

    def peer(self) -> str:
        """The address at the other end, without its port; an IPv4 address as such also where we listen with IPv6."""
        name = self.transport.get_extra_info("peername")
        return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else "local"

    def certificate(self) -> tuple[bytes, dict[str, object]] | None:
        """The client's certificate as DER and, where its chain was verified, its parts; None without one."""
        tls = self.transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        return (der, tls.getpeercert() or {}) if der else None

    def close(self) -> None:
        """End the connection; never raises."""
        # Never twice: the TLS transport of Python 3.11.2 (Debian 12) forgets what it stands on, and then cannot be
        # asked or aborted any more.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """End it without another octet."""
        if self._transport is not None:
            self._transport.abort()


class Bridge:
    """A :class:`~bsmtp_batch.edge.sockets.Channel` on a :class:`Line`, for blocking code in another thread.

    ``lines``: over TLS every line of text is one record, for clients that look for the next octets at the socket and
    not in what TLS has decrypted already (fetchmail).
    """

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop, *, lines: bool) -> None:
        self._line = line
        self._loop = loop
        self._lines = lines

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """See :class:`~bsmtp_batch.edge.sockets.Channel`."""
        self._wait(self._send(bytes(data), seconds))

    def receive(self, seconds: float) -> bytes:
        """See :class:`~bsmtp_batch.edge.sockets.Channel`."""
        return self._wait(self._line.read(seconds))

    def close(self) -> None:
        """See :class:`~bsmtp_batch.edge.sockets.Channel`."""
        self._loop.call_soon_threadsafe(self._line.close)

    async def _send(self, data: bytes, seconds: float) -> None:
        await (self._line.write_lines if self._lines else self._line.write)(data, seconds)

    def _wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        try:
            waiting = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            raise ConnectionResetError("the daemon is gone") from error
        try:
            return waiting.result()
        except asyncio.CancelledError as error:
            raise ConnectionResetError("the daemon is going down") from error
