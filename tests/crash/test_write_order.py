"""The order in which every stage makes things durable, for the power cuts that a kill cannot imitate.

The second test asks the same of a run that finds what a killed one left: a name it sees need not be on the medium yet.
"""

from __future__ import annotations

import pytest
from support import matrix, order, strace
from support.crash_cases import CASES, KILLED, Bench

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_promised_or_removed_before_what_it_stands_on_is_durable(bench: Bench, name: str) -> None:
    calls = bench.clean(CASES[name])
    synced = [c for c in calls if c.name == "fsync" and str(bench.nodes.home) in c.text]
    assert synced or "after seal" in name, "the clean run makes nothing durable"
    assert list(order.violations(calls, str(bench.nodes.home))) == []


@pytest.mark.parametrize("name", CASES)
def test_what_a_killed_run_left_is_not_taken_for_durable(bench: Bench, name: str) -> None:
    case, home = CASES[name], str(bench.nodes.home)
    calls = bench.clean(case)
    naming = [c for c in calls if c.name.startswith(("rename", "link")) and not c.failed and home in c.text]
    assert naming or "after seal" in name, "the clean run renames nothing"
    for named in naming:
        before = calls[: calls.index(named) + 1]
        following = next(p for p in matrix.kill_points(calls[len(before) :], bench.nodes.home))
        bench.nodes.become(bench.start(case))
        assert bench.traced(case, strace.kill_at(following.name, following.ordinal)).code == KILLED
        once = bench.nodes.save(bench.saved / "once")
        both = [*before, *bench.clean(case, once)]
        told_yes = case.handed is not None
        hasty = list(order.violations(both, home, success_promises=told_yes, moves_are_safe=True))
        assert hasty == [], f"killed after {named.name} {named.text}"
