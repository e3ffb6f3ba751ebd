"""The account commands: a secret is shown once, in one place, and never asked for on the command line."""

from __future__ import annotations

import io
import json
import os
import re

import pytest
from support.accounts import account, written

from bsmtp_batch.accounts import store
from bsmtp_batch.accounts.credentials import matches
from bsmtp_batch.cli.app import run


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr("bsmtp_batch.accounts.credentials.ITERATIONS", 4096)
    monkeypatch.delenv("BSMTP_BATCH_CONFIG", raising=False)
    monkeypatch.setenv("BSMTP_BATCH_SPOOL", str(tmp_path / "spool"))


@pytest.fixture
def config(tmp_path):
    """A settings file with two accounts; the secrets file it names."""
    path = tmp_path / "bsmtp-batch.toml"
    path.write_text(
        f'[node]\nsecrets = "{tmp_path}/secrets"\n'
        '[account.aurora]\nroutes = ["aurora.example"]\ncram_md5 = true\n'
        "[account.boreas]\nplain = false\n"
        f'[account.notus]\ncertificate = "sha256:{"AB:" * 31}AB"\n'
    )
    return str(path), str(tmp_path / "secrets")


def account_command(*words):
    return run(["account", *words])


def test_the_secret_is_shown_once_alone_on_standard_output_and_is_the_one(config, capsys):
    settings, path = config

    assert account_command("add", "aurora", "--cram-md5", "--config", settings) == 0

    said = capsys.readouterr()
    secret = said.out.strip()
    assert re.fullmatch("[a-z2-7]{32}\n", said.out)
    assert secret not in said.err
    assert "PLAIN, LOGIN" in said.err
    kept = store.read(path)[0].accounts["aurora"]
    assert matches(kept.argon2, secret.encode())
    with open(path) as file:
        assert secret not in file.read()
    assert account_command("list", "--config", settings) == 0
    assert account_command("list", "--json", "--config", settings) == 0
    assert secret not in capsys.readouterr().out


def test_cram_md5_is_kept_for_accounts_that_ask_for_it_only(config, capsys):
    settings, path = config

    account_command("add", "aurora", "--config", settings)
    account_command("add", "boreas", "--cram-md5", "--config", settings)

    kept = store.read(path)[0].accounts
    assert (kept["aurora"].cram_md5, kept["boreas"].cram_md5 is None) == (None, False)
    assert "[account.boreas] says cram_md5 = true" in capsys.readouterr().err


def test_programs_get_the_secret_in_json(config, capsys):
    settings, _ = config

    assert account_command("add", "aurora", "--json", "--config", settings) == 0

    row = json.loads(capsys.readouterr().out)
    assert row["account"] == "aurora"
    assert row["mechanisms"] == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    assert len(row["secret"]) == 32


def test_the_list_says_what_each_one_can_log_in_with(config, capsys):
    settings, _ = config
    account_command("add", "aurora", "--cram-md5", "--config", settings)
    account_command("add", "boreas", "--config", settings)
    account_command("add", "zephyrus", "--config", settings)
    assert "cannot log in before [account.zephyrus] is in the settings" in capsys.readouterr().err

    assert account_command("list", "--json", "--config", settings) == 0

    rows = {row["account"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["aurora"]["mechanisms"] == ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]
    assert rows["aurora"]["routes"] == ["aurora.example"]
    assert rows["boreas"]["mechanisms"] == ["SCRAM-SHA-256"]
    assert rows["notus"] == {
        "account": "notus",
        "created": None,
        "mechanisms": ["EXTERNAL"],
        "configured": True,
        "routes": [],
    }
    assert rows["zephyrus"]["configured"] is False
    account_command("list", "--config", settings)
    assert "zephyrus: cannot log in, there is no [account] section for it" in capsys.readouterr().out


def test_a_password_of_somebody_elses_choice_comes_from_a_file_or_standard_input(config, capsys, tmp_path, monkeypatch):
    settings, path = config
    given = tmp_path / "password"
    given.write_bytes(b"twelve letters or more\r\nsecond line\n")
    given.chmod(0o644)

    assert account_command("add", "aurora", "--password-file", str(given), "--config", settings) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"others may read {given}" in said.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"another one of twelve\n")))
    assert account_command("add", "boreas", "--password-file", "-", "--json", "--config", settings) == 0
    assert "secret" not in json.loads(capsys.readouterr().out)

    kept = store.read(path)[0].accounts
    assert matches(kept["aurora"].argon2, b"twelve letters or more")
    assert matches(kept["boreas"].argon2, b"another one of twelve")


