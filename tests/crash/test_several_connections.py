"""The named window over several connections: an importer killed at a system call while results go by the file.

One message of each connection at most may arrive twice, and then the next run names it. None may be missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import matrix, strace
from support.crash_cases import KILLED, Bench
from support.importing import arrive, letters
from support.matrix import Point, Tally
from support.smtp_sink import RecordingServer
from support.two_nodes import Nodes, cli
from support.warm import Ended, Step

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

CHUNKS = 2
PLACES = 24
"""Points of the short matrix: there are more than a thousand, most of them like the one before."""
CONNECTIONS = 3
NAME = "import, many messages, SMTP x 3"
IN_DOUBT = re.compile(r"message (\d+) was in doubt")
MAIL = letters(110)


def start(bench: Bench) -> None:
    """A batch of many small messages at the site."""
    where = bench.saved / "many"
    if not where.exists():
        arrive(Path(bench.nodes.found().site), MAIL)
        bench.nodes.save(where)
    bench.nodes.become(where)


def importing(nodes: Nodes, server: RecordingServer) -> Step:
    return cli("import", "--spool", nodes.site, "--connections", str(CONNECTIONS), "--to", server.url)


def points(bench: Bench) -> list[Point]:
    """Where to kill it: everywhere, or at places that lie evenly over the whole run."""
    for _ in range(2):
        start(bench)
        with RecordingServer() as server:
            ended = bench.nodes.warm.traced(importing(bench.nodes, server), strace.options(bench.log))
        assert ended.code == 0, str(ended)
    found = matrix.kill_points(matrix.after_mark(strace.parse(bench.log)), bench.nodes.home)
    assert any(point.name == "pwrite64" and "-results/" in point.text for point in found), "the file was not used"
    return found if matrix.full() else found[:: max(1, len(found) // PLACES)]


@pytest.mark.parametrize("share", range(CHUNKS))
def test_one_message_of_each_connection_at_most_is_sent_twice_and_it_is_named(
    bench: Bench, tally: Callable[[str, str], Tally], share: int
) -> None:
    counted, nodes = tally(NAME, "kill"), bench.nodes
    for point in matrix.chunk(points(bench), share, CHUNKS):
        start(bench)
        with RecordingServer() as server:
            step = importing(nodes, server)
            inject = strace.kill_at(point.name, point.ordinal)
            killed = nodes.warm.traced(step, strace.options(bench.log, inject, point.name)).code == KILLED
            server.settle()
            again, third = nodes.run(step), nodes.run(step)
            arrived = [message.content for message in server.messages]
        outcome = judge(point, counted, arrived, again, third)
        if killed:
            counted.hit(outcome)
        else:
            counted.missed(point, by_chance=True)  # who shares a commit differs from run to run
    counted.verdict()


def judge(point: Point, counted: Tally, arrived: list[bytes], again: Ended, third: Ended) -> str:
    """What the server has against what was in the batch."""
    got, wanted = Counter(arrived), Counter(one.content for one in MAIL)
    named = {MAIL[int(number) - 1].content for number in IN_DOUBT.findall(again.stderr)}
    doubled = list((got - wanted).elements())
    if again.code or third.code or "in doubt" in third.stderr:
        counted.wrong(point, f"{again} {third}")
    if wanted - got:
        counted.wrong(point, f"lost: {len(list((wanted - got).elements()))}")
    if len(named) > CONNECTIONS or len(set(doubled)) < len(doubled) or not set(doubled) <= named:
        counted.wrong(point, f"doubled {len(doubled)}, but named {len(named)}")
    return f"{len(doubled)} twice, named" if doubled else "each once"
