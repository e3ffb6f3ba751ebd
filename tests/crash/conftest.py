"""What the crash tests share. ``tests/conftest.py`` prints the table of their points at the end of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

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
