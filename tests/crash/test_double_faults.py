"""Killed, and killed again while the next run puts the first death right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import matrix, strace
from support.crash_cases import CASES, KILLED, Bench
from support.matrix import Point, Tally

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

FIRST, SECOND = 4, 5
NAMES = [name for name, case in CASES.items() if case.handed is None and "one" not in name] + ["deliver, another waits"]
"""All but those that begin with what a kill left; they are in the matrix of single kills, whole."""


@pytest.mark.parametrize("name", NAMES)
def test_killed_again_during_recovery(bench: Bench, tally: Callable[[str, str], Tally], name: str) -> None:
    case, counted = CASES[name], tally(name, "kill x2")
    nodes = bench.nodes
    firsts = matrix.kill_points(bench.clean(case), nodes.home)
    for first in firsts if matrix.full() else matrix.sample(firsts[1:], FIRST):
        nodes.become(bench.start(case))
        assert bench.traced(case, strace.kill_at(first.name, first.ordinal)).code == KILLED
        once = nodes.save(bench.saved / "once")
        points = matrix.sample(matrix.kill_points(bench.clean(case, once), nodes.home), SECOND)
        for second in points:
            nodes.become(once)
            point = Point(second.name, second.ordinal, f"{second.text}, after {first}")
            if bench.traced(case, strace.kill_at(second.name, second.ordinal)).code != KILLED:
                counted.missed(point)
                continue
            counted.hit(case.outcome(nodes))
            bench.judge(case, point, counted)
    counted.verdict()
