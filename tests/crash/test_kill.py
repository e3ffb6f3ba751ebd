"""SIGKILL at the system calls of every stage: nothing lost, nothing torn, nothing twice.

The start is always the same state; the command is killed on entry of one call; then the MTA and the timers do what they
do anyway, in every order that may happen. In the end each message has to be in the site's Maildir once, byte for byte,
with the envelope it was handed in with. ``deliver`` is started by its stub and killed in a process of its own; the
other commands are killed in a child that has everything imported (:mod:`support.warm`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import matrix
from support.crash_cases import CASES, Bench
from support.matrix import Tally

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

CHUNKS = 3


@pytest.mark.parametrize("share", range(CHUNKS))
@pytest.mark.parametrize("name", CASES)
def test_killed_at_a_system_call(bench: Bench, tally: Callable[[str, str], Tally], name: str, share: int) -> None:
    case = CASES[name]
    points = matrix.kill_points(bench.own_part(case), bench.nodes.home)
    assert points, "the clean run shows nothing to hit"
    counted = tally(name, "kill")
    bench.kill(case, matrix.chunk(points, share, CHUNKS), counted)
    counted.verdict()
