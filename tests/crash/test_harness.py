"""The matrix itself: it hits where it says, and it finds the fault in a program that has one."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from support import matrix, strace
from support.matrix import Tally
from support.warm import Step, Warm

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

TORN = """
    def run(argv):
        fd = os.open(argv[0], os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"one ")
        os.write(fd, b"two")
        os.close(fd)
        return 0
"""
WHOLE = """
    def run(argv):
        fd = os.open(argv[0] + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, b"one ")
        os.write(fd, b"two")
        os.fsync(fd)
        os.close(fd)
        os.rename(argv[0] + ".tmp", argv[0])
        return 0
"""
STUBBORN = """
    def run(argv):
        fd = os.open(argv[0], os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.fsync(fd)
        except OSError:
            os.fsync(fd)
        return 0
"""


def toy(tmp_path: Path, code: str) -> Warm:
    """A command line whose only command is ``code``."""
    for name, text in {"__init__.py": "", "cli/__init__.py": "", "deliver/__init__.py": "",
                       "deliver/main.py": "def main(argv): raise SystemExit(1)\n",
                       "cli/app.py": "import os\n" + textwrap.dedent(code)}.items():  # fmt: skip
        path = tmp_path / "package" / "bsmtp_batch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "scratch").mkdir()
    return Warm(tmp_path / "scratch", tmp_path / "package")


def kill_everywhere(tmp_path: Path, warm: Warm) -> tuple[Tally, set[bytes]]:
    """Kill the toy at every point; the tally, and what stood in its file afterwards."""
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    file = home / "file"
    step = Step("cli", [str(file)])
    warm.traced(step, strace.options(log))
    tally, seen = Tally("toy", "kill"), set()
    for point in matrix.kill_points(matrix.after_mark(strace.parse(log)), home):
        for path in home.iterdir():
            path.unlink()
        ended = warm.traced(step, strace.options(log, strace.kill_at(point.name, point.ordinal)))
        assert (ended.code, strace.was_killed(log)) == (-9, True), point
        tally.hit("killed")
        seen.add(file.read_bytes() if file.exists() else b"nothing")
    return tally, seen


def test_a_program_that_writes_in_place_is_caught_with_half_a_file(tmp_path: Path) -> None:
    warm = toy(tmp_path, TORN)
    tally, seen = kill_everywhere(tmp_path, warm)
    warm.close()
    assert seen == {b"nothing", b"", b"one ", b"one two"}
    assert tally.counts["hits"] == 4  # openat, write, write, exit_group


def test_a_program_that_renames_is_never_seen_with_half_a_file(tmp_path: Path) -> None:
    warm = toy(tmp_path, WHOLE)
    tally, seen = kill_everywhere(tmp_path, warm)
    warm.close()
    assert seen == {b"nothing", b"one two"}
    assert tally.counts["hits"] == 6


def test_an_fsync_that_is_tried_again_is_noticed(tmp_path: Path) -> None:
    warm, log = toy(tmp_path, STUBBORN), tmp_path / "log"
    step = Step("cli", [str(tmp_path / "file")])
    ended = warm.traced(step, strace.options(log, strace.fail_at("fsync", 1, "EIO")))
    warm.close()
    assert ended.code == 0
    assert matrix.synced_again(strace.parse(log)) == [str(tmp_path / "file")]


def test_the_nth_call_is_the_nth_also_with_a_process_started_from_scratch(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-I", "-S", "-c", "import posix\nfor n in range(5): posix.mkdir(f'/{n}/no')"]
    done = strace.run(command, log, inject=strace.fail_at("mkdir", 1, "EEXIST"), names="mkdir,mkdirat")
    assert b"FileExistsError" in done.stderr
    assert [c.injected for c in strace.parse(log) if c.name == "mkdir"] == [True]


def test_an_empty_matrix_is_no_success() -> None:
    with pytest.raises(AssertionError, match="no fault was injected"):
        Tally("toy", "kill").verdict()


def test_a_matrix_whose_points_were_not_reached_is_no_success() -> None:
    tally = Tally("toy", "kill")
    tally.hit("killed")
    tally.missed(matrix.Point("write", 1, ""))
    with pytest.raises(AssertionError):
        tally.verdict()
