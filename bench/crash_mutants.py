"""Would the crash matrix notice? Takes one line of the protocol away, or moves it, and runs the matrix on the result.

    python bench/crash_mutants.py [NAME...]

Each mutant is a copy of the package with one change. It is *caught* when a crash test fails on it. A mutant that
survives and is not expected to, or whose text is no longer in the source, ends the run with 1. It takes an hour or two;
it is for whoever changes the protocol, or the tests that guard it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Mutant:
    """One change: ``old`` becomes ``new`` in ``file``; ``tests`` is what pytest's ``-k`` has to select.

    ``harmless`` says why it may survive.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    harmless: str = ""


def mutants() -> list[Mutant]:
    """Those in the file beside this one."""
    return [Mutant(**one) for one in tomllib.loads(LIST.read_text())["mutant"]]


def caught(mutant: Mutant, scratch: Path) -> str:
    """``caught``, ``survives`` or ``stale``."""
    package = scratch / mutant.name
    shutil.copytree(REPOSITORY / "bsmtp_batch", package / "bsmtp_batch", ignore=shutil.ignore_patterns("__pycache__"))
    file = package / "bsmtp_batch" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        return "stale"
    file.write_text(text.replace(mutant.old, mutant.new))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider", "tests/crash"]
    done = subprocess.run(
        [*command, "-k", f"({mutant.tests}) and not harness"], cwd=REPOSITORY, capture_output=True, text=True,
        env=os.environ | {"BSMTP_BATCH_CRASH_PACKAGE": str(package), "CI": "1"}, check=False,
    )  # fmt: skip
    (scratch / f"{mutant.name}.log").write_text(done.stdout + done.stderr)
    if done.returncode and "\nFAILED tests/crash/" in done.stdout and "ERROR " not in done.stdout:
        return "caught"
    return "survives" if done.returncode == 0 else f"pytest ended with {done.returncode}"


def main(wanted: list[str]) -> int:
    """Run the mutants named, or all; 1 when one is not as expected."""
    scratch = Path(tempfile.mkdtemp(prefix="crash-mutants-"))
    wrong = 0
    for mutant in (m for m in mutants() if not wanted or m.name in wanted):
        started = time.monotonic()
        what = caught(mutant, scratch)
        as_expected = what == "caught" or (what == "survives" and mutant.harmless)
        wrong += not as_expected
        reason = f" ({mutant.harmless})" if what == "survives" and mutant.harmless else ""
        print(f"{mutant.name:<32} {what}{reason}  {time.monotonic() - started:.0f} s", flush=True)
    print(f"{wrong} not as expected; what pytest said is in {scratch}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
