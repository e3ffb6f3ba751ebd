"""``serve`` as an MTA meets it: the socket is there with the permissions that were set, and gone at the end; what was
taken is in its route."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import sys

import pytest
from support.fragments import make_route
from support.lmtp import Client

from bsmtp_batch.config import load
from bsmtp_batch.errors import Faults
from bsmtp_batch.intake.server import DESCRIPTORS


class Program:
    """``bsmtp-batch serve`` with ``serve`` in its [serve]."""

    def __init__(self, home, serve, *, spool=None, lmtp=None):
        self.path = home / "lmtp"
        self.config = home / "c.toml"
        self.config.write_text(
            f'[node]\nname = "hub.example"\nspool = "{spool or home / "spool"}"\n[serve]\n'
            + f'lmtp = ["{lmtp or f"unix:{self.path}"}"]\n'
            + serve
        )

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bsmtp_batch", "serve", "--config", str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.first = self.process.stderr.readline()
        return self

    def end(self, how=signal.SIGTERM):
        """Its exit status, and what it said after its first line."""
        self.process.send_signal(how)
        said = self.process.communicate(timeout=40)[1]
        return self.process.returncode, said

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("odmr", ["", 'odmr = ["127.0.0.1:0"]\n'])
def test_mail_is_taken_on_every_socket_and_the_end_leaves_none_behind(tmp_path, odmr):
    make_route(tmp_path / "spool", "site.example")
    with Program(tmp_path, 'lmtp_mode = "0660"\n' + odmr) as program:
        assert program.first.startswith(f"serve: listening on unix:{program.path}")
        assert stat.S_IMODE(os.lstat(program.path).st_mode) == 0o660
        client = Client(str(program.path))
        assert client.reply() == b"220 hub.example LMTP\r\n"
        client.hello()
        assert client.hand_in(b"x\r\n", b"a@site.example")[0].startswith(b"250")
        assert program.end()[0] == 0
        assert client.reply().startswith(b"421")
        client.close()
    assert not program.path.exists()
    assert len(os.listdir(tmp_path / "spool/out/site.example/new")) == 1


def test_a_second_server_leaves_the_first_one_its_socket_and_says_who_is_in_the_way(tmp_path):
    make_route(tmp_path / "spool", "site.example")
    with Program(tmp_path, "") as first:
        with Program(tmp_path, "") as second:
            assert second.process.wait(30) == 75
            assert "cannot be listened on: another process listens there" in second.first
        Client(str(first.path)).close()


def test_a_missing_directory_is_named_with_the_line_that_makes_it(tmp_path):
    make_route(tmp_path / "spool", "site.example")
    with Program(tmp_path, "", lmtp=f"unix:{tmp_path}/missing/lmtp") as program:
        assert program.process.wait(30) == 75
        assert "/missing/lmtp cannot be listened on: No such file or directory. " in program.first
        assert f"-m 755 {tmp_path}/missing, after each boot" in program.first


def test_a_port_that_is_taken_is_named_once(tmp_path):
    make_route(tmp_path / "spool", "site.example")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with Program(tmp_path, "", lmtp=where) as program:
            assert program.process.wait(30) == 75
            assert f"{where} cannot be listened on: Address already in use. Nothing was started" in program.first
            assert program.first.rstrip().endswith("Next: see who has it: ss -lxntp")


def test_a_killed_servers_socket_is_taken_over_and_its_mail_is_moved_on(tmp_path):
    make_route(tmp_path / "spool", "site.example")
    with Program(tmp_path, "") as program:
        client = Client(str(program.path))
        client.reply()
        client.hello()
        assert client.hand_in(b"x\r\n", b"a@site.example")[0].startswith(b"250")
        program.process.kill()
        program.process.wait(30)
        client.close()
    with Program(tmp_path, "") as program:
        assert program.first.startswith("serve: listening")
        assert program.end(signal.SIGINT)[0] == 0
    assert len(os.listdir(tmp_path / "spool/out/site.example/new")) == 1


def test_who_is_not_in_the_networks_that_may_is_told_to_ask_for_it(tmp_path):
    make_route(tmp_path / "spool", "site.example")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Program(tmp_path, "") as program:
        program.end()
    text = program.config.read_text().replace(f"unix:{program.path}", f"127.0.0.1:{port}")
    program.config.write_text(text + 'lmtp_from = ["192.0.2.0/24"]\n')
    with program, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        assert client.recv(1000).startswith(b"421 4.7.1 not from where you are")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('lmtp = ["unix:lmtp"]', "whole path"),
        ('lmtp = ["lmtp"]', "unix:/run"),
        ('lmtp = ["*:24"]', "lmtp_from has to name"),
        ('lmtp = ["192.0.2.1:24"]', "lmtp_from has to name"),
        ('lmtp_mode = "rw"', "octal"),
        ("lmtp_mode = 666", "octal"),
        ('lmtp_route = "not a route"', "host name"),
    ],
)
def test_a_listener_that_would_take_mail_from_everybody_or_nobody_is_a_fault_of_the_settings(tmp_path, line, words):
    path = tmp_path / "c.toml"
    path.write_text(f"[serve]\n{line}\n")

    with pytest.raises(Faults) as caught:
        load(str(path))

    assert words in str(caught.value)


@pytest.mark.parametrize("where", ["127.0.0.1:24", "[::1]:24", "localhost:24", "unix:/run/x/lmtp"])
def test_a_listener_for_this_machine_alone_needs_no_networks(tmp_path, where):
    path = tmp_path / "c.toml"
    path.write_text(f'[serve]\nlmtp = ["{where}"]\n')

    assert load(str(path)).serve.lmtp == [where]


@pytest.mark.parametrize("odmr", ["", 'odmr = ["127.0.0.1:0"]\n'])
def test_large_messages_for_many_routes_do_not_run_out_of_descriptors(tmp_path, odmr):
    make_route(tmp_path / "spool", "site.example")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Program(tmp_path, odmr) as program:
        soft, _ = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)
        assert soft >= (DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS))
