"""The reactor: what is said behind a round of events is said, whatever else goes wrong in that round."""

from __future__ import annotations

import errno
import select
import socket
import threading
from contextlib import contextmanager

import pytest

from bsmtp_batch.edge.reactor import Reactor

YES = b"250 kept\r\n"


class Speaker:
    """A handler that does ``what`` with its connection and what has come."""

    def __init__(self, connection, what, at_the_end=lambda: None):
        self._connection = connection
        self._what = what
        self._at_the_end = at_the_end

    def received(self, data):
        self._what(self._connection, data)

    def expired(self):
        pass

    def lost(self):
        self._at_the_end()


class Running:
    """A reactor in a thread; ``broken`` holds what was raised in it, ``ended`` how it ended."""

    def __init__(self, **called):
        nothing = {"turned": lambda: None, "each_second": lambda: None}
        self.broken = []
        self.ended = None
        self.reactor = Reactor(**nothing | called, broken=self.broken.append)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._address = self._listening.getsockname()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            self.reactor.run()
        except RuntimeError as error:
            self.ended = error
        finally:
            self.reactor.close()

    def client(self):
        client = socket.create_connection(self._address)
        client.settimeout(20)
        return client

    @contextmanager
    def serving(self, make):
        self.reactor.listen(self._listening, lambda connection, _: make(connection))
        self.thread.start()
        yield self
        self.reactor.call(self.reactor.stop)
        self.thread.join(20)
        assert not self.thread.is_alive()


def heard(client):
    """Everything up to the end."""
    said = b""
    while piece := client.recv(65536):
        said += piece
    return said


def test_a_yes_is_heard_although_its_handler_fails_behind_it():
    """Nobody would know of it, and the message come once more."""

    def fail(connection, _):
        connection.write(YES)
        raise ValueError("in what comes next")

    with Running().serving(lambda connection: Speaker(connection, fail)) as running, running.client() as client:
        client.sendall(b"x")
        assert heard(client) == YES
        assert [type(one) for one in running.broken] == [ValueError]


def test_where_the_system_refuses_to_wait_for_one_client_the_others_are_served(monkeypatch):
    class Full:
        def __init__(self, epoll):
            self._epoll = epoll

        def __getattr__(self, name):
            return getattr(self._epoll, name)

        def register(self, fd, mask):
            if mask == select.EPOLLOUT:
                raise OSError(errno.ENOSPC, "no more can be watched")
            self._epoll.register(fd, mask)

    def speak(connection, data):
        if data == b"much":
            connection.pause()
            connection.write(bytes(20_000_000))
        else:
            connection.write(YES)

    running = Running()
    monkeypatch.setattr(running.reactor, "_epoll", Full(running.reactor._epoll))
    with (
        running.serving(lambda connection: Speaker(connection, speak)),
        running.client() as one,
        running.client() as other,
    ):
        one.sendall(b"much")
        one.recv(1)
        other.sendall(b"x")
        assert other.recv(100) == YES
    assert [type(one) for one in running.broken] == [OSError]


def test_what_the_end_of_one_connection_makes_another_say_is_not_kept_back():
    others = []

    def make(connection):
        others.append(connection)
        return Speaker(connection, lambda mine, _: mine.finish(), lambda: others[0].write(YES))

    running = Running()
    running.reactor._every = 3600.0
    with running.serving(make), running.client() as first:
        with running.client() as second:
            second.sendall(b"x")
            assert heard(second) == b""
        assert first.recv(100) == YES


def test_what_was_decided_is_heard_although_the_server_ends_by_a_fault():
    said = threading.Event()

    def fault():
        if said.is_set():
            raise RuntimeError("of ours")

    def speak(connection, _):
        connection.write(YES)
        said.set()

    with Running(turned=fault).serving(lambda connection: Speaker(connection, speak)) as running:
        with running.client() as client:
            client.sendall(b"x")
            assert heard(client) == YES
        running.thread.join(20)
    assert str(running.ended) == "of ours"


def test_a_client_that_reads_late_gets_all_of_it_and_is_not_heard_before():
    came = []

    def speak(connection, data):
        came.append(data)
        connection.write(b"z" * 8_000_000 if data == b"much" else YES)

    running = Running()
    with (
        running.serving(lambda connection: Speaker(connection, speak)),
        running.client() as client,
        running.client() as other,
    ):
        client.sendall(b"much")
        said = client.recv(1)
        client.sendall(b"more")
        other.sendall(b"x")
        assert other.recv(100) == YES
        assert came == [b"much", b"x"]
        while len(said) < 8_000_000 + len(YES):
            said += client.recv(1 << 20)
        assert said == b"z" * 8_000_000 + YES
        assert came == [b"much", b"x", b"more"]


@pytest.mark.parametrize("way", ["finish", "close"])
def test_the_last_word_goes_out_before_the_connection_ends(way):
    def speak(connection, _):
        connection.write(b"221 bye\r\n")
        getattr(connection, way)()

    with Running().serving(lambda connection: Speaker(connection, speak)) as running, running.client() as client:
        client.sendall(b"QUIT\r\n")
        assert heard(client) == b"221 bye\r\n"
