"""What the benchmark says and keeps: lines for people, JSON in docs/bench, from which the table and charts are made."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench import ROOT
from bench.table import Judged, Measured

HOME = ROOT / "docs" / "bench"
RESULTS, CHARTS = HOME / "results.json", HOME / "charts.json"


def lines(measured: Measured) -> list[str]:
    """A row for people: the median of each figure of each program, then each goal."""
    row = measured.row
    said = [f"{row.key}: {row.title} ({row.what})"]
    for name, samples in measured.samples.items():
        figures = ", ".join(f"{measured.median(name, one):.4g} {one}" for one in samples[0])
        said.append(f"   {name:<26} {figures}")
    said += [f"   {name or 'all':<26} skipped: {why}" for name, why in measured.missing.items()]
    for judged in measured.judge():
        if judged.value is None:
            said.append(f"   - skipped: {judged.goal.text}")
        else:
            verdict = "PASS" if judged.good else "SHORT"
            said.append(f"   {verdict:<6} {judged.value:.2f}  {judged.goal.ours}: {judged.goal.text}")
    return said


def as_json(run: list[Measured]) -> dict[str, Any]:
    """One run as it is kept."""
    return {
        one.row.key: {
            "title": one.row.title,
            "what": one.row.what,
            "medians": {
                name: {figure: round(one.median(name, figure), 4) for figure in samples[0]}
                for name, samples in one.samples.items()
            },
            "rounds": max((len(samples) for samples in one.samples.values()), default=0),
            "skipped": one.missing,
            "goals": [_goal(judged) for judged in one.judge()],
        }
        for one in run
    }


def _goal(judged: Judged) -> dict[str, Any]:
    goal = judged.goal
    return {
        "program": goal.ours,
        "measure": goal.measure,
        "hold to": goal.text,
        "value": None if judged.value is None else round(judged.value, 2),
        "good": judged.good,
        "skipped": judged.why,
    }


def save(machine: dict[str, Any], runs: list[list[Measured]]) -> None:
    """Keep all runs so far."""
    HOME.mkdir(exist_ok=True)
    kept = {"machine": machine, "runs": [as_json(run) for run in runs]}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_charts(series: dict[str, Any]) -> None:
    """Keep what the charts show."""
    HOME.mkdir(exist_ok=True)
    CHARTS.write_text(json.dumps(series, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def publish() -> None:
    """Make the README's table and the charts of what is kept."""
    subprocess.run([sys.executable, str(ROOT / "docs" / "make_bench.py")], check=True)
