"""What the crash tests share, and the table of their points at the end of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
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

PACKAGE = Path(os.environ["BSMTP_BATCH_CRASH_PACKAGE"]) if "BSMTP_BATCH_CRASH_PACKAGE" in os.environ else None
"""The directory of a changed copy of the package: with it the matrix shows whether it would notice the change."""


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory in memory where there is one: kills do not need a disk, and thousands of copies are faster there.

    ``$BSMTP_BATCH_CRASH_DIR`` is another place.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    named = os.environ.get("BSMTP_BATCH_CRASH_DIR") or (str(memory) if roomy else None)
    with tempfile.TemporaryDirectory(prefix="bsmtp-crash-", dir=named) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def warm(place: Path) -> Iterator[Warm]:
    """The process that starts the commands; one per test worker."""
    strace.binary()
    (place / "scratch").mkdir()
    started = Warm(place / "scratch", PACKAGE)
    yield started
    started.close()


@pytest.fixture(scope="session")
def bench(warm: Warm, place: Path) -> Bench:
    """What runs the cases; one per test worker, so the states and clean runs it keeps serve many tests."""
    (place / "saved").mkdir()
    return Bench(Nodes(place / "nodes", warm), place / "saved", PACKAGE)


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
