"""Run every comparison on this machine, in turn, and say how the project stands: python -m bench [--runs N]

    python -m bench                          one run, a table
    python -m bench --only pipe-cost         one row (or several, or all that begin so)
    python -m bench --runs 3 --save          three runs, kept in docs/bench, and README's table of them
    python -m bench --quick                  a tenth of the messages, few rounds: to see whether it works

What is measured is the working copy, installed as pip installs it into an environment of its own; peers come from
Debian and PyPI packages. The rows with a real mail server need root. A machine that does something else meanwhile
spoils the figures. storm.py, standing.py, flights.py and crash_mutants.py are programs of their own.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time

from bench import charts, results, rows_import, rows_intake, rows_pipe, rows_read
from bench.place import Place, machine, place
from bench.table import Measured, Row, measure

ROWS: list[Row] = [*rows_pipe.ROWS, *rows_intake.ROWS, *rows_import.ROWS, *rows_read.ROWS]


def chosen(names: list[str]) -> list[Row]:
    """The rows whose keys begin with one of ``names``; all without any."""
    found = [row for row in ROWS if not names or any(row.key.startswith(name) for name in names)]
    if not found:
        raise SystemExit(f"no such row; there are: {' '.join(row.key for row in ROWS)}")
    return found


def once(rows: list[Row], where: Place, rounds: int | None) -> list[Measured]:
    """Every row once, told as it comes."""
    done = []
    for row in rows:
        started = time.monotonic()
        try:
            measured = measure(row, where, rounds=min(row.rounds, rounds or row.rounds))
        except (RuntimeError, OSError, AssertionError, subprocess.SubprocessError) as fault:
            measured = Measured(row, missing={"": f"failed: {fault}"})
        done.append(measured)
        print("\n".join(results.lines(measured)), f"   ({time.monotonic() - started:.0f} s)", flush=True)
    return done


def main() -> int:
    """Run it; 0 when every row that was measured is as it should be, 1 when one is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--here", action="store_true", help="run the working copy as it lies there, not installed")
    parser.add_argument("--save", action="store_true", help="keep the results in docs/bench and make README's table")
    asked = parser.parse_args()
    if asked.save and asked.only:
        parser.error("a table is made of whole runs: --save goes with every row")
    rows, runs = chosen(asked.only), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # with everything that was started and made
    with place(scale=0.1 if asked.quick else 1.0, installed=not asked.here) as where:
        for number in range(asked.runs):
            print(f"run {number + 1} of {asked.runs}", flush=True)
            runs.append(once(rows, where, 2 if asked.quick else None))
            if asked.save:
                results.save(machine(where), runs)
        if asked.save:
            results.save_charts(charts.measure(where))
            results.publish()
    good = all(judged.good or judged.value is None for run in runs for one in run for judged in one.judge())
    print("every row that was measured is at or beyond its goal" if good else "a row is short of its goal")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
