"""What every test starts from, signals as a shell hands them out, and what a run says at its end.

A run started by ``nohup``, cron or in the background of a script inherits SIGINT and SIGHUP as ignored, and so would
every process that a test starts and wants to stop.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from support.debian import cache, tool

for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# How long an example takes says how busy the machine is.
settings.register_profile("anywhere", deadline=None)
settings.load_profile("anywhere")


@pytest.fixture(scope="session", autouse=True)
def openssh() -> None:
    """ssh-keygen, ssh and scp are found by our children and by tests, also on a machine that has none of its own."""
    names = [name for name in ("ssh-keygen", "ssh", "scp") if not shutil.which(name)]
    if not names:
        return
    directory = cache() / "found"
    directory.mkdir(exist_ok=True)
    for name in names:
        fresh = directory / f".{name}.{os.getpid()}"
        fresh.symlink_to(tool(name))
        fresh.rename(directory / name)
    os.environ["PATH"] += f":{directory}"
    os.environ["BSMTP_BATCH_PATH"] = os.environ["PATH"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many points the crash tests had, how many were hit, and what came of them.

    Here and not beside those tests, because with several workers only this file is read by the process that reports.
    """
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
