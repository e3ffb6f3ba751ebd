"""Write the benchmark's table into README.md and draw its charts, from what ``python -m bench --save`` has kept.

No figure is typed by hand: tests/test_bench.py fails when the table or a chart is not what the kept results say.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README, HOME = ROOT / "README.md", ROOT / "docs" / "bench"
RESULTS, CHARTS = HOME / "results.json", HOME / "charts.json"
BEGIN, END = "<!-- begin bench -->\n", "<!-- end bench -->\n"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 70, 20, 16, 92
COLOURS = ("#1f6fb2", "#c4551d", "#3a7d34", "#7b4ea3")


def pages() -> dict[Path, str]:
    """README.md with the table of the kept results, and a drawing for each chart that was measured."""
    made: dict[Path, str] = {}
    if RESULTS.exists():
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        made[README] = f"{before}{BEGIN}{block(_load(RESULTS))}{END}{rest.split(END)[1]}"
    if CHARTS.exists():
        charts = _load(CHARTS)
        made |= {HOME / f"{name}.svg": drawing(chart) for name, chart in charts.items() if "lines" in chart}
    return made


def _load(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def block(kept: dict[str, Any]) -> str:
    """The table of all kept runs, and the line about the machine, in Markdown."""
    runs, machine = kept["runs"], kept["machine"]
    heads = ["part", "measured", "hold to", *([f"run {n + 1}" for n in range(len(runs))]), "held"]
    rows = [heads, ["---"] * 3 + ["--:"] * len(runs) + ["---"]]
    for key, first in runs[0].items():
        for number, goal in enumerate(first["goals"]):
            found = [run[key]["goals"][number] for run in runs]
            values = ["-" if one["value"] is None else f"{one['value']:.2f}" for one in found]
            rows.append([_part(first, goal), first["what"], goal["hold to"], *values, verdict(found)])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    small = "" if machine["scale"] == 1 else " A quick look only, with fewer messages and rounds."
    facts = f"{machine['processors']} processors ({machine['processor']}), Linux {machine['kernel']}"
    return f"{table}\n{facts}, {machine['file system']}, Python {machine['python']}; fsync always on.{small}\n"


def _part(row: dict[str, Any], goal: dict[str, Any]) -> str:
    programs = {one["program"] for one in row["goals"]}
    return row["title"] if len(programs) == 1 else f"{row['title']}: {goal['program']}"


def verdict(found: list[dict[str, Any]]) -> str:
    """What all runs say of one goal."""
    values = [one["value"] for one in found if one["value"] is not None]
    if not values:
        return f"not measured: {found[0]['skipped']}"
    short = sum(not one["good"] for one in found if one["value"] is not None)
    if not short:
        return "yes"
    return (
        "short" if len(values) == 1 else f"short in {short} of {len(values)} (median {statistics.median(values):.2f})"
    )


def drawing(chart: dict[str, Any]) -> str:
    """A chart as SVG: one line for each program, both axes by powers, zero at the left where there is one."""
    lines: dict[str, list[list[float]]] = chart["lines"]
    across = sorted({x for points in lines.values() for x, _ in points})
    most = max(y for points in lines.values() for _, y in points)
    least = min(y for points in lines.values() for _, y in points)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    high = max(high, low + 1)

    def place_x(x: float) -> float:
        return LEFT + across.index(x) / max(1, len(across) - 1) * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return TOP + (high - math.log10(y)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [*_grid(low, high, place_y), *_ticks(across, place_x), *_words(chart)]
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(name, [(place_x(x), place_y(y)) for x, y in points], number)
    style = 'font-family="sans-serif" font-size="13" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>", ""])


def _grid(low: int, high: int, place_y: Any) -> Iterable[str]:
    for power in range(low, high + 1):
        y = place_y(10.0**power)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,.10g}</text>'


def _ticks(across: list[float], place_x: Any) -> Iterable[str]:
    for x in across:
        yield f'<text x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x:,g}</text>'.replace(
            "1e+06", "1,000,000"
        )


def _words(chart: dict[str, Any]) -> Iterable[str]:
    yield f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - BOTTOM + 42}" text-anchor="middle">{chart["across"]}</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{chart["up"]}</text>'


def _line(name: str, points: list[tuple[float, float]], number: int) -> Iterable[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    at = LEFT + number * (WIDTH - LEFT) // 3
    yield f'<circle cx="{at}" cy="{HEIGHT - 16}" r="5" fill="{colour}"/>'
    yield f'<text x="{at + 10}" y="{HEIGHT - 12}">{name}</text>'


def main() -> None:
    """Write what changed."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
