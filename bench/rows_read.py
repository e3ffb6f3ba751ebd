"""Reading batches: parse and verify, against one search over the file and against sha256sum."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench import messages
from bench.place import INSIDE, Place
from bench.proc import run
from bench.table import Goal, Row, Sample, Variants


@contextlib.contextmanager
def parse(place: Place) -> Iterator[Variants]:
    """Framing and envelopes of a batch in the page cache."""
    with place.room("parse") as room:
        count = place.times(50_000)
        batch = messages.write_batch(room / "batch", count, messages.SMALL, senders=True)

        def one(what: str) -> Sample:
            argv = [place.python, "-P", str(INSIDE / "parse.py"), str(batch), what]
            found, cpu, wall = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
            if int(found) != count:
                raise RuntimeError(f"{what} found {found} of {count} messages")
            megabytes = batch.stat().st_size / 1e6
            return {"MB/s of processor": megabytes / float(cpu), "MB/s": megabytes / float(wall)}

        yield {
            "mmap.find": lambda: one("find"),
            "frames": lambda: one("frames"),
            "strict reader": lambda: one("prove"),
        }


@contextlib.contextmanager
def verify(place: Place) -> Iterator[Variants]:
    """``verify`` from its start to its end: framing, envelopes, line ends, stuffing and the digest."""
    with place.room("verify") as room:
        batch = messages.write_batch(room / "batch", place.times(100_000), messages.SMALL, senders=True)
        program = [*place.program, "verify", str(batch)]
        yield {
            "sha256sum": lambda: _speed(batch, ["sha256sum", str(batch)]),
            "verify": lambda: _speed(batch, program),
        }


def _speed(batch: Path, argv: list[str]) -> Sample:
    ran = run(argv, log=batch.with_suffix(".log"))
    megabytes = batch.stat().st_size / 1e6
    return {"MB/s of processor": megabytes / ran.cpu, "MB/s": megabytes / ran.wall}


ROWS = [
    Row(
        "parse",
        "parse a batch",
        "framing and envelopes of what was verified; processor time",
        parse,
        (Goal("frames", "MB/s of processor", 0.5, "mmap.find"),),
    ),
    Row(
        "verify",
        "verify a batch of 400 MB",
        "processor time, then by the clock",
        verify,
        (
            Goal("verify", "MB/s of processor", 0.7, "sha256sum"),
            Goal("verify", "MB/s", 0.7, "sha256sum"),
        ),
    ),
]
