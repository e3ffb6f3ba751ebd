"""The one named window: an importer killed between a final dot and its answer (RFC 1047).

At most one message per crash may arrive twice, and then the next run says which one. None may be missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
from support import matrix, strace
from support.crash_cases import CASES, KILLED, Bench, Case
from support.matrix import Point, Tally
from support.smtp_sink import RecordingServer
from support.two_nodes import Nodes, Transaction, differences, transactions
from support.warm import Ended

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

CHUNKS = 3
NAME = "import, two batches, SMTP"
IN_DOUBT = re.compile(r"(\S+\.bsmtp): message (\d+) was in doubt")


def start(bench: Bench) -> Case:
    """The state of the Maildir import, which is that of any import."""
    case = CASES["import, two batches, Maildir"]
    bench.nodes.become(bench.start(case))
    return case


def points(bench: Bench) -> list[Point]:
    """Where to kill an import into an SMTP server."""
    for _ in range(2):
        start(bench)
        with RecordingServer() as server:
            ended = bench.nodes.warm.traced(bench.nodes.import_(server.url), strace.options(bench.log))
        assert ended.code == 0, str(ended)
    return matrix.kill_points(matrix.after_mark(strace.parse(bench.log)), bench.nodes.home)


def in_doubt(nodes: Nodes, ended: Ended) -> list[Transaction]:
    """The messages that a run names as sent again because nobody knows whether they had arrived."""
    named = []
    for batch, number in IN_DOUBT.findall(ended.stderr):
        path = next(nodes.home.glob(f"site/in/*/done/{batch}"))
        named.append(transactions(path.read_bytes(), str(path))[int(number) - 1])
    return named


@pytest.mark.parametrize("share", range(CHUNKS))
def test_at_most_one_message_is_sent_twice_and_it_is_named(
    bench: Bench, tally: Callable[[str, str], Tally], share: int
) -> None:
    counted, nodes = tally(NAME, "kill"), bench.nodes
    for point in matrix.chunk(points(bench), share, CHUNKS):
        case = start(bench)
        with RecordingServer() as server:
            step = nodes.import_(server.url)
            inject = strace.kill_at(point.name, point.ordinal)
            if nodes.warm.traced(step, strace.options(bench.log, inject, point.name)).code != KILLED:
                counted.missed(point)
                continue
            server.settle()
            again, third = nodes.run(step), nodes.run(step)
        judge(case, point, counted, nodes, server.messages, [again, third])
    counted.verdict()


def judge(
    case: Case, point: Point, counted: Tally, nodes: Nodes, arrived: list[Transaction], ended: list[Ended]
) -> None:
    """What the server has against what was handed in at the hub."""
    wanted = Counter(m.transaction for m in case.accepted)
    got = Counter(arrived)
    doubled = list((got - wanted).elements())
    counted.hit("one twice, named" if doubled else "each once")
    if any(e.code for e in ended):
        counted.wrong(point, "; ".join(map(str, ended)))
        return
    named = in_doubt(nodes, ended[0])
    if lost := differences(wanted, got & wanted):
        counted.wrong(point, lost)
    if len(doubled) > 1 or len(named) > 1 or any(message not in named for message in doubled):
        counted.wrong(point, f"doubled {doubled}, but named {named}")
    if in_doubt(nodes, ended[1]) or nodes.imported() != wanted:
        counted.wrong(point, f"the run after that had still something to do: {ended[1]}")
