"""What the crash tests share, and the table of their points at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import strace
from support.crash_cases import Bench
from support.matrix import Tally
from support.two_nodes import Nodes
from support.warm import Warm


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The process that starts the commands; one per test worker."""
    strace.binary()
    started = Warm(tmp_path_factory.mktemp("warm"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def nodes(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """Two nodes in a directory of their own; each test begins by giving them a state."""
    return Nodes(tmp_path_factory.mktemp("nodes") / "w", warm)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where states are saved, to start from again."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="session")
def bench(nodes: Nodes, saved: Path) -> Bench:
    """What runs the cases."""
    return Bench(nodes, saved)


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, str], Tally]:
    """Makes tallies; whatever they count goes into the table at the end of the run."""

    def make(stage: str, kind: str) -> Tally:
        made = Tally(stage, kind)
        record_property("crash", made.counts)
        return made

    return make


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many points there were, how many were hit, and what came of them."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    for report in (r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])):
        for tally in (value for name, value in report.user_properties if name == "crash"):
            at = (tally["stage"], tally["kind"])
            rows.setdefault(at, Counter()).update({n: tally[n] for n in ("points", "hits", "wrong")})
            outcomes.setdefault(at, Counter()).update(tally["outcomes"])
    if not rows:
        return
    terminalreporter.section("crash matrix")
    total: Counter[str] = Counter()
    for at, numbers in sorted(rows.items()):
        total.update(numbers)
        said = ", ".join(f"{n} {what}" for what, n in outcomes[at].most_common())
        terminalreporter.line(f"{at[0]:<34} {at[1]:<8} {numbers['hits']:>5}/{numbers['points']:<5} hit: {said}")
    terminalreporter.line(
        f"{total['points']} points, {total['hits']} faults injected, {total['wrong']} wrong "
        "(lost, torn, doubled outside the named window, or a wrong exit status)"
    )
