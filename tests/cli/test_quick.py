"""``import`` without the library for command lines: the same arguments mean the same, and the rest is left to it."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from support.importing import batch, letters
from support.sink import Sink

from bsmtp_batch.cli import import_, quick
from bsmtp_batch.cli.importing import Wishes


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for variable in quick.ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)


def test_every_option_of_the_command_is_understood():
    of_command = set(inspect.signature(import_.command).parameters)
    assert of_command == set(Wishes.__dataclass_fields__)
    assert of_command == {"files", "local_domain", "connections", *quick.WORDS.values(), *quick.FLAGS.values()}


@pytest.mark.parametrize(
    ("arguments", "wishes"),
    [
        ([], Wishes()),
        (["a", "-", "b"], Wishes(files=("a", "-", "b"))),
        (["--to", "smtp://h:25", "x", "--spool=/s"], Wishes(files=("x",), to="smtp://h:25", spool="/s")),
        (["--local-domain", "a.b", "--local-domain=c.d"], Wishes(local_domain=("a.b", "c.d"))),
        (["--json", "--yes", "--salvage", "--dry-run"], Wishes(json=True, yes=True, salvage=True, dry_run=True)),
        (["--connections", "8", "--force=all"], Wishes(connections=8, force="all")),
    ],
)
def test_arguments_mean_what_they_mean_to_the_library(arguments, wishes, monkeypatch):
    assert quick.understood(arguments) == wishes

    from bsmtp_batch.cli import app

    seen = []
    monkeypatch.setattr(import_, "carry_out", lambda found: seen.append(found) or 0)
    assert app.run(["import", *arguments]) == 0
    assert seen == [wishes]


def test_the_environment_stands_for_options_that_are_not_given(monkeypatch):
    monkeypatch.setenv("BSMTP_BATCH_SPOOL", "/from/there")
    monkeypatch.setenv("BSMTP_BATCH_CONFIG", "")
    assert quick.understood([]) == Wishes(spool="/from/there")
    assert quick.understood(["--spool", "/mine"]) == Wishes(spool="/mine")


UNUSUAL = (
    *(["--help"], ["--"], ["-x"], ["--to"], ["--to", "--json"], ["--connections", "0"], ["--connections", "101"]),
    *(["--connections", "many"], ["--json=yes"], ["--nothing", "x"], ["--tö", "x"]),
)


@pytest.mark.parametrize("arguments", UNUSUAL)
def test_what_is_unusual_is_left_to_the_library(arguments):
    assert quick.understood(arguments) is None


def test_an_import_does_not_load_what_takes_the_memory(tmp_path):
    """It keeps within 32 MiB whatever is imported; the library for command lines and settings takes half of that."""
    (tmp_path / "x.bsmtp").write_bytes(batch(letters(30)))
    with Sink() as sink:
        arguments = ["import", str(tmp_path / "x.bsmtp"), "--spool", str(tmp_path / "spool"), "--to", sink.url]
        code = (
            f"import sys; sys.argv[1:] = {arguments!r}\n"
            "from bsmtp_batch.__main__ import main\n"
            "try: main()\n"
            "except SystemExit as end: print(end.code)\n"
            "print([name for name in ('typer', 'pydantic', 'ssl', 'email', 'subprocess') if name in sys.modules])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-2:] == ["0", "[]"]
    assert len(sink.taken) == 30
