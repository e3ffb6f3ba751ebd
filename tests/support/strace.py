"""Runs a program under strace: lists its system calls, kills it at one of them, or makes one of them fail.

``inject=NAME:when=K`` counts the calls of one name in one process from the moment strace watches it. So the same
program started twice from the same state reaches the same K-th call, and (name, K) is the address of a point.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support import debian

_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$")
_RESULT = re.compile(r"\)\s+= (-?\w+)(.*)$")


@dataclass(frozen=True)
class Call:
    """One system call of a log: ``ordinal`` says it is the how many-th of its name in its process (from 1)."""

    pid: int
    name: str
    ordinal: int
    text: str
    result: str
    injected: bool

    @property
    def failed(self) -> bool:
        """The kernel, or an injected error, said no."""
        return self.result == "-1"


@cache
def binary() -> str:
    """The path of an strace that may trace here; ends the calling test where there is none."""
    path = debian.tool("strace")
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log")
        probe = [path, "-f", "-o", str(log), "-e", "trace=exit_group", "-e", "inject=exit_group:signal=KILL"]
        done = subprocess.run([*probe, sys.executable, "-I", "-S", "-c", ""], capture_output=True, text=True)
        if done.returncode != -9 or "killed by SIGKILL" not in log.read_text():
            debian.need(f"strace may not trace a process here: {done.stderr.strip() or done.returncode}")
    return path


def options(log: Path, inject: str | None = None, names: str = "all") -> list[str]:
    """The command line of strace up to the program: paths instead of bare descriptors, every process followed."""
    what = [f"trace={names}"] + ([f"inject={inject}"] if inject else [])
    return [binary(), "-f", "-y", "-s", "64", "-o", str(log), *(part for w in what for part in ("-e", w))]


def kill_at(name: str, ordinal: int) -> str:
    """The injection that kills on entry of a call: the call itself does not happen."""
    return f"{name}:signal=KILL:when={ordinal}"


def fail_at(name: str, ordinal: int, error: str, *, onwards: bool = False) -> str:
    """The injection that answers a call with ``error``, without making it: that one call, or all from there on."""
    return f"{name}:error={error}:when={ordinal}{'+' if onwards else ''}"


def parse(log: Path) -> list[Call]:
    """The calls of a log in the order they were entered."""
    calls: list[Call] = []
    counts: dict[tuple[int, str], int] = {}
    open_at: dict[int, int] = {}
    for line in log.read_text(errors="replace").splitlines():
        if resumed := _RESUMED.match(line):
            pid = int(resumed[1])
            index = open_at.pop(pid, None)
            if index is not None:
                before = calls[index]
                calls[index] = _call(pid, before.name, before.ordinal, before.text + resumed[3])
        elif entered := _LINE.match(line):
            pid, name, text = int(entered[1]), entered[2], entered[3]
            ordinal = counts[pid, name] = counts.get((pid, name), 0) + 1
            if text.endswith("<unfinished ...>"):
                text = text.removesuffix("<unfinished ...>").rstrip()
                open_at[pid] = len(calls)
            calls.append(_call(pid, name, ordinal, text))
    return calls


def _call(pid: int, name: str, ordinal: int, text: str) -> Call:
    result = _RESULT.search(text)
    return Call(pid, name, ordinal, text, result[1] if result else "?", "(INJECTED)" in text)


def run(
    argv: list[str],
    log: Path,
    *,
    inject: str | None = None,
    names: str = "all",
    stdin: bytes = b"",
    environment: dict[str, str] | None = None,
    prefix: list[str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``argv`` from its very start under strace; a death by signal is a negative return code, as without strace.

    ``prefix`` is a program that starts ``argv`` in its place (``prlimit``), inside strace so that its limits do not
    reach the log. (``--seccomp-bpf`` would be faster, but strace 6.1 injects no signals with it.)
    """
    return subprocess.run(
        [*options(log, inject, names), *(prefix or []), *argv],
        input=stdin, capture_output=True, timeout=60, check=False, env=environment or dict(os.environ),
    )  # fmt: skip


def was_killed(log: Path) -> bool:
    """The log ends with the death the injection asked for."""
    return "+++ killed by SIGKILL +++" in log.read_text(errors="replace")[-4000:]
