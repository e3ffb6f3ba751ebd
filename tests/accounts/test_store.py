"""The secrets file: what others can read is no secret, and what is half written lets nobody in."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.accounts import account, written

from bsmtp_batch.accounts import store
from bsmtp_batch.accounts.format import Fault, empty, formatted, parsed
from bsmtp_batch.accounts.names import valid
from bsmtp_batch.errors import Setting


@pytest.fixture(scope="module")
def text():
    accounts = [account("aurora", hashed=False), account("boreas", cram_md5=False, hashed=False)]
    return formatted(type(empty(os.urandom))(b"k" * 32, {one.name: one for one in accounts}))


def test_what_was_written_is_read_again(tmp_path):
    path = tmp_path / "secrets"
    secrets = written(path, account(hashed=False), account("boreas", cram_md5=False, hashed=False))

    assert store.read(str(path))[0] == secrets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secrets"]


def test_no_file_is_no_accounts(tmp_path):
    assert store.read(str(tmp_path / "secrets")) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    path = tmp_path / "secrets"
    written(path)
    path.chmod(mode)

    with pytest.raises(Setting, match=f"mode {mode:04o}.*chmod 600 {path}"):
        store.read(str(path))


def test_a_file_of_somebody_else_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "secrets"
    written(path)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)

    with pytest.raises(Setting, match=f"belongs to user {mine} and not to {mine + 1}"):
        store.read(str(path))
    assert store.read(str(path), owner=mine) is not None


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), lambda p: os.mkfifo(p), lambda p: p.mkdir()])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path, make):
    make(tmp_path / "secrets")

    with pytest.raises(Setting):
        store.read(str(tmp_path / "secrets"))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "secrets"
    old = written(path, account(hashed=False))

    def fails(fd):
        os.close(fd)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.durable, "sync_close", fails)
    with pytest.raises(OSError, match="No space"):
        written(path)

    assert store.read(str(path))[0] == old
    assert os.listdir(tmp_path) == ["secrets"]


def test_two_changes_do_not_go_on_at_once(tmp_path):
    path = str(tmp_path / "secrets")
    with store.locked(path), pytest.raises(BlockingIOError):
        store.durable.lock(str(tmp_path / ".secrets.lock"), block=False)
    with store.locked(path):
        pass


def test_a_credential_of_a_kind_that_is_not_known_is_not_lost_by_the_next_change(text):
    with pytest.raises(Fault, match=f"line {len(text.splitlines()) + 1} "):
        parsed(text + b"argon3 aurora x\n")


@given(st.data())
def test_a_damaged_file_is_a_fault_and_nothing_else(text, data):
    lines = text.splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[number]) - 1))
    octet = data.draw(st.binary(min_size=1, max_size=1))
    lines[number] = lines[number][:at] + octet + lines[number][at + 1 :]

    try:
        found = parsed(b"".join(lines))
    except Fault as fault:
        assert b"$" not in str(fault).encode()
    else:
        assert set(found.accounts) <= {name for name in found.accounts if valid(name)}


@given(st.binary(max_size=300))
def test_any_other_file_is_a_fault(junk):
    with pytest.raises(Fault):
        parsed(b"bsmtp-batch-secrets 1\n" + junk)


def test_the_file_of_another_version_is_named_as_that():
    with pytest.raises(Fault, match="newer version"):
        parsed(b"bsmtp-batch-secrets 2\n")


def test_nothing_secret_is_in_a_repr(text):
    found = parsed(text)
    one = found.accounts["aurora"]

    told = repr(found)
    assert "argon2id$" not in told
    for secret in (found.stand_in_key, one.scram.stored, one.scram.server, one.cram_md5.inner):
        assert repr(secret) not in told


@pytest.mark.parametrize("name", ["aurora", "a", "0", "site-1.example.org", "mail+x@aurora.example", "a" * 64])
def test_names_that_are_good(name):
    assert valid(name)


@pytest.mark.parametrize("name", ["", "Aurora", "-a", ".a", "a b", "a\n", "ä", "a" * 65, "a/b", "a=b"])
def test_names_that_are_not(name):
    assert not valid(name)
