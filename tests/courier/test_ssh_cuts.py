"""Fifty batches each way over each courier, while the line is cut and processes are killed at random octets.

A site pushes and pulls at the same time, each over its own sshd and its own relay. A contact ends somewhere in the
traffic of its connection, its login, its conversation or its next batches; in the end every batch has arrived once,
whole, and acknowledged, and both ledgers say so. ``BSMTP_BATCH_SEED`` repeats a run's offsets.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import relay
from support.batches import transactions
from support.pair import SITE, Pair, contacts, rows, sealed
from support.relay import Relay
from support.sshd import RECEIVE, Sshd, children, kill, words_of

from bsmtp_batch.spool.store import Route

pytestmark = pytest.mark.real

BATCHES, CUTS, KILLS = 50, 50, 3
"""For each direction: batches, cuts, and kills of each of the processes below."""
VICTIMS = ("near", "far", "near mover", "far mover")
SIZES = {n: 20_000 * (n % 5 + 1) for n in range(2, 50, 2)} | {30: 600_000, 44: 2_500_000}
"""Octets of the larger ones."""
LOGGED = 'echo "$SSH_ORIGINAL_COMMAND" >> "$0"; exec "$@"'


class Road:
    """One direction: its own sshd and relay, the ``verb`` of its contacts, and what has happened on it."""

    def __init__(self, pair: Pair, sshd: Sshd, verb: str, route: Route, chance: random.Random) -> None:
        self.pair = copy.copy(pair)
        self.pair.sshd, self.pair.known_hosts = sshd, sshd.known_hosts
        self.asked = pair.directory / f"{verb}.asked"
        receive = [f"BSMTP_BATCH_PATH={sshd.path}", *RECEIVE, SITE, "--spool", pair.hub.path]
        self.pair.key = sshd.authorize(verb, "/bin/sh", "-c", LOGGED, self.asked, "env", *receive)
        self.relay = Relay(sshd.port)
        self.pair.port = self.relay.port
        self.sshd, self.verb, self.route, self.chance = sshd, verb, route, chance
        self.made: list[bytes] = []
        self.stages: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self.killed: Counter[str] = Counter()
        self.contacts = 0

    def seal(self, batches: int) -> None:
        """More mail for this direction."""
        first = len(self.made) + 1
        node = "site" if self.verb == "push" else "hub"
        sizes = {n: s for n, s in SIZES.items() if n >= first}
        self.made += sealed(self.route, batches, node=node, first=first, sizes=sizes)

    def waiting(self) -> list[int]:
        """The sizes of the batches that have not been acknowledged, smallest first."""
        return sorted(p.stat().st_size for p in Path(self.route.at("ready")).glob("*.bsmtp"))

    def measure(self) -> None:
        """How many octets a contact without a batch takes, and how many more one small batch."""
        self.run()
        self.empty = self.relay.total
        self.seal(1)
        self.run()
        self.one = self.relay.total - 2 * self.empty
        assert self.waiting() == [] and self.one > 0

    def offset(self) -> int:
        """A place in the traffic of the next contact: anywhere up to its second batch."""
        sizes = self.waiting()
        listed = 500 * len(sizes) if self.verb == "pull" else 0
        return self.chance.randrange(self.empty + listed + 2 * self.one + sizes[0])

    def run(self) -> int:
        """One contact; its exit code."""
        process = self.near = self.pair.start(self.verb)
        self.contacts += 1
        out, err = process.communicate(timeout=60)
        self.codes[process.returncode] += 1
        assert process.returncode in (0, 75, -9), out + err
        return process.returncode

    def trouble(self, what: str) -> bool:
        """One contact in which the line is cut, or the process ``what`` is killed, at a random octet; whether it came
        so far."""
        if len(self.waiting()) < 3:
            self.seal(2)
        done = []

        def stage() -> None:
            self.stages[self.stage()] += 1
            done.append(what)

        def murder() -> None:
            victims = self.victims(what)
            if not victims:  # not there yet: look again a little later
                self.relay.cut(200, relay.NOTHING, action=murder)
                return
            stage()
            self.killed[what] += kill(victims[0])
            self.relay.cut(self.one)  # killing the program that moves one batch ends that batch, not the contact

        if what == "line":
            self.relay.cut(self.offset(), self.chance.choice([relay.RESET, relay.CLOSE]), action=stage)
        else:
            self.relay.cut(self.offset(), relay.NOTHING, action=murder)
        self.run()
        self.relay.heal()
        return bool(done)

    def victims(self, what: str) -> list[int]:
        """The processes called ``what``."""
        far = [pid for pid in self.sshd.sessions() if words_of(pid)]
        movers: Callable[[list[int]], list[int]] = lambda pids: [p for p in pids if self.moves(p)]  # noqa: E731
        return {
            "near": [self.near.pid],
            "far": [p for p in far if "receive" in words_of(p) and "bsmtp_batch" in words_of(p)][:1],
            "near mover": movers(list(children(self.near.pid))),
            "far mover": movers(far),
        }[what]

    @staticmethod
    def moves(pid: int) -> bool:
        """Whether a process is ``rsync`` or ``scp``."""
        return Path((words_of(pid) or [""])[0]).name in ("rsync", "scp")

    def stage(self) -> str:
        """How far the contact is."""
        if self.victims("far mover"):
            return "batch"
        return "conversation" if self.victims("far") else "login"

    def finish(self) -> None:
        """Contacts that nobody disturbs, until nothing waits."""
        for _ in range(4):
            if self.run() == 0 and not self.waiting():
                return
        raise AssertionError(f"{self.verb}: {len(self.waiting())} batches still wait")

    def all(self) -> None:
        """The whole of it."""
        self.measure()
        self.seal(BATCHES - 1)
        troubles = ["line"] * CUTS + [v for v in VICTIMS for _ in range(KILLS)]
        self.chance.shuffle(troubles)
        for what in troubles:
            reached = self.trouble(what)
            while not reached:  # a program that is to be killed may be gone before it was looked for
                reached = self.trouble(what)
        self.finish()

    def close(self) -> None:
        """End the relay and with it every session."""
        self.relay.close()
        until = time.monotonic() + 30
        while self.sshd.sessions():
            assert time.monotonic() < until, [words_of(p) for p in self.sshd.sessions()]
            time.sleep(0.05)

    def __str__(self) -> str:
        return (
            f"{self.pair.scheme} {self.verb}: {len(self.made)} batches, {self.contacts} contacts (codes"
            f" {dict(self.codes)}), ended in {dict(self.stages)}, killed {dict(self.killed)},"
            f" {self.relay.up} + {self.relay.down} octets"
        )


@pytest.fixture
def pair(tmp_path: Path, sshd: Sshd, scheme: str):
    """A hub and a site; what a killed process leaves in its temporary directory goes with it."""
    made = Pair(sshd, tmp_path / "pair", scheme)
    made.temporary = tempfile.mkdtemp(prefix="b")  # ssh's socket needs a short path
    yield made
    shutil.rmtree(made.temporary)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["rsync", "scp"])
def test_every_batch_arrives_once_through_cuts_and_kills(pair: Pair, tmp_path: Path, sshd: Sshd, scheme: str) -> None:
    seed = os.environ.get("BSMTP_BATCH_SEED") or str(random.randrange(2**32))
    print(f"BSMTP_BATCH_SEED={seed}")
    (tmp_path / "sshd").mkdir()
    second = Sshd(tmp_path / "sshd")
    roads = [
        Road(pair, sshd, "push", pair.up, random.Random(f"push {seed}")),
        Road(pair, second, "pull", pair.down, random.Random(f"pull {seed}")),
    ]
    try:
        with ThreadPoolExecutor(2) as both:
            for done in [both.submit(road.all) for road in roads]:
                done.result()
    finally:
        for road in roads:
            road.close()
            print(road)
        second.close()
    push, pull = roads
    assert_arrived_once(push, f"{pair.hub.path}/in/{SITE}")
    assert_arrived_once(pull, f"{pair.site.path}/in/hub")
    assert_ledgers_agree(pair)
    assert_contacts_recorded(pair, roads)
    assert sum(sum(road.stages.values()) for road in roads) == 2 * (CUTS + KILLS * len(VICTIMS))
    assert all(road.stages[stage] for road in roads for stage in ("login", "conversation", "batch"))
    assert len(os.listdir(pair.temporary)) <= sum(road.killed["near"] for road in roads)


def assert_arrived_once(road: Road, inbox: str) -> None:
    """What was handed in is in ``inbox``, and kept where it came from."""
    into = Route(road.pair.hub.path, "unused")
    into.path = inbox
    assert Counter(transactions(into, "new")) == Counter(road.made)
    assert Counter(transactions(road.route, "kept")) == Counter(road.made)
    assert road.waiting() == []
    assert not list(Path(inbox, "bad").iterdir())


def assert_ledgers_agree(pair: Pair) -> None:
    """Each end's ledger has what the other gave and took, and says the same of it."""
    for giver, taker in ((pair.hub, pair.site), (pair.site, pair.hub)):
        gave, took = rows(giver, "out"), rows(taker, "in")
        assert {(r.name, r.sha256, r.sequence, r.messages, r.octets) for r in gave.values()} == {
            (r.name, r.sha256, r.sequence, r.messages, r.octets) for r in took.values()
        }
        assert {r.state for r in gave.values()} == {"kept"}
        assert {r.state for r in took.values()} == {"new"}


def assert_contacts_recorded(pair: Pair, roads: list[Road]) -> None:
    """Every contact stands in the ledgers of both ends, but for processes that were killed. (The far one may have been
    hit when it had written that down and was about to end.)"""
    near, far = contacts(pair.site), contacts(pair.hub)
    for road in roads:
        mine = [c for c in near if c.direction == road.verb]
        assert len(mine) == road.contacts - road.codes[-9]
        assert road.codes[-9] == road.killed["near"]
    conversations = sum(road.asked.read_text().split("\n").count("receive") for road in roads)
    served = [c for c in far if not c.result.startswith("refused: ")]
    assert {(c.peer, c.direction) for c in far} == {(SITE, "receive")}
    assert 0 <= conversations - len(served) <= sum(road.killed["far"] for road in roads)
