"""Every call of a hand-in, failing: the answer is 0 with the message whole, or "later"; an fsync is made once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import strace
from support.handin import FROM, HandIn, read_fragment

pytestmark = pytest.mark.crash
MESSAGE = b"Subject: x\n\n.dot\n" + b"x" * 70 + b"\n"
ERRORS = {
    "openat": ["ENOSPC", "EACCES", "EMFILE"],
    "write": ["ENOSPC", "EDQUOT"],
    "rename": ["ENOSPC", "EACCES"],
    "flock": ["ENOLCK"],
    "mmap": ["ENOMEM"],
}
CALLS = {
    *("openat", "read", "write", "fsync", "close", "rename", "flock", "statfs", "unlink", "newfstatat", "fstat"),
    *("getrandom", "getdents64", "mmap", "rt_sigaction", "alarm"),
}


@dataclass(frozen=True)
class Point:
    """One call of a hand-in, and the error it is answered with."""

    name: str
    ordinal: int
    error: str


def points(hand_in: HandIn, log: Path) -> list[Point]:
    """Every call from the moment the stub runs, with the errors that such a call meets in life.

    What fails before is Python's, and ends as Python ends.
    """
    done = strace.run(
        [os.fsdecode(a) for a in hand_in.argv("--queue-id", "Q", *FROM)], log, stdin=MESSAGE, environment={}
    )
    assert done.returncode == 0
    calls = strace.parse(log)
    start = max(n for n, call in enumerate(calls) if hand_in.program[-1] in call.text)
    start = next(n for n in range(start, len(calls)) if "merged" in calls[n].text and calls[n].name != "read")
    return [
        Point(call.name, call.ordinal, error)
        for call in calls[start:]
        if call.name in CALLS
        for error in ["EIO", *ERRORS.get(call.name, [])]
    ]


def check(hand_in: HandIn, point: Point, log: Path) -> None:
    """Fail the call at ``point``; then, when the MTA was told to keep the mail, let it try again."""
    argv = [os.fsdecode(a) for a in hand_in.argv("--queue-id", "Q", *FROM)]
    inject = strace.fail_at(point.name, point.ordinal, point.error)
    done = strace.run(argv, log, inject=inject, stdin=MESSAGE, environment={})
    assert done.returncode in (0, 75) or done.returncode < 0, (point, done)
    assert done.returncode != 75 or done.stdout.startswith(b"4.3.0 ") or point.name == "write", (point, done)
    assert log.read_text().count("fsync(") <= 2, point  # the file and the directory; a failed one is not tried again
    if done.returncode:
        assert hand_in.run("--queue-id", "Q", *FROM, message=MESSAGE).returncode == 0
    (fragment,) = hand_in.new()
    stored = read_fragment(hand_in.home / "new" / fragment)
    assert stored.content == MESSAGE.replace(b"\n", b"\r\n"), point
    os.unlink(hand_in.home / "new" / fragment)
    if point.name != "unlink":
        assert os.listdir(hand_in.home / "tmp") == [], point


@pytest.mark.timeout(300)
def test_no_call_that_fails_makes_a_bounce_or_half_a_message(hand_in: HandIn, tmp_path: Path) -> None:
    found = points(hand_in, tmp_path / "log")
    assert {"fsync", "rename", "flock", "openat", "write", "read", "statfs"} <= {point.name for point in found}
    os.unlink(hand_in.home / "new" / hand_in.new()[0])
    for point in found:
        check(hand_in, point, tmp_path / "log")