@pytest.mark.parametrize(
    ("password", "words"),
    [("short", "12 characters"), ("zwölf Zeichen lang", "printable ASCII"), ("", "printable ASCII")],
)
def test_a_password_that_would_not_do_changes_nothing(config, capsys, tmp_path, password, words):
    settings, path = config
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")

    assert account_command("add", "aurora", "--password-file", str(tmp_path / "password"), "--config", settings) == 64

    assert words in capsys.readouterr().err
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "Aurora"], "no account can be called 'Aurora'"),
        (["add", "aurora", "--cram-md5", "--password-file", "-"], "generated secrets only"),
        (["add", "aurora", "--password-file", "/nowhere/at/all"], "cannot be read"),
        (["remove", "aurora"], "there is no account aurora"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(config, capsys, words, told):
    settings, path = config

    assert account_command(*words, "--config", settings) == 64

    assert told in capsys.readouterr().err
    assert not os.path.exists(path)


def test_an_account_is_not_overwritten(config, capsys):
    settings, path = config
    account_command("add", "aurora", "--config", settings)
    before = store.read(path)

    assert account_command("add", "aurora", "--config", settings) == 64

    assert store.read(path) == before
    assert "already" in capsys.readouterr().err


def test_a_removed_account_is_gone_and_the_others_stay(tmp_path, capsys):
    path = tmp_path / "secrets"
    old = written(path, account(hashed=False), account("boreas", hashed=False))

    assert account_command("remove", "aurora", "--secrets", str(path)) == 0

    left = store.read(str(path))[0]
    assert list(left.accounts) == ["boreas"]
    assert left.stand_in_key == old.stand_in_key
    assert left.accounts["boreas"] == old.accounts["boreas"]


def test_a_dry_run_changes_nothing_and_makes_no_secret(tmp_path, capsys):
    path = tmp_path / "secrets"

    assert account_command("add", "aurora", "--dry-run", "--secrets", str(path)) == 0
    assert capsys.readouterr().out == f"would add the account aurora to {path}\n"
    written(path, account(hashed=False))
    before = path.read_bytes()
    assert account_command("remove", "aurora", "--dry-run", "--secrets", str(path)) == 0

    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["secrets"]


def test_a_secrets_file_that_others_may_read_is_not_used(tmp_path, capsys):
    path = tmp_path / "secrets"
    written(path, account(hashed=False))
    path.chmod(0o640)

    assert account_command("add", "boreas", "--secrets", str(path)) == 78
    assert account_command("list", "--secrets", str(path)) == 78

    said = capsys.readouterr()
    assert said.out == ""
    assert f"chmod 600 {path}" in said.err


def test_a_directory_that_is_not_there_is_a_matter_of_the_configuration(tmp_path, capsys):
    assert account_command("add", "aurora", "--secrets", str(tmp_path / "etc" / "secrets")) == 78

    assert f"make {tmp_path}/etc a directory" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_writes_belongs_to_the_owner_of_the_spool(tmp_path, monkeypatch):
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, 4711, 4712)
    path = tmp_path / "secrets"

    for name in ("aurora", "boreas"):
        assert account_command("add", name, "--secrets", str(path), "--spool", str(spool)) == 0

    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4711, 4712, 0o600)
