"""Points of a crash matrix: at which system calls a command is killed or made to fail, and what came of it.

A SIGKILL leaves the page cache alone and takes the locks along, so only what changes a file or the far end of a
connection can make two kills differ: killed at any call between two such calls, a process leaves the very same state
as killed on entry of the second. The small matrix visits those calls, the end of the process, and every flock and
fsync; of SQLite's own writes, which are SQLite's own crash safety, the first and the last in each row of them.
``BSMTP_BATCH_CRASH=full`` visits every call there is, to show rather than to argue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from support.strace import Call
from support.warm import MARK

_CHANGING = """write pwrite64 writev pwritev pwritev2 sendfile copy_file_range splice fsync fdatasync sync_file_range
    syncfs rename renameat renameat2 unlink unlinkat rmdir link linkat symlink symlinkat mkdir mkdirat ftruncate
    truncate fallocate flock fchmod chmod fchmodat utimensat exit_group sendto sendmsg connect shutdown fork vfork clone
    clone3 execve kill"""
CHANGING = frozenset(_CHANGING.split())
"""Calls that change what a kill leaves behind, or look as if they did. ``openat`` is one when it makes a file."""
LEDGER = "/ledger.db"

_FAILING = """openat read pread64 write pwrite64 writev fsync fdatasync syncfs utimensat close rename renameat
    renameat2 unlink unlinkat mkdir mkdirat link linkat flock ftruncate fallocate getdents64 newfstatat stat lstat fstat
    statfs fstatfs"""
FAILING = frozenset(_FAILING.split())
"""Calls that a broken or full medium answers with an error."""


def full() -> bool:
    """The long matrix was asked for."""
    return os.environ.get("BSMTP_BATCH_CRASH") == "full"


@dataclass(frozen=True)
class Point:
    """One place to hit: the ``ordinal``-th call of ``name``; ``text`` is how that call looked in the clean run."""

    name: str
    ordinal: int
    text: str

    def __str__(self) -> str:
        return f"{self.name} #{self.ordinal} ({self.text[:160]})"


def after_mark(calls: list[Call], first: Callable[[Call], bool] | None = None) -> list[Call]:
    """The calls of the command's own process from its first real step on (default: after :data:`support.warm.MARK`).

    Those of its threads as well: to who reads the log they are calls of one process.
    """
    is_first = first or (lambda call: MARK in call.text)
    start = next((i for i, call in enumerate(calls) if is_first(call)), None)
    assert start is not None, "the clean run shows no beginning of the work"
    own = calls[start].pid
    threads = {
        int(c.result) for c in calls if c.name in {"clone", "clone3"} and "CLONE_THREAD" in c.text and not c.failed
    }
    return [replace(c, pid=own) for c in calls[start + (first is None) :] if c.pid == own or c.pid in threads]


def kill_points(calls: Iterable[Call], home: Path) -> list[Point]:
    """Where to kill, of the calls of one process: what changes something under ``home`` or at a far end, or all."""
    if full():
        return _points(calls)
    chosen = [c for c in calls if _changes(c, str(home))]
    ledger = [LEDGER in c.text for c in chosen]
    inside = [all(ledger[max(i - 1, 0) : i + 2]) for i in range(len(chosen))]
    return _points(c for c, thin in zip(chosen, inside, strict=True) if not thin)


def fail_points(calls: Iterable[Call], home: Path) -> list[Point]:
    """Where to inject an error: calls on files under ``home``."""
    return _points(c for c in calls if c.name in FAILING and str(home) in c.text)


def _points(calls: Iterable[Call]) -> list[Point]:
    """Each place once: two threads count their calls apart, and the one that is there first is hit."""
    return list({(c.name, c.ordinal): Point(c.name, c.ordinal, c.text) for c in reversed(list(calls))}.values())[::-1]


def _changes(call: Call, home: str) -> bool:
    if call.name == "openat":
        return "O_CREAT" in call.text and home in call.text
    if call.name not in CHANGING:
        return False
    return call.name in {"exit_group", "flock", "execve", "connect"} or home in call.text or _far_end(call.text)


def _far_end(text: str) -> bool:
    head = text.partition(",")[0]
    return any(kind in head for kind in ("<socket:", "<TCP", "<UNIX", "<pipe:")) or head.startswith("1<")


T = TypeVar("T")


def sample(points: list[T], at_most: int) -> list[T]:
    """``points``, or that many of them at even distances, the first and the last among them."""
    if full() or len(points) <= at_most:
        return points
    step = (len(points) - 1) / (at_most - 1)
    return [points[round(i * step)] for i in range(at_most)]


def chunk(points: list[Point], index: int, of: int) -> list[Point]:
    """The share of one test: every ``of``-th point, so that each share has its part of the slow ones."""
    return points[index::of]


class Tally:
    """What came of the points of one test. ``kind`` is what was done at each, e.g. ``kill`` or ``EIO``.

    ``counts`` is kept up to date all the time: it is handed to pytest when the test begins, for the summary.
    """

    def __init__(self, stage: str, kind: str) -> None:
        self.counts: dict[str, Any] = {"stage": stage, "kind": kind, "points": 0, "hits": 0, "wrong": 0, "outcomes": {}}
        self.faults: list[str] = []

    def hit(self, outcome: str) -> None:
        """The point was reached and the fault happened there."""
        self.counts["hits"] += 1
        self._point(outcome)

    def missed(self, point: Point, *, by_chance: bool = False) -> None:
        """The run ended without coming to the point: fewer calls than in the clean run. ``by_chance``: its threads may
        have come in another order."""
        if by_chance:
            self.counts["outcomes"]["not reached"] = self.counts["outcomes"].get("not reached", 0) + 1
            return
        self._point("never reached")
        if not full():
            self.faults.append(f"{point}: never reached; the run was not the same as the clean run")

    def wrong(self, point: Point, what: object) -> None:
        """Something is not as promised."""
        self.counts["wrong"] += 1
        self.faults.append(f"{point}:\n    {what}")

    def _point(self, outcome: str) -> None:
        outcomes = self.counts["outcomes"]
        self.counts["points"] += 1
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def verdict(self) -> None:
        """Fail with everything that went wrong, and when the matrix was empty or its faults did not happen."""
        points, hits = self.counts["points"], self.counts["hits"]
        shown = "\n\n".join(self.faults[:5])
        assert not self.faults, f"{len(self.faults)} faults at {points} points, the first of them:\n{shown}"
        assert hits, "no fault was injected at all"
        assert hits * 10 >= points * 9, f"only {hits} of {points} points were hit"


def synced_again(calls: list[Call]) -> list[str]:
    """Files whose fsync failed and was tried again by the same process: what the second call says is worth nothing.

    ``calls`` are of one run with paths beside the descriptors. Directories are left out (a later rename there is a new
    reason to sync), and so is SQLite, which writes its log anew.
    """
    failed: set[str] = set()
    again = []
    for call in (c for c in calls if c.name in {"fsync", "fdatasync"}):
        path = call.text.partition("<")[2].partition(">")[0]
        if path in failed:
            again.append(path)
        if call.failed and not Path(path).is_dir() and "/ledger.db" not in path:
            failed.add(path)
    return again
