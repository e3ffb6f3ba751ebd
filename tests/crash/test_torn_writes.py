"""Writes that end half way: the process dies, or the disk is full, with part of a record written.

``RLIMIT_FSIZE`` cuts the write that crosses it; the next one is where the process is killed, or where it gets an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support import matrix, strace
from support.crash_cases import CUT_CASES, KILLED, Bench, Case
from support.matrix import Point, Tally
from support.strace import Call

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

SPOKEN = 200_000
"""Commands other than ``deliver`` write more than mail: the ledger, and what they have to say. Cuts lie above that."""
CUTS = 7


def cuts(calls: list[Call], home: str) -> Iterator[tuple[int, Point]]:
    """Limits that cut a write under ``home`` at its start, in the middle, before its end; and the write after it."""
    written: dict[str, int] = {}
    ends = []
    for call in (c for c in calls if c.name == "write" and home in c.text):
        path = call.text.partition("<")[2].partition(">")[0]
        start = written.get(path, 0)
        written[path] = start + int(call.result)
        ends.append((start, written[path], call))
    limits = {limit for start, end, _ in ends for limit in (start + 1, (start + end) // 2, end - 1)}
    for limit in sorted(n for n in limits if n < max(end for _, end, _ in ends)):
        crossing = next(call for _, end, call in ends if end > limit)
        yield limit, Point("write", crossing.ordinal + 1, f"cut at {limit}: {crossing.text}")


def chosen(bench: Bench, case: Case) -> list[tuple[int, Point]]:
    """The cuts to try in ``case``."""
    found = list(cuts(bench.clean(case), str(bench.nodes.home)))
    if case.handed is None:
        found = [(limit, point) for limit, point in found if limit >= SPOKEN]
    assert found, "the clean run writes nothing that could be cut"
    return matrix.sample(found, CUTS)


@pytest.mark.parametrize("case", CUT_CASES, ids=lambda case: case.name)
def test_killed_with_half_a_record_written(bench: Bench, tally: Callable[[str, str], Tally], case: Case) -> None:
    counted = tally(case.name, "cut+kill")
    for limit, point in chosen(bench, case):
        bench.nodes.become(bench.start(case))
        ended = bench.traced(case, strace.kill_at(point.name, point.ordinal), fsize=limit)
        if ended.code != KILLED:
            counted.missed(point)
            continue
        counted.hit(case.outcome(bench.nodes))
        bench.judge(case, point, counted)
    counted.verdict()


@pytest.mark.parametrize("case", CUT_CASES, ids=lambda case: case.name)
def test_an_error_with_half_a_record_written(bench: Bench, tally: Callable[[str, str], Tally], case: Case) -> None:
    counted = tally(case.name, "cut")
    for limit, point in chosen(bench, case):
        bench.nodes.become(bench.start(case))
        ended = bench.traced(case, None, fsize=limit)
        counted.hit(f"exit {ended.code}")
        if ended.code != 75:
            counted.wrong(point, f"a file that cannot grow has to end with 75: {ended}")
        bench.judge(case, point, counted)
    counted.verdict()
