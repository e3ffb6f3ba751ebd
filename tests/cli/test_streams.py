"""Who listens decides nothing: mail is sealed with a full log, a closed output, a reader that has gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.fragments import fill, make_route

PROGRAM = [sys.executable, "-m", "bsmtp_batch"]


@pytest.fixture
def routes(tmp_path):
    made = [make_route(tmp_path / "spool", name) for name in ("a.example", "b.example", "c.example")]
    for route in made:
        fill(route, 1)
    return made


def shell(tail, *words, spool):
    """Run a command with ``tail`` behind it, as a line of cron has it."""
    line = " ".join([*PROGRAM, *words, "--spool", str(spool), tail])
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)


def ready(routes):
    return sum(name.endswith(".bsmtp") for route in routes for name in os.listdir(route.at("ready")))


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (">/dev/full", 75),
        (">/dev/full 2>/dev/full", 75),
        (">&-", 0),
        (">&- 2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("| true; exit ${PIPESTATUS[0]}", 75),
    ],
)
def test_everything_is_sealed_whoever_listens(routes, tail, code):
    done = shell(tail, "seal", spool=routes[0].spool)

    assert ready(routes) == 3
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    for route in routes:
        assert all(
            b"QUIT" in Path(route.at("ready", n)).read_bytes()[-8:]
            for n in os.listdir(route.at("ready"))
            if n[-1] == "p"
        )


@pytest.mark.parametrize("tail", [">/dev/full", "| true; exit ${PIPESTATUS[0]}"])
@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["route", "list"]])
def test_a_report_that_nobody_got_is_no_success(routes, tail, words):
    done = shell(tail, *words, spool=routes[0].spool)

    assert done.returncode == 75
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["seal", "--nosuch"], ["push", "dir:/nosuch"]])
def test_closed_streams_are_no_bug(routes, words):
    assert shell(">&- 2>&-", *words, spool=routes[0].spool).returncode in {0, 64, 75}


def test_a_hand_in_that_cannot_start_and_has_no_output_is_for_later(tmp_path):
    code = (
        "import sys; sys.modules['bsmtp_batch.deliver.main'] = None; sys.argv[1:] = ['deliver'];"
        "import runpy; runpy.run_module('bsmtp_batch', run_name='__main__')"
    )
    for tail in (">&-", ">/dev/full", "| true; exit ${PIPESTATUS[0]}"):
        done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" {tail}'], capture_output=True, timeout=60)
        assert done.returncode == 75, done.stderr


def test_a_receive_that_was_started_without_input_ends_like_one_that_heard_nothing(routes):
    done = shell("<&-", "receive", "a.example", spool=routes[0].spool)

    assert (done.returncode, done.stdout, done.stderr) == (0, "READY 1\n", "")
