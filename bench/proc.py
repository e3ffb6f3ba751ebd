"""Processes as the benchmark sees them: what a child took, what a running daemon has taken, what memory it had."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    """One run of a child: seconds by the clock and of the processor, user and system."""

    wall: float
    cpu: float


def run(
    argv: Sequence[str], *, stdin: Path | None = None, env: Mapping[str, str] | None = None, log: Path | None = None
) -> Ran:
    """Run ``argv`` to its end, which has to be 0. RuntimeError with the end of what it said otherwise."""
    out = log or Path(os.devnull)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, str(stdin or os.devnull), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    started = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, dict(os.environ if env is None else env), file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - started
    if status:
        said = out.read_text(errors="replace")[-2000:] if log else ""
        raise RuntimeError(f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}: {said}")
    return Ran(wall, usage.ru_utime + usage.ru_stime)


def processor(pid: int) -> float:
    """Seconds of processor that ``pid`` and its living descendants have taken, ended threads included."""
    total = 0.0
    for one in tree(pid):
        try:
            total += time.clock_gettime((~one << 3) | 2)  # the clock of a process, as clock_getcpuclockid(3) names it
        except OSError:
            continue  # it has ended meanwhile
    return total


def tree(pid: int) -> list[int]:
    """``pid`` and its living descendants."""
    found = [pid]
    for one in found:
        try:
            tasks = os.listdir(f"/proc/{one}/task")
        except OSError:
            continue  # it has ended meanwhile
        for task in tasks:
            try:
                found += [int(child) for child in Path(f"/proc/{one}/task/{task}/children").read_text().split()]
            except OSError:
                continue
    return found


def name_of(pid: int) -> str:
    """The name of the program that ``pid`` runs; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def peak_mib(pid: int) -> float:
    """The largest resident set that ``pid`` has had, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def wait_for(what: Callable[[], bool], said: str, seconds: float = 60, every: float = 0.005) -> None:
    """Wait until ``what`` is true. RuntimeError when that takes longer than ``seconds``."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise RuntimeError(f"{said}: not within {seconds:g} s")
        time.sleep(every)


class Daemon:
    """A server that runs while the ``with`` block lasts; ``ready`` says when it can be used."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        keep_input: bool = False,
    ) -> None:
        self._argv, self._log, self._ready = argv, log, ready
        self._env = {**os.environ, **(env or {})}
        self._input = subprocess.PIPE if keep_input else subprocess.DEVNULL

    def __enter__(self) -> Daemon:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, env=self._env, stdin=self._input, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_for(lambda: self._process.poll() is not None or self._ready(), f"{self._argv[0]} to be ready", 30)
            if self._process.poll() is not None:
                said = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(self._argv)} ended with {self._process.returncode}: {said}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu(self) -> float:
        """Seconds of processor so far."""
        return processor(self.pid)
