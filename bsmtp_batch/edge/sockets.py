"""Connections as one small thing: octets out, octets in, each with the time it may take.

:class:`Channel` is what the importer's targets talk through, whether a socket or a child's pipes
(:mod:`bsmtp_batch.edge.process`) lie behind it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import ssl

CHUNK = 65536
_ANSWERS = 8192
"""Octets taken at a time where many connections are looked after: a flight's replies, not a text."""
_QUICK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux' name for it; where there is none, things are slower."""
FILE_CHUNK = 1 << 20
"""Octets of a file that are given to the system at a time."""


class Channel(Protocol):
    """A two-way stream of octets. Every method raises ``OSError`` when the far side is gone, ``TimeoutError`` (one of
    them) when the time is over."""

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """Hand over all of ``data`` within ``seconds``."""

    def receive(self, seconds: float) -> bytes:
        """The octets that arrive next, at least one, within ``seconds``; ``b""`` when the far side has ended."""

    def close(self) -> None:
        """Let go of the connection; never raises."""


class SocketChannel:
    """A :class:`Channel` on a connected stream socket, which it owns."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._tcp = connected.family != socket.AF_UNIX

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """See :class:`Channel`."""
        self._socket.settimeout(seconds)
        self._socket.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """See :class:`Channel`."""
        self._socket.settimeout(seconds)
        data = self._socket.recv(CHUNK)
        self.acknowledge()
        return data

    def encrypt(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """Begin TLS as its client, with the server called ``name`` (a host name or an address without brackets).

        Raises ``OSError``, of which ``ssl.SSLError`` is one; the channel is then good for nothing but :meth:`close`.
        """
        self._socket.settimeout(seconds)
        self._socket = context.wrap_socket(self._socket, server_hostname=name)

    def send_file(self, fd: int, offset: int, size: int, seconds: float) -> None:
        """Hand over ``size`` octets of the open file ``fd`` from ``offset`` on; the system copies them, we do not.

        As :meth:`send` otherwise, with ``seconds`` for whatever the far side takes next. ``EOFError`` when the file
        ends first. Only on a channel that is :attr:`plain`.
        """
        connected = self._socket
        # The system waits, and wakes us when a piece is out: whoever is told of each bit of room, in a thread among
        # others, spends more on taking turns than the copying costs. It waits several times over in one call, and may
        # squeeze in a little each time, so it is given short times, and the clock is ours.
        connected.setblocking(True)
        _set_send_timeout(connected, seconds / 16)
        end, place = offset + size, connected.fileno()
        until = time.monotonic() + seconds
        while offset < end:
            try:
                taken = os.sendfile(place, fd, offset, min(FILE_CHUNK, end - offset))
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TimeoutError("timed out") from None
                continue
            if not taken:
                raise EOFError("the file became shorter while it was sent")
            offset += taken
            until = time.monotonic() + seconds

    # -- for whoever serves many of them in one thread -----------------------------------------------------------

    @property
    def plain(self) -> bool:
        """Whether what is sent goes out as it is, without TLS."""
        return type(self._socket) is socket.socket

    def fileno(self) -> int:
        """What to wait for with :class:`~bsmtp_batch.edge.readiness.Readiness`."""
        return self._socket.fileno()

    def loosen(self) -> None:
        """Make :meth:`offer` and :meth:`arrived` return at once, until one of the methods above is called."""
        self._socket.setblocking(False)

    def offer(self, data: bytes | memoryview) -> int:
        """Hand over as much of ``data`` as is taken at once; how many octets that were. Raises ``OSError``."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def arrived(self) -> bytes | None:
        """What has arrived; None when nothing has, ``b""`` when the far side has ended. Raises ``OSError``."""
        try:
            return self._socket.recv(_ANSWERS)
        except BlockingIOError:
            return None

    def acknowledge(self) -> None:
        """Tell the far side at once that its octets are here, because more of them are due.

        A server that answers one flight in two pieces sends the second when it knows of the first (RFC 1122 section
        4.2.3.4), and we would be silent for 40 ms, since we have nothing to say before we have heard all of it.
        """
        if self._tcp and _QUICK is not None:
            with suppress(OSError):  # the connection is gone: whoever reads next is told
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)

    def cut(self) -> None:
        """End the connection both ways: whoever waits for it in another thread is told at once. Never raises."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See :class:`Channel`."""
        self._socket.close()


def _set_send_timeout(connected: socket.socket, seconds: float) -> None:
    """As a ``struct timeval`` of the size the system has it in; never 0, which would be for ever."""
    whole = int(seconds)
    known = connected.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
    value = struct.pack("=qq" if len(known) == 16 else "=ii", whole, max(1, int((seconds - whole) * 1e6)))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of ``host`` (a name, or an address without brackets), in the order in which the system would try
    them. Raises ``OSError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_ours(address: str) -> bool:
    """Whether this machine has ``address`` itself."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def connect_tcp(host: str, port: int, seconds: float) -> SocketChannel:
    """A connection to ``host`` (a name or an address without brackets), trying each of its addresses.

    Raises ``OSError``. Small writes leave at once: a client that waits for an answer has nothing to add to them.
    """
    connected = socket.create_connection((host, port), timeout=seconds)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connected.close()
        raise
    return SocketChannel(connected)


def connect_unix(path: str, seconds: float) -> SocketChannel:
    """A connection to the Unix socket ``path``. Raises ``OSError``, also for a path longer than the system takes."""
    unconnected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unconnected.settimeout(seconds)
        unconnected.connect(path)
    except BaseException:
        unconnected.close()
        raise
    return SocketChannel(unconnected)
