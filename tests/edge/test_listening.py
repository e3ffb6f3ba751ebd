"""A socket in the file system is replaced when it is dead, never when it lives, and is taken away by its owner only."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from bsmtp_batch.edge.listening import UnixListener


def dial(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.close()


def test_a_socket_that_nobody_listens_at_any_more_is_replaced(tmp_path):
    path = tmp_path / "lmtp"
    dead = UnixListener(str(path), 0o666)
    dead.socket.close()

    alive = UnixListener(str(path), 0o660)
    dial(path)

    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o660
    assert os.listdir(tmp_path) == ["lmtp"]
    dead.remove()
    dial(path)
    alive.remove()
    alive.socket.close()
    assert os.listdir(tmp_path) == []


def test_a_socket_that_somebody_listens_at_is_left_to_him(tmp_path):
    first = UnixListener(str(tmp_path / "lmtp"), 0o600)

    with pytest.raises(OSError, match="listens") as caught:
        UnixListener(str(tmp_path / "lmtp"), 0o600)

    assert caught.value.errno == errno.EADDRINUSE
    assert os.listdir(tmp_path) == ["lmtp"]
    dial(tmp_path / "lmtp")
    first.socket.close()


def test_a_file_in_the_place_of_a_socket_is_not_removed(tmp_path):
    (tmp_path / "lmtp").write_text("precious")

    with pytest.raises(OSError, match="something else"):
        UnixListener(str(tmp_path / "lmtp"), 0o600)

    assert (tmp_path / "lmtp").read_text() == "precious"


def test_permissions_are_not_given_to_what_somebody_puts_in_place_of_the_socket(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.touch(0o600)

    class Exchanged(socket.socket):
        def bind(self, path):
            super().bind(path)
            os.unlink(path)
            os.symlink(secret, path)

    monkeypatch.setattr("bsmtp_batch.edge.listening.socket.socket", Exchanged)
    with pytest.raises(OSError, match="something else"):
        UnixListener(str(tmp_path / "lmtp"), 0o666)
    assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]
