"""The same message twice, with the second process held between its look-up and its rename while the first is sealed.

No random storm hits this. Without the lock between hand-in and seal the second copy would be renamed in when the first
is in a batch and remembered. The next seal would drop it, unless the rename falls between that seal's recovery and its
choice of members; so the test asks for the lock itself and not for the luck.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import strace
from support.crash_cases import CASES, ONE, Bench
from support.two_nodes import stub_command
from support.warm import Step

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


def until(true: Callable[[], object], what: str) -> None:
    """Wait for a state of the kernel that no event tells of."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.002)


def waits_for_a_lock(process: subprocess.Popen[bytes]) -> bool:
    """Whether the kernel lists ``process`` as blocked behind a lock."""
    return re.search(rf"-> FLOCK .* {process.pid} ", Path("/proc/locks").read_text()) is not None


def test_a_repetition_that_was_held_up_does_not_travel_in_a_second_batch(bench: Bench) -> None:
    case, nodes = CASES["deliver, repeated"], bench.nodes
    calls = bench.clean(case)
    rename = next(i for i, c in enumerate(calls) if c.name.startswith("rename") and "/new/" in c.text)
    assert any("/sealed/" in c.text and c.failed for c in calls[:rename]), "renamed without a look-up"
    last = calls[rename - 1]
    nodes.become(bench.start(case))
    step = nodes.hand_in(ONE)
    inject = f"{last.name}:signal=STOP:when={last.ordinal}"
    bench.log.unlink(missing_ok=True)
    with open(step.stdin, "rb") as message:
        held = subprocess.Popen(
            [*strace.options(bench.log, inject, last.name), *stub_command(bench.package), *step.argv], stdin=message
        )
    until(lambda: bench.log.exists() and "stopped by SIGSTOP" in bench.log.read_text(), "the hand-in held up")
    sealing = start(bench, nodes.seal())
    until(lambda: sealing.poll() is not None or waits_for_a_lock(sealing), "the sealer at the lock")
    assert sealing.poll() is None, "sealed to the end while a hand-in was between its look-up and its rename"
    os.kill(int(bench.log.read_text().split()[0]), signal.SIGCONT)
    assert held.wait(30) == 0
    assert sealing.wait(30) == 0
    for timer in [*nodes.round(), *nodes.round()]:
        nodes.must(timer)
    nodes.assert_arrived([ONE])


def start(bench: Bench, step: Step) -> subprocess.Popen[bytes]:
    """A command in a process of its own, not waited for."""
    environment = os.environ | {"PYTHONPATH": str(bench.package or "")}
    return subprocess.Popen([sys.executable, "-m", "bsmtp_batch", *step.argv], env=environment, cwd=bench.saved)
