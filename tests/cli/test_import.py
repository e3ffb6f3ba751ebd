"""The command ``import``: what people and programs are told, and the exit codes they rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.importing import Letter, arrive, batch, letters
from support.sink import MailFrom, Sink

from bsmtp_batch.cli.app import run
from bsmtp_batch.wire.events import Reply


@pytest.fixture
def x(tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"c@site.example", "ü@site.example".encode())), *letters(1)]))
    return str(path)


@pytest.fixture
def spool(tmp_path):
    return str(tmp_path / "spool")


def import_(*arguments, spool):
    return run(["import", *arguments, "--spool", spool])


def test_programs_get_one_object_per_recipient(x, spool, capsys):
    with Sink() as sink:
        assert import_(x, "--to", sink.url, "--json", spool=spool) == 0

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["message"], row["rcpt_to"], row["outcome"]) for row in rows] == [
        (1, "c@site.example", "delivered"),
        (1, "ü@site.example", "delivered"),
        (2, "c@site.example", "delivered"),
    ]
    assert rows[0]["reply"].startswith("250 2.0.0 queued")
    assert rows[0]["batch"] == "x.bsmtp"


def test_people_get_one_line_per_batch(x, spool, capsys):
    with Sink() as sink:
        import_(x, "--to", sink.url, "--local-domain", "site.example", spool=spool)

    assert capsys.readouterr() == ("x.bsmtp: messages: 2; recipients: 3 delivered\n", "")


def test_people_get_one_line_per_problem(tmp_path, spool, capsys):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"x@evil.example",))]))
    with Sink() as sink:
        code = import_(str(path), "--to", sink.url, "--local-domain", "site.example", spool=spool)

    said = capsys.readouterr()
    assert code == 65
    assert "message 1: 5.7.1 the recipient is outside the local domains" in said.err
    assert said.err.count("\n") == 1
    assert "1 quarantined" in said.out


def test_what_is_left_ends_with_75(x, spool, capsys):
    with Sink(lambda asked: Reply(451, b"", b"later") if isinstance(asked.request, MailFrom) else None) as sink:
        assert import_(x, "--to", sink.url, spool=spool) == 75
    assert import_(x, "--to", "smtp://127.0.0.1:1", spool=spool) == 75
    told, said = capsys.readouterr()
    assert "3 deferred (<c@site.example>: 451 later)\n" in told, "nobody could know what to wait for"
    assert "smtp://127.0.0.1:1 cannot be reached" in said
    assert "What it did not take stays here. Next: see to it, then run the import again" in said


def test_what_is_left_and_set_aside_ends_with_75(tmp_path, spool):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"x@evil.example", b"c@site.example"))]))
    code = import_(str(path), "--to", "smtp://127.0.0.1:1", "--local-domain", "site.example", spool=spool)
    assert code == 75


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        ([], "where to hand the mail in"),
        (["--to", "mail.example"], "no target"),
        (["--to", "smtp://mail.example:x"], "1 to 65535"),
        (["--to", "smtp://mail.example", "--force", "some"], "no --force=some"),
        (["--to", "smtp://mail.example", "--local-domain", "a b"], "not a domain"),
        (["--to", "smtp://mail.example", "/nonexistent.bsmtp"], "no file"),
        (["--to", "smtp://mail.example", "--unknown"], "--unknown"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_64(arguments, because, spool, capsys):
    assert import_(*arguments, spool=spool) == 64
    assert because in capsys.readouterr().err
    assert not os.path.exists(spool)


def test_the_target_may_stand_in_the_settings(x, spool, tmp_path):
    with Sink() as sink:
        settings = tmp_path / "s.toml"
        settings.write_text(f'[import]\nto = "{sink.url}"\nlocal_domains = ["site.example"]\n')
        assert import_(x, "--config", str(settings), spool=spool) == 0
        assert len(sink.taken) == 2


def test_refusals_may_be_only_kept_by_setting(tmp_path, spool):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(1)))
    settings = tmp_path / "s.toml"
    settings.write_text('[import]\non_reject = "quarantine"\n')
    with Sink(lambda asked: Reply(550, b"5.7.1", b"no") if isinstance(asked.request, MailFrom) else None) as sink:
        assert import_(str(path), "--to", sink.url, "--config", str(settings), spool=spool) == 65
        assert sink.taken == []


def test_force_all_needs_a_yes(x, spool, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", open(os.devnull, encoding="utf-8"))  # noqa: SIM115 - closed below
    with Sink() as sink:
        import_(x, "--to", sink.url, spool=spool)
        assert import_(x, "--to", sink.url, "--force", "all", spool=spool) == 64
        assert len(sink.taken) == 2
        assert import_(x, "--to", sink.url, "--force", "all", "--yes", spool=spool) == 0
        assert len(sink.taken) == 4
    sys.stdin.close()
    assert "up to 3 recipients may get a message twice" in capsys.readouterr().err


def test_a_dry_run_needs_no_target_and_leaves_no_trace(tmp_path, capsys):
    spool = tmp_path / "spool"
    arrive(spool, letters(2))
    before = sorted(spool.rglob("*"))
    assert import_("--dry-run", spool=str(spool)) == 0

    assert "2 pending" in capsys.readouterr().out
    assert sorted(spool.rglob("*")) == before


def test_a_terminal_is_not_moved_by_what_a_batch_holds(tmp_path, spool, capsys):
    path = tmp_path / "x\x1b[2J.bsmtp"
    path.write_bytes(batch(letters(1)))
    with Sink() as sink:
        import_(str(path), "--to", sink.url, spool=spool)

    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


def test_standard_input_is_a_batch(x, spool, tmp_path):
    command = [sys.executable, "-m", "bsmtp_batch", "import", "-", "--spool", spool, "--to", f"maildir:{tmp_path}/M"]
    with open(x, "rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "standard input: messages: 2; recipients: 3 delivered\n")


def test_the_help_has_its_codes_and_an_example(capsys):
    assert run(["import", "--help"]) == 0
    said = capsys.readouterr().out
    assert "bsmtp-batch import --to" in said
    assert all(f"  {code}  " in said for code in (0, 64, 65, 70, 75, 78))


def test_what_holds_without_settings_is_what_the_settings_hold_when_they_say_nothing(tmp_path):
    from bsmtp_batch import config
    from bsmtp_batch.cli.importing import basics_from, basics_of

    empty = tmp_path / "empty.toml"
    empty.write_text("# nothing\n\n")
    spool = str(tmp_path / "spool")

    assert basics_of(str(empty), spool) == basics_from(config.load(str(empty), spool=spool))
