"""A medium that says no: EIO once at each call, and ENOSPC, which stays once it has begun.

Told an error, a stage may say "later" (75) or get along without what failed (0); whatever it says, nothing is lost. An
fsync that failed is never tried again: the second one would succeed without having written anything.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import matrix
from support.crash_cases import CASES, Bench
from support.matrix import Tally

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

POINTS = 24
NAMES = [name for name in CASES if not name.startswith("LMTP, repeated")]
"""A repetition differs in what the drain finds, and that is in the cases of seal as well."""
FILLING = ("write", "pwrite64", "openat", "fsync", "fdatasync", "mkdir", "mkdirat", "rename", "link", "fallocate")


@pytest.mark.parametrize("name", NAMES)
def test_an_input_output_error_loses_nothing(bench: Bench, tally: Callable[[str, str], Tally], name: str) -> None:
    case = CASES[name]
    points = matrix.sample(matrix.fail_points(bench.clean(case), bench.nodes.home), POINTS)
    counted = tally(name, "EIO")
    bench.fail(case, points, counted, "EIO", onwards=False)
    counted.verdict()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_loses_nothing(bench: Bench, tally: Callable[[str, str], Tally], name: str) -> None:
    case = CASES[name]
    calls = matrix.fail_points(bench.clean(case), bench.nodes.home)
    points = matrix.sample([p for p in calls if p.name in FILLING], POINTS // 3)
    counted = tally(name, "ENOSPC")
    # Once only where it would hit the output and the imports of the command as well.
    for onwards in (True, False):
        chosen = [p for p in points if (p.name not in ("write", "openat")) is onwards]
        bench.fail(case, chosen, counted, "ENOSPC", onwards=onwards)
    counted.verdict()
