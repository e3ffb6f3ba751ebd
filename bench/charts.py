"""What the charts show: throughput against the number of routes, the size of a message, and the delay of fsync."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import messages
from bench.place import INSIDE, Place, slow_sync
from bench.proc import run
from bench.rows_import import importing, sink
from bench.servers import Server, aiosmtpd, serve
from bench.table import Missing

ROUTES = (1, 10, 100, 1000)
MOST_FILES = 500  # a process may have 1024 open, and the peer keeps each open
SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
DELAYS = (0, 1, 2, 5, 10, 20)
SESSIONS = 16
Points = list[tuple[float, float]]


def measure(place: Place) -> dict[str, Any]:
    """Every chart: its words, and the points of each line; a chart whose peers are missing says why."""
    charts: dict[str, Any] = {}
    for name, words, lines in (
        ("routes", ("routes that the mail goes to", "messages per second, 4 KB"), by_routes),
        ("size", ("octets of a message", "megabytes per second"), by_size),
        ("fsync", ("milliseconds that every fsync takes longer", "messages per second, 4 KB, 20 sessions"), by_delay),
    ):
        charts[name] = {"across": words[0], "up": words[1]}
        try:
            charts[name]["lines"] = lines(place)
        except (Missing, RuntimeError) as why:
            charts[name]["skipped"] = str(why)
    return charts


def throughput(
    place: Place, server: Server, message: Path, count: int, *, routes: int = 0, sessions: int = SESSIONS
) -> float:
    """Messages per second, the median of three."""
    argv = [place.python, str(INSIDE / "load.py"), str(server.socket), str(sessions), str(count), str(message)]

    def one() -> float:
        done = subprocess.run([*argv, str(routes)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{server.socket.name}: {done.stderr.strip()}")
        server.settled()
        return count / float(done.stdout)

    one()
    return round(statistics.median(one() for _ in range(3)), 2)


def by_routes(place: Place) -> dict[str, Points]:
    """The LMTP intake with mail for ever more routes."""
    with place.room("chart") as room:
        message = messages.write_text(room / "message", messages.SMALL)
        names = [f"r{number}.example" for number in range(ROUTES[-1])]
        with serve(place, room, names) as ours, aiosmtpd(place, room) as peer:
            many, few = place.times(4000, 32), place.times(1000, 16)
            return {
                "serve, LMTP": [(n, throughput(place, ours, message, many, routes=n)) for n in ROUTES],
                "aiosmtpd, a file for each": [
                    (n, throughput(place, peer, message, few, routes=n)) for n in ROUTES if n <= MOST_FILES
                ],
            }


def by_size(place: Place) -> dict[str, Points]:
    """The LMTP intake, and an import into a server that stores nothing, with ever larger messages."""
    lines: dict[str, Points] = {"serve, LMTP": [], "aiosmtpd, group commit": [], "import into smtp-sink": []}
    with place.room("chart") as room, contextlib.ExitStack() as stack:
        ours = stack.enter_context(serve(place, room, ["site.example"]))
        peer = stack.enter_context(aiosmtpd(place, room))
        port = stack.enter_context(sink(room))
        for size in SIZES:
            message = messages.write_text(room / "message", size)
            few = place.times(min(3000, 60_000_000 // size), 8)
            lines["serve, LMTP"].append((size, round(throughput(place, ours, message, few) * size / 1e6, 2)))
            few = place.times(min(1500, 15_000_000 // size), 8)
            lines["aiosmtpd, group commit"].append((size, round(throughput(place, peer, message, few) * size / 1e6, 2)))
            lines["import into smtp-sink"].append((size, _importing(place, room, port, size)))
    return lines


def _importing(place: Place, room: Path, port: int, size: int) -> float:
    batch = messages.write_batch(room / "batch", place.times(min(25_000, 400_000_000 // size), 8), size, senders=True)

    def one() -> float:
        argv, environment = importing(place, room, batch, f"smtp://127.0.0.1:{port}")
        return batch.stat().st_size / run(argv, env=environment, log=room / "client.log").wall / 1e6

    return round(statistics.median(one() for _ in range(3)), 2)


def by_delay(place: Place) -> dict[str, Points]:
    """The LMTP intake on ever slower disks, beside a server that syncs for each message."""
    with place.room("chart") as room:
        library = str(slow_sync(room))
        message = messages.write_text(room / "message", messages.SMALL)

        def line(
            start: Callable[..., contextlib.AbstractContextManager[Server]], count: int
        ) -> Iterator[tuple[float, float]]:
            for delay in DELAYS:
                slower = {"LD_PRELOAD": library, "SLOW_SYNC_US": str(delay * 1000)}
                with place.room("delay") as fresh, start(fresh, **slower) as server:
                    yield delay, throughput(place, server, message, place.times(count, 20), sessions=20)

        return {
            "serve, LMTP": list(line(lambda room, **slow: serve(place, room, ["site.example"], **slow), 1500)),
            "aiosmtpd, group commit": list(line(lambda room, **slow: aiosmtpd(place, room, **slow), 600)),
            "aiosmtpd, one fsync per message": list(
                line(lambda room, **slow: aiosmtpd(place, room, "each", **slow), 150)
            ),
        }
