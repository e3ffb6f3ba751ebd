"""Sockets: a far side that is away, silent or gone is an OSError within the time given."""

from __future__ import annotations

import socket

import pytest

from bsmtp_batch.edge.sockets import SocketChannel, connect_tcp, connect_unix


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    channel = SocketChannel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_octets_go_both_ways(pair):
    channel, theirs = pair
    channel.send(memoryview(b"EHLO x\r\n"), 5)
    assert theirs.recv(100) == b"EHLO x\r\n"
    theirs.sendall(b"250 ok\r\n")
    assert channel.receive(5) == b"250 ok\r\n"


def test_silence_is_a_timeout(pair):
    with pytest.raises(TimeoutError):
        pair[0].receive(0.02)


def test_a_far_side_that_does_not_read_is_a_timeout(pair):
    with pytest.raises(TimeoutError):
        pair[0].send(b"x" * 10_000_000, 0.05)


def test_the_end_of_the_far_side_is_told(pair):
    pair[1].close()
    assert pair[0].receive(5) == b""
    with pytest.raises(BrokenPipeError):
        pair[0].send(b"x", 5)


def test_nobody_listening_is_an_oserror():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            connect_tcp("127.0.0.1", unused.getsockname()[1], 5)


def test_tcp_sends_small_commands_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = connect_tcp("127.0.0.1", server.getsockname()[1], 5)
        assert channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        channel.close()


def test_a_unix_socket_is_reached_by_its_path(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        channel = connect_unix(path, 5)
        accepted, _ = server.accept()
        with accepted:
            channel.send(b"LHLO", 5)
            assert accepted.recv(10) == b"LHLO"
        channel.close()


@pytest.mark.parametrize("path", ["/nonexistent/socket", "/" + "x" * 300])
def test_a_unix_socket_that_cannot_be_is_an_oserror(path):
    with pytest.raises(OSError):
        connect_unix(path, 1)
