"""The command that an MTA's pipe runs once per message: its cost, its memory, and whether it stays flat."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import messages
from bench.place import PEERS, Place
from bench.proc import run
from bench.table import Goal, Missing, Row, Sample, Variants

ENVELOPE = ["-f", "sender@client.example", "--", "site.example", "user@site.example"]
MANY_WAITING, MANY_ROUTES = 100_000, 10_000


def processor(argv: list[str], message: Path, times: int = 1) -> Sample:
    """User and system time of one run of ``argv``, in milliseconds; the mean of ``times``."""
    cpu = sum(run(argv, stdin=message, env={"PATH": "/usr/bin:/bin"}).cpu for _ in range(times))
    return {"CPU ms": cpu / times * 1000}


@contextlib.contextmanager
def cost(place: Place) -> Iterator[Variants]:
    """One hand-in of 4 KB beside the least programs that append it to a file and sync."""
    with place.room("pipe") as room:
        small = messages.write_text(room / "small", messages.SMALL)
        wire = room / "wire"
        wire.write_bytes(messages.content(messages.SMALL).replace(b"\r\n.", b"\r\n.."))
        place.route(room / "spool")
        append = [str(room / "batch"), "sender@client.example", "user@site.example"]
        deliver = [*place.deliver, "--spool", str(room / "spool"), *ENVELOPE]
        least = [place.python, "-I", "-S", str(PEERS / "append_min.py"), *append]
        variants: Variants = {
            "deliver": lambda: processor(deliver, small),
            "append_min": lambda: processor(least, wire),
            "python -I -S -c pass": lambda: processor([place.python, "-I", "-S", "-c", "pass"], wire),
            "perl": Missing("there is no perl"),
        }
        if perl := shutil.which("perl"):
            variants["perl"] = lambda: processor([perl, str(PEERS / "append_min.pl"), *append], wire)
        yield variants


@contextlib.contextmanager
def memory(place: Place) -> Iterator[Variants]:
    """The peak of one hand-in of 100 MB from a pipe."""
    with place.room("memory") as room:
        huge = messages.write_text(room / "huge", place.times(messages.HUGE, 2_000_000))
        home = place.route(room / "spool")
        deliver = [*place.deliver, "--spool", str(room / "spool"), *ENVELOPE]

        def peak(argv: list[str]) -> Sample:
            measuring = [place.python, "-I", "-S", str(PEERS / "peak.py"), str(huge)]
            said = subprocess.run([*measuring, *argv], check=True, capture_output=True, text=True).stdout.split()
            if int(said[0]):
                raise RuntimeError(f"{argv} ended with status {said[0]}")
            for entry in (home / "new").iterdir():
                os.truncate(entry, 0)
            return {"MiB": int(said[1]) / 1024}

        bare = [place.python, "-I", "-S", "-c", "pass"]
        yield {"deliver": lambda: peak(deliver), "python -I -S -c pass": lambda: peak(bare)}


@contextlib.contextmanager
def waiting(place: Place) -> Iterator[Variants]:
    """The same hand-in into an empty route and into one where many messages wait."""
    with place.room("waiting") as room:
        homes = {name: place.route(room / "spool", f"{name}.example") for name in ("empty", "full")}
        for number in range(place.times(MANY_WAITING, 50)):
            name = f"{number:040x}.{number:064x}"
            os.close(os.open(homes["full"] / "new" / name, os.O_CREAT | os.O_WRONLY, 0o600))
        yield {
            "nothing waits": _handing_in(place, room, ["empty.example"]),
            f"{MANY_WAITING:,} wait": _handing_in(place, room, ["full.example"]),
        }


@contextlib.contextmanager
def routes(place: Place) -> Iterator[Variants]:
    """The same hand-in with one route in the spool and with many, each message to another one."""
    with place.room("routes") as room:
        many = [f"r{number}.example" for number in range(place.times(MANY_ROUTES, 10))]
        for name in many:
            for directory in ("new", "tmp", "sealed"):  # what a hand-in looks at
                (room / "many" / "out" / name / directory).mkdir(parents=True)
        place.route(room / "one", "r0.example")
        yield {
            "1 route": _handing_in(place, room, ["r0.example"], "one"),
            f"{MANY_ROUTES:,} routes": _handing_in(place, room, many, "many"),
        }


def _handing_in(place: Place, room: Path, routes: list[str], spool: str = "spool") -> Callable[[], Sample]:
    """A run of a few hand-ins to ``routes``, spread over them all."""
    small = messages.write_text(room / "small", messages.SMALL)
    turn = iter(range(1 << 60))

    def hand_in() -> Sample:
        route = routes[next(turn) * 7919 % len(routes)]
        argv = [*place.deliver, "--spool", str(room / spool), "-f", "s@client.example", "--", route, f"u@{route}"]
        return processor(argv, small, 3)

    return hand_in


ROWS = [
    Row(
        "pipe-cost",
        "pipe command, 4 KB",
        "processor time of the process",
        cost,
        (
            Goal("deliver", "CPU ms", 1.20, "append_min", most=True),
            Goal("deliver", "CPU ms", 0.85, "perl", most=True),
        ),
        rounds=41,
    ),
    Row(
        "pipe-memory",
        "pipe command, one message of 100 MB",
        "peak memory",
        memory,
        (Goal("deliver", "MiB", 12, most=True, unit="MiB"),),
        rounds=2,
        warm=False,
    ),
    Row(
        "pipe-waiting",
        "pipe command, 100,000 messages waiting",
        "processor time of the process",
        waiting,
        (Goal(f"{MANY_WAITING:,} wait", "CPU ms", 1.15, "nothing waits", most=True),),
        rounds=11,
    ),
    Row(
        "pipe-routes",
        "pipe command, 10,000 routes",
        "processor time of the process",
        routes,
        (Goal(f"{MANY_ROUTES:,} routes", "CPU ms", 2.0, "1 route", most=True),),
        rounds=11,
    ),
]
