"""Many connections in one thread, by epoll and without asyncio, whose cost for each turn of a dialogue is several times
that of the dialogue itself.

Whoever speaks on a connection is its :class:`Handler`. Everything is called in the thread of :meth:`Reactor.run`, but
:meth:`Reactor.call` and :meth:`Reactor.stop`, which are for all others.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from socket import AF_UNIX, IPPROTO_TCP, SHUT_WR, TCP_NODELAY, socket
from typing import Protocol

READ = 64 * 1024
"""Octets of one read: between two of them all other connections have their turn."""
LINGER = 2.0
"""Seconds in which a client may read our last words, and stop talking, after we closed."""
RETRY = 1.0
"""Seconds without new connections when the system has no more descriptors for them."""
_OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Handler(Protocol):
    """Who speaks on a connection. Whatever it raises ends that connection, and no other."""

    def received(self, data: bytes) -> None:
        """``data`` has come; ``b""`` once, at the end of the input."""

    def expired(self) -> None:
        """The :attr:`Connection.deadline` has passed."""

    def lost(self) -> None:
        """The connection is gone, whoever ended it; called once."""


class Connection:
    """One accepted connection."""

    __slots__ = (
        *("_blocked", "_closing", "_gone", "_interest", "_out", "_reactor", "_reading", "_socket"),
        *("deadline", "handler"),
    )

    def __init__(self, reactor: Reactor, accepted: socket) -> None:
        accepted.setblocking(False)
        self._reactor = reactor
        self._socket = accepted
        self._out = bytearray()
        self._reading = True
        self._blocked = False  # the client has to read before more can be sent
        self._closing = self._gone = False
        self._interest = 0
        self.handler: Handler | None = None
        self.deadline = float("inf")
        """When :meth:`Handler.expired` is called, by ``time.monotonic``."""

    def begin(self) -> None:
        """There is a handler, or the connection is being closed already; called by the reactor."""
        self._attend()

    def write(self, data: bytes) -> None:
        """Send ``data``, behind this round of events: who is told something at once wakes up, and another who is told
        next may find no processor. While some of it waits for the client to read, nothing of his is read."""
        if self._gone or self._closing:
            return
        if not self._out:
            self._reactor.speaks(self)
        self._out += data

    def pause(self) -> None:
        """Read nothing for now."""
        if self._reading:
            self._reading = False
            self._attend()

    def resume(self) -> None:
        """Read again."""
        if not self._reading:
            self._reading = True
            self._attend()

    def close(self) -> None:
        """End it once all is written. What the client goes on saying is not heard any more, but taken from him: a close
        over unread octets would take our last words away."""
        if not self._closing and not self._gone:
            self._closing = True
            self._reading = True
            self.deadline = time.monotonic() + self._reactor.linger
            self._shut()
            self._attend()

    def finish(self) -> None:
        """End it once all is written, for a client that has said its last word."""
        self.flush()
        if self._out:
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """End it now."""
        if not self._gone:
            self._gone = True
            self._attend()
            self._reactor.forget(self._socket, self)

    def ready(self, mask: int) -> None:
        """The descriptor has something to tell; called by the reactor."""
        if self._gone:
            return
        self.flush()  # also when it is told of an error only: that is how we hear which
        if mask & ~select.EPOLLOUT and self._reading and not self._gone and not self._out:
            try:
                data = self._socket.recv(READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
                self._closing = True
            if not self._closing:
                if not data:
                    self.pause()
                assert self.handler is not None
                self.handler.received(data)
            elif not data:
                self.abort()

    def expire(self) -> None:
        """The deadline has passed; called by the reactor."""
        if self._closing:
            self.abort()
        elif not self._gone:
            assert self.handler is not None
            self.handler.expired()

    def flush(self) -> None:
        """Send as much as the system takes of what was written; called by the reactor."""
        if self._gone or not self._out:
            return
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        del self._out[:sent]
        if self._blocked != bool(self._out):
            self._blocked = not self._blocked
            self._attend()
        self._shut()

    def _shut(self) -> None:
        if self._closing and not self._out:
            try:
                self._socket.shutdown(SHUT_WR)
            except OSError:
                self.abort()

    def _attend(self) -> None:
        """Have the reactor look for what we want: with nothing wanted it looks not at all, for epoll would go on
        telling of a client that hung up."""
        wanted = select.EPOLLOUT if self._blocked else select.EPOLLIN if self._reading else 0
        wanted = 0 if self._gone else wanted
        if wanted != self._interest:
            self._interest = self._reactor.attend(self._socket, self.ready, self._interest, wanted)


class Reactor:
    """Serves connections until it is told to stop. ``turned`` is called behind each round of events, ``each_second``
    about once a second, at the end more often; ``broken`` is told what a handler raised."""

    def __init__(
        self, *, turned: Callable[[], None], each_second: Callable[[], None], broken: Callable[[Exception], None]
    ) -> None:
        self._turned = turned
        self._each_second = each_second
        self._broken = broken
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[int], None]] = {}
        self._connections: set[Connection] = set()
        self._listeners: list[tuple[socket, Callable[[int], None]]] = []
        self._every = 1.0
        self.linger = LINGER
        """Seconds that a connection that is being closed may take for it."""
        self._dropped: list[tuple[socket, Connection]] = []
        self._speaking: list[Connection] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._awake = threading.RLock()  # a handler of signals may call while its own thread does
        self._ready[self._wake] = self._called
        self._epoll.register(self._wake, select.EPOLLIN)
        self._over = False

    def listen(self, listening: socket, accept: Callable[[Connection, object], Handler | None]) -> None:
        """Accept at ``listening`` what ``accept`` gives a handler for, from the connection and the client's address."""
        listening.setblocking(False)

        def ready(_: int) -> None:
            self._accept(listening, accept)

        self._listeners.append((listening, ready))
        self.attend(listening, ready, 0, select.EPOLLIN)

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        sweep = time.monotonic() + self._every
        while not self._over:
            for number, mask in self._epoll.poll(self._every):
                ready = self._ready.get(number)
                if ready is not None:
                    try:
                        ready(mask)
                    except Exception as error:  # noqa: BLE001 - one connection must not end the others
                        self._failed(ready, error)
            self._turned()
            self._speak()
            now = time.monotonic()
            if now >= sweep:
                sweep = now + self._every
                self._sweep(now)
            while self._dropped or self._speaking:  # saying something may end a connection, and its end be told others
                self._speak()
                self._bury()

    def call(self, what: Callable[[], None]) -> None:
        """Have ``what`` called in the reactor's thread, from any thread; not any more behind :meth:`close`."""
        self._calls.append(what)
        with self._awake:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End :meth:`run` after this round, from the reactor's thread."""
        self._over = True

    def deafen(self) -> None:
        """Accept nothing more."""
        self.linger, self._every = LINGER / 10, 0.1  # it is the end: nobody waits for those who do not listen
        while self._listeners:
            listening, ready = self._listeners.pop()  # first: one whose close fails is gone all the same
            self.attend(listening, ready, select.EPOLLIN, 0)
            with suppress(OSError):
                listening.close()

    def close(self) -> None:
        """Let go of everything; :meth:`run` has ended."""
        self.deafen()
        self._speak()
        for connection in list(self._connections):
            connection.abort()
        self._bury()
        self._epoll.close()
        with self._awake:
            wake, self._wake = self._wake, -1
        os.close(wake)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def attend(self, of: socket, ready: Callable[[int], None], before: int, wanted: int) -> int:
        """Change what is waited for on ``of`` from ``before`` to ``wanted``, and return that."""
        number = of.fileno()
        if not wanted:
            if before:
                self._epoll.unregister(number)
            self._ready.pop(number, None)
        elif before:
            self._epoll.modify(number, wanted)
        else:
            self._ready[number] = ready
            self._epoll.register(number, wanted)
        return wanted

    def speaks(self, connection: Connection) -> None:
        """``connection`` has something to send behind this round."""
        self._speaking.append(connection)

    def forget(self, of: socket, connection: Connection) -> None:
        """The connection is over. Its descriptor is closed behind the round: its number must not be given to another
        one while events of this round still name it."""
        self._dropped.append((of, connection))

    def _accept(self, listening: socket, accept: Callable[[Connection, object], Handler | None]) -> None:
        for _ in range(64):
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF:
                    self._hold()
                return
            if accepted.family != AF_UNIX:
                accepted.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # each write is all that can be said at that moment
            connection = Connection(self, accepted)
            self._connections.add(connection)
            try:
                connection.handler = accept(connection, address)
            except Exception:
                connection.abort()
                raise
            connection.begin()

    def _hold(self) -> None:
        """No descriptors: look again when some may have been given back."""
        for listening, ready in self._listeners:
            if listening.fileno() in self._ready:
                self.attend(listening, ready, select.EPOLLIN, 0)

    def _called(self, _: int) -> None:
        os.eventfd_read(self._wake)
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception as error:  # noqa: BLE001 - what others asked for is still to be done
                self._broken(error)

    def _speak(self) -> None:
        speaking, self._speaking = self._speaking, []
        for connection in speaking:
            try:
                connection.flush()
            except Exception as error:  # noqa: BLE001 - the system may refuse to wait for one, and the others go on
                self._failed(connection.flush, error)

    def _failed(self, ready: Callable[..., None], error: Exception) -> None:
        """A handler raised ``error``: its connection ends, and no other. What it has said before still goes out: a yes
        that nobody hears brings the message once more."""
        owner = getattr(ready, "__self__", None)
        if isinstance(owner, Connection):
            try:
                owner.finish()
            except OSError:  # it would have to be waited for, and that is what was refused
                owner.abort()
        self._broken(error)

    def _bury(self) -> None:
        while self._dropped:
            of, connection = self._dropped.pop()
            of.close()
            self._connections.discard(connection)
            if connection.handler is not None:
                connection.handler.lost()

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            if now >= connection.deadline:
                try:
                    connection.expire()
                except Exception as error:  # noqa: BLE001 - as above
                    self._failed(connection.expire, error)
        for listening, ready in self._listeners:
            if listening.fileno() not in self._ready:
                self.attend(listening, ready, 0, select.EPOLLIN)
        self._each_second()
