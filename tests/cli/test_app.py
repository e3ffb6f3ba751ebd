"""The command line as a whole: whatever happens ends in an exit code of the public table and one clear line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bsmtp_batch.cli import app
from bsmtp_batch.errors import Bad, Later, Setting, Usage


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bsmtp_batch", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [["frob"], ["seal", "--frob"], ["route", "add"], ["show"]])
def test_a_slip_of_the_finger_is_usage_and_not_a_python_error_code(arguments):
    done = run(*arguments)

    assert done.returncode == 64
    assert done.stderr.startswith("bsmtp-batch: ")
    assert "Nothing was changed. Next: " in done.stderr
    assert ".." not in done.stderr.replace("...", "")


def test_no_command_at_all_gets_the_help():
    done = run()

    assert done.returncode == 64
    assert done.stderr.startswith("Usage: bsmtp-batch ")


def test_help_and_version_are_no_failures():
    assert run("--help").returncode == 0
    assert run("--version").stdout.startswith("bsmtp-batch ")


@pytest.mark.parametrize(("kind", "code"), [(Later, 75), (Bad, 65), (Usage, 64), (Setting, 78)])
def test_a_problem_says_what_happened_what_is_safe_and_what_to_do(kind, code, monkeypatch, capsys):
    def raise_it(_names: object) -> object:
        raise kind("the disk is full", safe="Mail stays in new/", next="make room")

    monkeypatch.setattr(app, "build", raise_it)

    assert app.run(["seal"]) == code
    assert capsys.readouterr().err == "bsmtp-batch: the disk is full. Mail stays in new/. Next: make room\n"


def test_a_bug_is_70_with_its_traceback(monkeypatch, capsys):
    def raise_it(_names: object) -> object:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(app, "build", raise_it)

    assert app.run(["seal"]) == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in said
    assert "Mail in the spool stays there" in said


def test_every_command_of_the_table_can_be_built_alone():
    for name in app.COMMANDS:
        assert app.build([name]).registered_commands or app.build([name]).registered_groups


def test_a_python_that_the_spools_owner_may_not_read_is_told_and_not_called_a_bug(monkeypatch, capsys):
    def fail(_arguments):
        raise ModuleNotFoundError("No module named 'ctypes'")

    monkeypatch.setattr(app, "build", fail)
    assert app.run(["seal"]) == 75
    told = capsys.readouterr().err
    assert "cannot be loaded as the user " in told
    assert "namei -l /" in told
    assert "bug" not in told
