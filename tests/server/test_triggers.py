"""Pushes that somebody outside starts: to the configured server, never to who asks, and not as often as he likes."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from ipaddress import ip_network

import pytest

from bsmtp_batch.server.contract import Client
from bsmtp_batch.server.triggers import PAUSE, Pushes, PushTriggers

INSIDE, OUTSIDE, KNOCKER = Client("192.0.2.9"), Client("203.0.113.5"), Client("198.51.100.7")
DOMAINS = {
    "site.example": frozenset({"site.example", "www.site.example"}),
    "deep.yard.example": frozenset({"deep.yard.example"}),
    "quay.yard.example": frozenset({"quay.yard.example", "quay.example"}),
    "lonely.example": frozenset({"lonely.example"}),
}
PEERS = {"site.example": "site", "deep.yard.example": "yard", "quay.yard.example": "yard"}
RIGHTS = {"aurora": ["site.example"], "boreas": ["lonely.example"], "nobody": []}


class Later(Executor):
    """Runs what it was given when the test says so."""

    def __init__(self):
        self.jobs = []

    def submit(self, fn, /, *args, **kwargs):
        self.jobs.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self):
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


class Rig:
    def __init__(self):
        self.ran, self.later, self.time = [], Later(), 100.0
        networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
        knocks = {KNOCKER.address: "yard", "2001:db8::7": "site"}
        pushes = Pushes(lambda: DOMAINS, PEERS, lambda name: RIGHTS[name], networks, knocks, self.run)
        self.triggers = PushTriggers(pushes, self.later, now=lambda: self.time)

    def run(self, peer, routes):
        self.ran.append((peer, routes))
        if peer == "broken":
            raise OSError

    def ask(self, name, client=INSIDE, account=None):
        option, name = (name[:1], name[1:]) if name[:1] in ("@", "#") else ("", name)
        code = self.triggers.etrn(name.encode(), option.encode(), client, account).code
        self.later.run()
        return code


@pytest.fixture
def rig():
    return Rig()


@pytest.mark.parametrize(
    ("asked", "code", "ran"),
    [
        ("site.example", 250, [("site", ("site.example",))]),
        ("SITE.Example", 250, [("site", ("site.example",))]),
        ("www.site.example", 250, [("site", ("site.example",))]),
        ("@site.example", 250, [("site", ("site.example",))]),
        ("@yard.example", 250, [("yard", ("deep.yard.example", "quay.yard.example"))]),
        ("@example", 250, [("site", ("site.example",)), ("yard", ("deep.yard.example", "quay.yard.example"))]),
        ("quay.example", 250, [("yard", ("quay.yard.example",))]),
        ("#site.example", 250, [("site", ("site.example",))]),
        ("#www.site.example", 459, []),
        ("#@", 459, []),
        ("yard.example", 459, []),
        ("ite.example", 459, []),
        ("@ite.example", 459, []),
        ("unknown.example", 459, []),
        ("@", 459, []),
        ("lonely.example", 458, []),
        ("#lonely.example", 458, []),
    ],
)
def test_what_a_name_starts_for_those_who_may_ask_for_all(rig, asked, code, ran):
    assert rig.ask(asked) == code
    assert rig.ran == ran


@pytest.mark.parametrize("asked", ["site.example", "lonely.example", "unknown.example", "@example", "#site.example"])
def test_a_stranger_gets_one_answer_whatever_he_names(rig, asked):
    assert rig.ask(asked, OUTSIDE) == 459
    assert rig.ran == []


def test_an_account_asks_for_its_own_from_anywhere_and_for_nothing_else_from_inside(rig):
    assert rig.ask("site.example", OUTSIDE, "aurora") == 250
    assert rig.ask("@example", OUTSIDE, "aurora") == 250
    assert rig.ask("deep.yard.example", INSIDE, "aurora") == 459
    assert rig.ask("lonely.example", OUTSIDE, "boreas") == 458
    assert rig.ask("site.example", INSIDE, "nobody") == 459
    assert rig.ran == [("site", ("site.example",))]


def test_a_network_is_known_whatever_the_version_of_the_address(rig):
    assert rig.ask("site.example", Client("2001:db8:1::5")) == 250
    assert rig.ask("site.example", Client("2001:db9::5")) == 459


def test_a_hundred_askers_start_one_push(rig):
    assert {rig.triggers.etrn(b"site.example", b"", INSIDE, None).code for _ in range(100)} == {250}
    assert len(rig.later.jobs) == 1
    rig.time += 10 * PAUSE
    rig.ask("site.example")
    assert len(rig.ran) == 1, "it was still going on"
    assert rig.ask("site.example") == 250
    assert len(rig.ran) == 1, "it ended a moment ago"
    rig.time += PAUSE
    assert rig.ask("site.example") == 250
    assert len(rig.ran) == 2


def test_a_site_with_two_routes_asks_for_one_after_the_other(rig):
    for _ in range(3):
        assert rig.ask("deep.yard.example") == 250
        assert rig.ask("quay.example") == 250
    rig.triggers.connected(KNOCKER)
    rig.later.run()
    assert rig.ran == [("yard", ("deep.yard.example",)), ("yard", ("quay.yard.example",))]


def test_a_push_that_fails_does_not_block_the_next(rig):
    def failing(peer, routes):
        rig.ran.append((peer, routes))
        raise OSError("the disk")

    object.__setattr__(rig.triggers._pushes, "run", failing)
    with pytest.raises(OSError, match="the disk"):
        rig.ask("site.example")
    rig.time += PAUSE
    with pytest.raises(OSError, match="the disk"):
        rig.ask("site.example")
    assert len(rig.ran) == 2


def test_a_push_for_which_there_is_no_thread_is_begun_the_next_time(rig, monkeypatch):
    def none(*args):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(rig.later, "submit", none)
        rig.ask("site.example")
    rig.time += PAUSE
    assert rig.ask("site.example") == 250
    assert rig.ran == [("site", ("site.example",))]


def test_a_knock_starts_the_push_to_the_peer_that_is_configured_for_the_address(rig):
    for client in (OUTSIDE, INSIDE, Client("local")):
        rig.triggers.connected(client)
    assert rig.later.jobs == []

    for _ in range(50):
        rig.triggers.connected(KNOCKER)
    rig.later.run()
    assert rig.ran == [("yard", ("deep.yard.example", "quay.yard.example"))]
