"""Sockets: a far side that is away, silent or gone is an OSError within the time given."""

from __future__ import annotations

import socket
import struct
import threading

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


def test_a_file_goes_out_whole_also_to_a_slow_reader(pair, tmp_path):
    channel, theirs = pair
    octets = bytes(range(256)) * 8192
    (tmp_path / "file").write_bytes(octets)
    came = []

    def read():
        while piece := theirs.recv(50_000):
            came.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with (tmp_path / "file").open("rb") as file:
        channel.send_file(file.fileno(), 3, len(octets) - 5, 20)
    channel.cut()
    reader.join()
    assert b"".join(came) == octets[3:-2]


def test_the_system_is_not_left_to_wait_several_times_as_long_as_is_allowed(pair, tmp_path, monkeypatch):
    """It waits anew whenever it has squeezed in a little more, several times in one call."""
    channel, _ = pair
    (tmp_path / "file").write_bytes(b"x" * 100)
    clock = [0.0]
    takes = [10, 0, 0, 1]

    def sendfile(to, fd, offset, size):
        whole, micro = struct.unpack("@ll", channel._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
        clock[0] += 2 * (whole + micro / 1e6)
        if taken := takes.pop(0) if takes else 0:
            return taken
        raise BlockingIOError

    monkeypatch.setattr("bsmtp_batch.edge.sockets.os.sendfile", sendfile)
    monkeypatch.setattr("bsmtp_batch.edge.sockets.time.monotonic", lambda: clock[0])
    with (tmp_path / "file").open("rb") as file, pytest.raises(TimeoutError):
        channel.send_file(file.fileno(), 0, 100, 180)
    assert 180 <= clock[0] - 4 * 180 / 8 <= 180 * 1.25  # behind the last that was taken


def test_a_far_side_that_does_not_read_a_file_is_a_timeout(pair, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 10_000_000)
    with (tmp_path / "file").open("rb") as file, pytest.raises(TimeoutError):
        pair[0].send_file(file.fileno(), 0, 10_000_000, 0.05)


def test_a_file_that_became_shorter_is_told_and_not_waited_for(pair, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    with (tmp_path / "file").open("rb") as file, pytest.raises(EOFError):
        pair[0].send_file(file.fileno(), 0, 101, 20)


def test_a_cut_ends_the_sending_of_a_file_in_another_thread(pair, tmp_path):
    """An import that is interrupted would otherwise wait for as long as the far side may be silent."""
    channel, theirs = pair
    (tmp_path / "file").write_bytes(b"x" * 10_000_000)
    ended = []

    def send():
        with (tmp_path / "file").open("rb") as file:
            try:
                channel.send_file(file.fileno(), 0, 10_000_000, 60)
            except OSError as error:
                ended.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    assert theirs.recv(1)  # it is at it
    channel.cut()
    sender.join(20)
    assert [type(error) for error in ended] == [BrokenPipeError]


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
