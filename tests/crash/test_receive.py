"""``receive`` killed in the middle of a contact, while it takes batches and while it gives them.

The other end here speaks the line protocol with code of its own. It keeps what it was told: an ``ACK`` it has read, an
``ack`` that was answered. Then it calls again, as any courier would.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from io import BufferedReader, BufferedWriter
from pathlib import Path

import pytest
from support import matrix, strace
from support.crash_cases import KILLED, ONE, THREE, TWO, TWO_BATCHES, Bench
from support.matrix import Point, Tally
from support.two_nodes import ROUTE, Nodes, Torn, Transaction, differences, transactions
from support.warm import Ended, Step

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if matrix.full() else 300)]

CHUNKS = 2
BEFORE = "before receive"


@dataclass
class Caller:
    """The near side: what it has, what it was told, and how to talk. ``talk`` is one conversation."""

    nodes: Nodes
    told: set[str] = field(default_factory=set)
    got: dict[str, bytes] = field(default_factory=dict)

    def talk(self, reading: BufferedReader, writing: BufferedWriter) -> None:
        """One contact; raises ``OSError`` or ``EOFError`` where the far side dies."""
        raise NotImplementedError

    def step(self) -> Step:
        """The command at the far side."""
        raise NotImplementedError

    def judge(self) -> Iterator[str]:
        """What is not as promised, after a whole contact."""
        raise NotImplementedError

    def run(self, how: Callable[[Step], Ended]) -> Ended:
        """Start the far side with ``how`` and talk to it until one of the two ends."""
        pipes = [str(self.nodes.warm.scratch / name) for name in ("to", "from")]
        for pipe in pipes:
            Path(pipe).unlink(missing_ok=True)
            os.mkfifo(pipe)
        thread = threading.Thread(target=self._converse, args=pipes)
        thread.start()
        ended = how(replace(self.step(), stdin=pipes[0], stdout=pipes[1]))
        thread.join()
        return ended

    def _converse(self, to: str, back: str) -> None:
        try:
            with open(to, "wb") as writing, open(back, "rb") as reading:
                self.talk(reading, writing)
        except (OSError, EOFError):
            return  # the far side was killed


def say(writing: BufferedWriter, *words: object, body: bytes = b"") -> None:
    """Send one line, and octets behind it."""
    writing.write(" ".join(map(str, words)).encode() + b"\n" + body)
    writing.flush()


def hear(reading: BufferedReader) -> list[str]:
    """One line."""
    line = reading.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line.decode().split()


def octets(reading: BufferedReader, size: int) -> bytes:
    """Octets that were announced."""
    data = reading.read(size)
    if len(data) < size:
        raise EOFError
    return data


class Putter(Caller):
    """The hub brings its batches to the site."""

    def step(self) -> Step:
        return self.nodes.receive("site", "hub.example")

    def talk(self, reading: BufferedReader, writing: BufferedWriter) -> None:
        hear(reading)
        for path in sorted(self.nodes.home.glob("hub/out/*/ready/*.bsmtp")):
            data, manifest = path.read_bytes(), path.with_name(path.name + ".json").read_bytes()
            beside = path.with_name(path.name + ".sig")
            signature = beside.read_bytes() if beside.exists() else b""
            sizes = (len(data), len(manifest), len(signature))
            say(writing, "put", path.name, *sizes, body=manifest + signature)
            answer = hear(reading)
            if answer[0] == "GO":
                writing.write(data[int(answer[2]) :])
                writing.flush()
                answer = hear(reading)
            if answer == ["ACK", path.name, hashlib.sha256(data).hexdigest()]:
                self.told.add(path.name)
        say(writing, "quit")
        hear(reading)

    def judge(self) -> Iterator[str]:
        there = {p.name for p in self.nodes.home.glob("site/in/hub.example/new/*.bsmtp")}
        sealed = {p.name for p in self.nodes.home.glob("hub/out/*/ready/*.bsmtp")}
        if not self.told <= there:
            yield f"acknowledged and not there: {self.told - there}"
        if self.told != sealed:
            yield f"not acknowledged in a whole contact: {sealed - self.told}"
        ended = self.nodes.run(self.nodes.import_())
        if ended.code:
            yield str(ended)
        yield from differences(_wanted(), self.nodes.imported())
        signed, arrived = (
            {p.name for p in self.nodes.home.glob(d)} for d in ("hub/*/*/ready/*.sig", "site/*/*/done/*.sig")
        )
        if signed != arrived:
            yield f"signatures went {signed} and came {arrived}"


class Getter(Caller):
    """The site fetches its batches from the hub."""

    def step(self) -> Step:
        return self.nodes.receive("hub", ROUTE)

    def talk(self, reading: BufferedReader, writing: BufferedWriter) -> None:
        hear(reading)
        say(writing, "list")
        offered = []
        while (line := hear(reading))[0] == "BATCH":
            octets(reading, int(line[2]) + int(line[3]))
            offered.append(line[1])
        for name in offered:
            say(writing, "get", name, 0)
            data = octets(reading, int(hear(reading)[2]))
            self.got[name] = data
            say(writing, "ack", name, hashlib.sha256(data).hexdigest())
            if hear(reading)[0] == "OK":
                self.told.add(name)
        say(writing, "quit")
        hear(reading)

    def judge(self) -> Iterator[str]:
        kept = {p.name for p in self.nodes.home.glob("hub/out/*/kept/*.bsmtp")}
        if not self.told <= kept:
            yield f"said to be released and not in kept/: {self.told - kept}"
        if left := list(self.nodes.home.glob("hub/out/*/ready/*")):
            yield f"still in ready/ after a whole contact: {left}"
        arrived = [t for name, data in self.got.items() for t in transactions(data, name)]
        yield from differences(_wanted(), Counter(arrived))


def _wanted() -> Counter[Transaction]:
    return Counter(m.transaction for m in (ONE, TWO, THREE))


def fresh(bench: Bench) -> Nodes:
    """Both nodes with two batches sealed at the hub."""
    where = bench.saved / BEFORE
    if not where.exists():
        TWO_BATCHES(bench.nodes)
        bench.nodes.save(where)
    return bench.nodes.become(where)


def kill_points(bench: Bench, caller: type[Caller]) -> list[Point]:
    """Where to kill."""
    for _ in range(2):
        one = caller(fresh(bench))
        ended = one.run(lambda step: bench.nodes.warm.traced(step, strace.options(bench.log)))
        assert ended.code == 0, str(ended)
        assert list(one.judge()) == []
    return matrix.kill_points(matrix.after_mark(strace.parse(bench.log)), bench.nodes.home)


@pytest.mark.parametrize("share", range(CHUNKS))
@pytest.mark.parametrize("caller", [Putter, Getter])
def test_a_contact_that_is_cut_is_simply_repeated(
    bench: Bench, tally: Callable[[str, str], Tally], caller: type[Caller], share: int
) -> None:
    counted = tally("receive, put" if caller is Putter else "receive, get and ack", "kill")
    for point in matrix.chunk(kill_points(bench, caller), share, CHUNKS):
        one = caller(fresh(bench))
        inject = strace.kill_at(point.name, point.ordinal)
        traced = strace.options(bench.log, inject, point.name)
        if one.run(lambda step, traced=traced: bench.nodes.warm.traced(step, traced)).code != KILLED:
            counted.missed(point)
            continue
        counted.hit(f"{len(one.told)} acknowledged")
        try:
            bench.nodes.assert_nothing_torn()
        except Torn as torn:
            counted.wrong(point, torn)
        ended = one.run(bench.nodes.run)
        for wrong in [*([str(ended)] if ended.code else []), *one.judge()]:
            counted.wrong(point, wrong)
    counted.verdict()
