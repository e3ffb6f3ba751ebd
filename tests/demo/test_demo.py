"""The demonstration as a stranger runs it: a process, a pipe, a folder, and the commands it tells to try."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from bsmtp_batch.demo.messages import HUB, samples
from bsmtp_batch.demo.nodes import Node
from bsmtp_batch.demo.show import Screen
from bsmtp_batch.demo.story import STEPS, Story
from bsmtp_batch.errors import Later

PROGRAM = [sys.executable, "-m", "bsmtp_batch", "demo"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("BSMTP_")} | {"FORCE_COLOR": "1"}


def run(*arguments, **more):
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, env=ENVIRONMENT, check=False, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("a place") / 'it\'s "here"'


@pytest.fixture(scope="module")
def shown(folder):
    # A spool in the environment must not draw the demonstration into somebody's real mail.
    astray = ENVIRONMENT | {"BSMTP_BATCH_SPOOL": str(folder.parent / "astray")}
    done = subprocess.run([*PROGRAM, "--dir", str(folder)], capture_output=True, env=astray, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not (folder.parent / "astray").exists()
    return done.stdout.decode()


def test_every_body_is_proved_identical(shown):
    assert re.search(r"\b56 of 56 bodies byte-identical \(sha256\), nothing came twice, in \d+\.\d seconds", shown)
    assert "WRONG" not in shown


def test_one_transfer_is_killed_half_way_and_half_a_copy_is_not_taken(shown):
    gone, whole = re.search(r"killed \(SIGKILL\) after ([\d,]+) of ([\d,]+) octets", shown).groups()

    assert 0.4 < int(gone.replace(",", "")) / int(whole.replace(",", "")) < 0.7
    assert "half a copy is no batch, nothing taken (exit code 75)" in shown
    assert "the same command again: 2 batches" in shown


def test_it_shows_what_the_issue_asks_for(shown):
    for title in (
        "dots at line starts",
        "a lone dot",
        "8-bit",
        "SMTPUTF8 address",
        "null sender",
        "40 recipients, one copy",
        "3 MB of data",
        "unknown user",
        "a line of 5,000 characters",
    ):
        assert title in shown
    assert "  | MAIL FROM:<anna@hub.example>" in shown
    assert "550 5.1.1 no such user here" in shown
    assert "1 deferred (451), 1 bounced (550)" in shown


def test_a_pipe_gets_plain_text_that_fits_eighty_columns(shown):
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", shown)
    story, _, commands = shown.partition("The folder is kept.")
    assert [line for line in story.splitlines() if len(line) > 80 and not line.startswith(" folder")] == []
    assert commands.count("\n  # ") == 3


def test_the_three_commands_work_as_they_are_shown(shown):
    commands = [line.strip() for line in shown.splitlines() if line.startswith(f"  {sys.executable} -m bsmtp_batch ")]
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert all(line.startswith("warning: ") and "998" in line for line in done.stderr.splitlines())

    assert "skipped" in done.stdout
    assert "delivered" not in done.stdout


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")

    done = run("--dir", str(tmp_path))

    assert done.returncode == 64
    assert b"is not empty" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_programs_get_json_and_the_verdict(tmp_path):
    done = run("--json", "--dir", str(tmp_path / "new"))

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert {row["good"] for row in rows} == {True}
    assert rows[-1]["copies"] == rows[-1]["identical"] == sum(row["copies"] for row in rows[:-1]) == 56


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    done = run("--dir", str(tmp_path / ("long" * 80)))

    assert done.returncode == 64
    assert b"cannot be used: File name too long. Nothing was changed" in done.stderr


def test_a_stage_that_fails_is_told_with_its_reason(tmp_path):
    (tmp_path / "hub.toml").write_text("[nod]\n")
    node = Node(HUB, "hub", folder=str(tmp_path), samples=samples())

    with node.server, pytest.raises(Later, match=r"(?s)`seal` at the hub ended with 78: .*did you mean node"):
        node.run("seal")


def test_a_hand_in_that_is_not_taken_is_told_with_its_reason(tmp_path):
    story = Story(str(tmp_path), Screen(STEPS, quiet=True))

    with pytest.raises(Later, match=r"'dots at line starts' at the hub ended with exit code 75: 4\.3\.0 .*route"):
        story.accept(story.hub)  # no route was made
    for node in (story.hub, story.ship, story.station):
        with node.server:
            pass
