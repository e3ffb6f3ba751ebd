"""The hub killed while it sends a customer's mail: one message at most may arrive twice, named, and no batch is let go
of before all of it was taken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from support import matrix, strace
from support.crash_cases import KILLED, ONE, THREE, TWO, TWO_BATCHES, Bench
from support.matrix import Point, Tally
from support.smtp_sink import RecordingServer
from support.two_nodes import ROUTE, Nodes, Transaction, cli, differences, transactions
from support.warm import Ended, Step

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

CHUNKS = 3
NAME = "push, two batches, SMTP"
ACCEPTED = (ONE, TWO, THREE)


def start(bench: Bench) -> None:
    """Two sealed batches at the hub."""
    where = bench.saved / "dispatch"
    if not where.exists():
        TWO_BATCHES(bench.nodes)
        bench.nodes.save(where)
    bench.nodes.become(where)


def pushing(nodes: Nodes, server: RecordingServer) -> Step:
    url = server.url.replace("127.0.0.1", "[127.0.0.1]")
    return cli("push", "--spool", nodes.hub, "--json", url, ROUTE)


def points(bench: Bench) -> list[Point]:
    """Where to kill it."""
    for _ in range(2):
        start(bench)
        with RecordingServer() as server:
            ended = bench.nodes.warm.traced(pushing(bench.nodes, server), strace.options(bench.log))
        assert ended.code == 0, str(ended)
    return matrix.kill_points(matrix.after_mark(strace.parse(bench.log)), bench.nodes.home)


def in_doubt(nodes: Nodes, ended: Ended) -> list[Transaction]:
    """The messages that a run names as sent again because nobody knows whether they had arrived."""
    named = []
    for row in map(json.loads, ended.stdout.splitlines()):
        if row["kind"] == "noticed" and "was in doubt" in row["note"]:
            number = int(row["note"].split()[1])
            path = next(nodes.home.glob(f"hub/out/{ROUTE}/kept/{row['name']}"))
            named.append(transactions(path.read_bytes(), str(path))[number - 1])
    return named


def kept(nodes: Nodes) -> Counter[Transaction]:
    """What the batches hold that the hub has let go of."""
    found: Counter[Transaction] = Counter()
    for path in nodes.home.glob(f"hub/out/{ROUTE}/kept/*.bsmtp"):
        found.update(transactions(path.read_bytes(), str(path)))
    return found


@pytest.mark.parametrize("share", range(CHUNKS))
def test_at_most_one_message_is_sent_twice_and_it_is_named(
    bench: Bench, tally: Callable[[str, str], Tally], share: int
) -> None:
    counted, nodes = tally(NAME, "kill"), bench.nodes
    for point in matrix.chunk(points(bench), share, CHUNKS):
        start(bench)
        with RecordingServer() as server:
            step = pushing(nodes, server)
            inject = strace.kill_at(point.name, point.ordinal)
            if nodes.warm.traced(step, strace.options(bench.log, inject, point.name)).code != KILLED:
                counted.missed(point)
                continue
            server.settle()
            early = kept(nodes) - Counter(server.messages)
            again, third = nodes.run(step), nodes.run(step)
        judge(point, counted, nodes, server.messages, [again, third])
        if early:
            counted.wrong(point, f"let go of before it was taken: {early}")
    counted.verdict()


def judge(point: Point, counted: Tally, nodes: Nodes, arrived: list[Transaction], ended: list[Ended]) -> None:
    """What the server has against what was handed in at the hub."""
    wanted = Counter(m.transaction for m in ACCEPTED)
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
    if in_doubt(nodes, ended[1]) or kept(nodes) != wanted or nodes.leftovers():
        counted.wrong(point, f"the run after that had still something to do: {ended[1]} {nodes.leftovers()}")
