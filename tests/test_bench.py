"""The benchmark: a row that no longer runs is a promise nobody checks, and a table that was not measured lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.debian import need

ROOT = Path(__file__).parents[1]
sys.path.extend(str(path) for path in (ROOT, ROOT / "docs") if str(path) not in sys.path)

import make_bench  # noqa: E402

import bench.__main__ as program  # noqa: E402 - found through the lines above
from bench import charts, results  # noqa: E402
from bench.place import Place, place  # noqa: E402
from bench.table import Goal, Measured, Missing, Row, measure  # noqa: E402

pytestmark = pytest.mark.xdist_group("bench")  # one place, and one row at a time, as when it is in use


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with the working copy and next to no messages."""
    os.environ["BENCH_DIR"] = str(tmp_path_factory.mktemp("bench"))
    with place(scale=0.001, installed=False) as made:
        yield made
    del os.environ["BENCH_DIR"]


@pytest.mark.real
@pytest.mark.timeout(180)
@pytest.mark.parametrize("row", program.ROWS, ids=lambda row: row.key)
def test_every_row_still_runs_from_its_servers_to_its_goals(row: Row, where: Place) -> None:
    measured = measure(row, where, rounds=1)
    assert results.lines(measured)
    for why in measured.missing.values():
        need(why)
    assert all(judged.value is not None and judged.value > 0 for judged in measured.judge())
    json.dumps(results.as_json([measured]))


@pytest.mark.real
@pytest.mark.parametrize("chart", [charts.by_routes, charts.by_size, charts.by_delay])
def test_every_chart_can_still_be_measured_and_drawn(chart: Any, where: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROUTES", "SIZES", "DELAYS"):
        monkeypatch.setattr(charts, name, getattr(charts, name)[:2])
    try:
        lines = chart(where)
    except Missing as why:
        need(str(why))
    drawn = make_bench.drawing({"across": "x", "up": "y", "lines": lines})
    assert drawn.count('stroke-width="2"') == len(lines)


def test_a_program_that_cannot_be_had_skips_its_goals_with_the_reason_and_fails_none() -> None:
    goal = Goal("ours", "ms", 2.0, "peer", most=True)
    row = Row(
        "key", "title", "what", lambda _: _given({"ours": lambda: {"ms": 3.0}, "peer": Missing("no peer")}), (goal,)
    )
    (judged,) = measure(row, None, rounds=3).judge()  # type: ignore[arg-type]
    assert (judged.value, judged.why) == (None, "no peer")
    kept = {"machine": dict.fromkeys(("processors", "processor", "kernel", "file system", "python", "scale"), "1")}
    made = Measured(row, {"ours": [{"ms": 3.0}]}, {"peer": "no peer"})
    assert "not measured: no peer" in make_bench.block(kept | {"runs": [results.as_json([made])]})


@pytest.mark.parametrize(
    ("limit", "most", "good"), [(1.5, True, True), (1.4, True, False), (1.5, False, True), (1.6, False, False)]
)
def test_a_goal_is_the_median_of_the_ratios_of_each_round(limit: float, most: bool, good: bool) -> None:
    goal = Goal("ours", "ms", limit, "peer", most=most)
    row = Row("key", "title", "what", lambda _: _given({}), (goal,))
    ours = [{"ms": value} for value in (3.0, 300.0, 1.0)]
    peer = [{"ms": value} for value in (2.0, 30.0, 1.0)]
    (judged,) = Measured(row, {"ours": ours, "peer": peer}).judge()
    assert (judged.value, judged.good) == (1.5, good)


class _given:
    def __init__(self, variants: Any) -> None:
        self._variants = variants

    def __enter__(self) -> Any:
        return self._variants

    def __exit__(self, *_: object) -> None:
        pass


def test_the_table_in_the_readme_and_the_charts_are_what_was_kept() -> None:
    for path, text in make_bench.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run docs/refresh.py"


def test_every_row_is_in_the_table() -> None:
    kept = json.loads(make_bench.RESULTS.read_text())
    for run in kept["runs"]:
        assert list(run) == [row.key for row in program.ROWS]
        for row in program.ROWS:
            assert [goal["hold to"] for goal in run[row.key]["goals"]] == [goal.text for goal in row.goals]


def test_a_wrong_name_of_a_row_says_which_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode
    assert "pipe-cost" in done.stderr
