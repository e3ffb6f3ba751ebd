"""Connections as one small thing: octets out, octets in, each with the time it may take.

:class:`Channel` is what the importer's targets talk through, whether a socket or a child's pipes
(:mod:`bsmtp_batch.edge.process`) lie behind it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import ssl

CHUNK = 65536


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

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """See :class:`Channel`."""
        self._socket.settimeout(seconds)
        self._socket.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """See :class:`Channel`."""
        self._socket.settimeout(seconds)
        return self._socket.recv(CHUNK)

    def encrypt(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """Begin TLS as its client, with the server called ``name`` (a host name or an address without brackets).

        Raises ``OSError``, of which ``ssl.SSLError`` is one; the channel is then good for nothing but :meth:`close`.
        """
        self._socket.settimeout(seconds)
        self._socket = context.wrap_socket(self._socket, server_hostname=name)

    def close(self) -> None:
        """See :class:`Channel`."""
        self._socket.close()


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
