"""The customer killed while mail is collected over ODMR: nothing that was answered is lost, one message at most comes
twice, and what lies in new/ is whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import matrix, strace
from support.crash_cases import KILLED, Bench
from support.importing import Letter, letters
from support.matrix import Point, Tally
from support.odmr_hub import Hub, Plan
from support.two_nodes import Nodes, cli
from support.warm import Step

from bsmtp_batch.batch.events import Fault, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.manifest import Manifest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

CHUNKS = 2
NAME = "pull, three messages, ODMR"
MAIL = [*letters(2), Letter(to=(b"c@site.example", b"d@site.example"), content=b"Subject: x\r\n\r\n.\r\n..\r\n")]


def pulling(nodes: Nodes, hub: Hub) -> Step:
    secret = nodes.home / "secret"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text("password\n")
    url = f"odmr://aurora@127.0.0.1:{hub.port}/"
    return cli("pull", "--spool", nodes.site, "--tls", "none", "--secret-file", str(secret), url)


def fresh(bench: Bench) -> None:
    """A site that has collected nothing yet."""
    where = bench.saved / "collect"
    if not where.exists():
        bench.nodes.must(cli("route", "add", "other.example", "--spool", bench.nodes.site))
        bench.nodes.save(where)
    bench.nodes.become(where)


def points(bench: Bench) -> list[Point]:
    """Where to kill it."""
    for _ in range(2):
        fresh(bench)
        with Hub(Plan(letters=list(MAIL))) as hub:
            ended = bench.nodes.warm.traced(pulling(bench.nodes, hub), strace.options(bench.log))
        assert ended.code == 0, str(ended)
    return matrix.kill_points(matrix.after_mark(strace.parse(bench.log)), bench.nodes.home)


def stored(nodes: Nodes) -> Counter[tuple[bytes, tuple[bytes, ...], bytes]]:
    """What is in new/; each batch is what its manifest says."""
    found: Counter[tuple[bytes, tuple[bytes, ...], bytes]] = Counter()
    for path in Path(nodes.site).glob("in/127.0.0.1/new/*.bsmtp"):
        manifest = Manifest.from_bytes(Path(f"{path}.json").read_bytes())
        with path.open("rb") as file:
            batch = BatchFile(file)
            (message,) = batch.scan(Severity.STRICT)
            assert not isinstance(message, Fault)
            assert not manifest.matches(batch.size, batch.sha256, 1, len(message.rcpts))
            content = b"".join(batch.content(message))
        found[message.mail.path, tuple(rcpt.path for rcpt in message.rcpts), content] += 1
    return found


@pytest.mark.parametrize("share", range(CHUNKS))
def test_at_most_one_message_comes_twice_and_none_is_lost(
    bench: Bench, tally: Callable[[str, str], Tally], share: int
) -> None:
    counted, nodes = tally(NAME, "kill"), bench.nodes
    wanted = Counter((one.sender, one.to, one.content) for one in MAIL)
    for point in matrix.chunk(points(bench), share, CHUNKS):
        fresh(bench)
        plan = Plan(letters=list(MAIL))
        with Hub(plan) as hub:
            inject = strace.kill_at(point.name, point.ordinal)
            step = pulling(nodes, hub)
            if nodes.warm.traced(step, strace.options(bench.log, inject, point.name)).code != KILLED:
                counted.missed(point)
                continue
            for thread in hub.threads:
                thread.join(20)
            early = Counter((one.sender, one.to, one.content) for one in MAIL if one not in plan.letters)
            if early - stored(nodes):
                counted.wrong(point, f"the provider let go of what is not here: {early - stored(nodes)}")
            again = nodes.run(step)
        got = stored(nodes)
        doubled = (got - wanted).total()
        counted.hit("one twice" if doubled else "each once")
        if again.code or wanted - got or doubled > 1 or plan.letters:
            counted.wrong(point, f"{again} lost {wanted - got}, doubled {doubled}")
        left = os.listdir(f"{nodes.site}/in/127.0.0.1/tmp")
        if len(left) > 1:
            counted.wrong(point, f"more than what was under way is left: {left}")
    counted.verdict()
