"""The authorized_keys line: one that lets more in than it should is a hole in the hub for every customer."""

from __future__ import annotations

import base64
import io
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.cli import route_key
from bsmtp_batch.cli.app import run
from bsmtp_batch.errors import Bad


def blob(kind, *parts):
    octets = b"".join(len(p).to_bytes(4, "big") + p for p in (kind.encode(), *parts))
    return base64.b64encode(octets).decode()


NUMBER = b"\x00" + b"\x9a" * 256
ED = blob("ssh-ed25519", b"k" * 32)
GOOD = {
    "ssh-ed25519": ED,
    "ssh-rsa": blob("ssh-rsa", b"\x01\x00\x01", NUMBER),
    "ecdsa-sha2-nistp256": blob("ecdsa-sha2-nistp256", b"nistp256", b"\x04" * 65),
    "sk-ssh-ed25519@openssh.com": blob("sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:"),
}
LINE = re.compile(r'restrict,command="(?P<command>[A-Za-z0-9_./ -]+)" (?P<key>[^\n]+)\n')


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Where the program was started from."""
    path = tmp_path / "bin" / "bsmtp-batch"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(path), "route", "key"])
    return path


@pytest.fixture
def ask(tmp_path, capsys, program):
    def call(content, *more, origin="Site.Example", code=0, name="site.pub"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = run(["route", "key", origin, str(file), *more])
        said = capsys.readouterr()
        assert found == code, said
        return said

    return call


@pytest.mark.parametrize("kind", GOOD)
def test_a_key_is_tied_to_one_origin_and_to_nothing_else(ask, program, tmp_path, kind):
    said = ask(f"{kind} {GOOD[kind]} me@site\n", "--spool", str(tmp_path / "spool"))

    found = LINE.fullmatch(said.out)
    assert shlex.split(found["command"]) == [str(program), "receive", "site.example", "--spool", f"{tmp_path}/spool"]
    assert found["key"] == f"{kind} {GOOD[kind]} me@site"
    assert "AuthorizedKeysFile" in said.err
    assert "there is no route site.example yet" in said.err
    assert "bsmtp-batch route add site.example" in said.err
    assert not (tmp_path / "spool").exists()


def test_openssh_reads_the_line_as_the_same_key(ask, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", tmp_path / "id"], check=True)
    public = (tmp_path / "id.pub").read_bytes()

    (tmp_path / "authorized_keys").write_text(ask(public).out)

    prints = [
        subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / name], capture_output=True, check=True).stdout
        for name in ("id.pub", "authorized_keys")
    ]
    assert prints[0] == prints[1]
    assert "is a private key" in ask((tmp_path / "id").read_bytes(), code=65).err


def test_settings_and_spool_that_were_named_are_named_in_the_command(ask, tmp_path, monkeypatch):
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nspool = "{tmp_path}/spool"\n')
    assert run(["route", "add", "site.example", "--config", str(config)]) == 0
    monkeypatch.chdir(tmp_path)

    said = ask(f"ssh-ed25519 {ED}", "--config", "node.toml")

    assert f' receive site.example --config {config}" ssh-ed25519' in said.out
    assert "there is no route" not in said.err
    monkeypatch.setenv("BSMTP_BATCH_CONFIG", str(config))
    assert f"--config {config}" in ask(f"ssh-ed25519 {ED}").out


def test_a_key_without_a_comment_and_from_standard_input(capsys, program, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"ssh-ed25519   {ED}\n".encode())))

    assert run(["route", "key", "site.example", "-"]) == 0

    assert capsys.readouterr().out.endswith(f'receive site.example" ssh-ed25519 {ED}\n')


def test_a_link_to_the_program_stays_a_link(ask, program, tmp_path, monkeypatch):
    link = tmp_path / "current"
    link.symlink_to(program.parent)
    monkeypatch.setattr(sys, "argv", [str(link / "bsmtp-batch")])

    assert f'command="{link}/bsmtp-batch receive' in ask(f"ssh-ed25519 {ED}").out


PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
BAD = {
    "private": (PRIVATE, "private key"),
    "putty": ("PuTTY-User-Key-File-3: ssh-ed25519\n", "private key"),
    "empty": ("", "does not begin with a kind of key"),
    "options": (f'command="/bin/sh" ssh-ed25519 {ED}', "something stands in front"),
    "from": (f"no-pty ssh-ed25519 {ED} x", "something stands in front"),
    "two keys": (f"ssh-ed25519 {ED} a\nssh-ed25519 {ED} b\n", "more than one line"),
    "empty line behind": (f"ssh-ed25519 {ED} a\n\n", "more than one line"),
    "carriage return": (f'ssh-ed25519 {ED} a\rcommand="x"', "control characters"),
    "windows": (f"ssh-ed25519 {ED} a\r\n", "control characters"),
    "tab": (f"ssh-ed25519\t{ED}", "control characters"),
    "escape": (f"ssh-ed25519 {ED} \x1b[2J", "control characters"),
    "line separator": (f"ssh-ed25519 {ED} a\u2028b", "control characters"),
    "next line": (f"ssh-ed25519 {ED} a\x85b", "control characters"),
    "reordering": (f"ssh-ed25519 {ED} a\u202eb", "control characters"),
    "nul": (f"ssh-ed25519 {ED} a\0b", "control characters"),
    "no utf-8": (f"ssh-ed25519 {ED} ".encode() + b"\xff", "not UTF-8"),
    "only its kind": ("ssh-ed25519", "is not such a key"),
    "no base64": ("ssh-ed25519 AAAA!", "is not such a key"),
    "cut": (f"ssh-ed25519 {ED[:-8]}", "is not such a key"),
    "longer": (f"ssh-ed25519 {blob('ssh-ed25519', b'k' * 32, b'x')}", "is not such a key"),
    "short point": (f"ssh-ed25519 {blob('ssh-ed25519', b'k' * 31)}", "is not such a key"),
    "another kind inside": (f"ssh-ed25519 {GOOD['ssh-rsa']}", "is not such a key"),
    "quote in it": (f'ssh-ed25519 {ED}" x', "is not such a key"),
    "certificate": (f"ssh-ed25519-cert-v01@openssh.com {ED}", "does not begin with a kind of key"),
    "dsa": (f"ssh-dss {ED}", "does not begin with a kind of key"),
    "comment line": (f"# ssh-ed25519 {ED}", "something stands in front"),
    "large": ("x" * 20_000, "more than 16384 octets"),
}


@pytest.mark.parametrize("which", BAD)
def test_what_is_not_one_public_key_on_one_line_gets_no_line(ask, which):
    content, told = BAD[which]

    said = ask(content, code=65)

    assert said.out == ""
    assert told in said.err
    assert "c2VjcmV0" not in said.err


def test_the_public_half_of_a_private_key_is_named(ask, tmp_path):
    assert f"{tmp_path}/id_ed25519.pub" in ask(PRIVATE, code=65, name="id_ed25519").err


@pytest.mark.parametrize("name", ["a b", 'a"b', "a'b", "a;b", "a$b", "a\nb", "ü", "a%b", "a\\b", "a*"])
def test_a_path_that_the_login_shell_would_read_is_refused(ask, tmp_path, name):
    config = tmp_path / name
    config.write_text("")

    said = ask(f"ssh-ed25519 {ED}", "--config", str(config), code=78)
    assert said.out == ""
    assert "login shell" in said.err
    assert ask(f"ssh-ed25519 {ED}", "--spool", str(config), code=78).out == ""


def test_a_program_in_an_odd_place_is_refused(ask, program, tmp_path, monkeypatch):
    odd = tmp_path / "my programs"
    odd.mkdir()
    shutil.copy(program, odd)
    monkeypatch.setattr(sys, "argv", [f"{odd}/bsmtp-batch"])

    assert ask(f"ssh-ed25519 {ED}", code=78).out == ""


@pytest.mark.parametrize("origin", ["../x", "a b", "-x.example", 'a"b', "a\nb", ""])
def test_an_origin_that_is_no_name_is_refused(program, tmp_path, capsys, origin):
    file = tmp_path / "k.pub"
    file.write_text(f"ssh-ed25519 {ED}\n")

    assert run(["route", "key", "--", origin, str(file)]) == 64
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there_is_told(program, capsys):
    assert run(["route", "key", "site.example", "/nowhere/k.pub"]) == 64
    assert "cannot be read" in capsys.readouterr().err


@given(st.text(max_size=60))
def test_whatever_stands_behind_the_key_no_second_line_or_option_comes_of_it(comment):
    try:
        kind, found, rest = route_key.public_key(f"ssh-ed25519 {ED} {comment}".encode("utf-8", "replace"), "k")
    except Bad:
        return

    assert (kind, found) == ("ssh-ed25519", ED)
    assert rest.isprintable()


@given(st.binary(max_size=200))
def test_any_octets_are_a_key_or_are_refused(content):
    try:
        kind, found, _ = route_key.public_key(content, "k")
    except Bad:
        return

    assert kind in route_key.KINDS
    assert base64.b64decode(found, validate=True)
