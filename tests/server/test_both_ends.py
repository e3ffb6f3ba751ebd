"""Both ends are ours and the line between them is far away and keeps breaking: nothing is lost, and what came twice was
named. ``BSMTP_BATCH_SEED`` repeats a run's offsets."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from support.accounts import SECRET
from support.mailcheck import read_batch
from support.relay import CLOSE, DOWN, RESET, UP, Relay
from support.turned import hub, numbered, stuffed

from bsmtp_batch.ledger import Ledger
from bsmtp_batch.odmr import Access, Means, Provider, Terms, collect
from bsmtp_batch.odmr.address import Place
from bsmtp_batch.reception.store import Store
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.routes import make_spool

SITES, CUTS = 15, 14
"""No more sites than one address may have connections (20), or the cuts are spent on being told so."""
DELAY = 0.05
"""Seconds in each direction: a round trip is 100 ms."""
REACH = {UP: 500, DOWN: 2000}
"""Octets of each direction within which a cut falls: a contact or two."""


class Customer:
    """A site that collects from the daemon into a spool of its own, again and again, over a line that is cut."""

    def __init__(self, name, office, port, base, seed):
        self.name, self.office, self.route = name, office, f"{name}.example"
        self.base = str(base / name)
        make_spool(self.base)
        self.inbox = Inbox(self.base, "hub")
        self.relay = Relay(port, delay=DELAY)
        self.dice = random.Random(f"{seed} {name}")
        access = Access("none", user=name.encode(), password=SECRET.encode())
        self.provider = Provider(Place("127.0.0.1", self.relay.port), access, node=self.route)
        self.store = Store(self.inbox, self.route, self.ledger)
        self.sent, self.named = Counter(), Counter()
        self.cuts, self.codes, self.asked = Counter(), Counter(), True

    def ledger(self):
        return Ledger(f"{self.base}/ledger.db")

    def run(self):
        try:
            numbers = itertools.count(1, 2)
            for direction in [UP, DOWN] * (CUTS // 2):
                after, how = self.dice.randrange(1, REACH[direction]), self.dice.choice([RESET, CLOSE])
                self.relay.cut(after, how, direction=direction)
                while not self.relay.fired.is_set():
                    self.sent.update(self.office.fill(2, self.route, first=next(numbers)))
                    self.contact()
                self.cuts[direction] += 1
            self.relay.heal()
            while not self.contact().empty:
                pass
        finally:
            self.relay.close()

    def contact(self):
        self.asked = False
        with self.ledger() as ledger:
            found = collect(self.provider, Means(self, ledger, self), Terms(self.route))
        self.codes[found.code] += 1
        return found

    def begin(self, mail, rcpts):
        """A message is about to come. Before the first of a contact: what does the hub's ledger name?"""
        if not self.asked:
            self.asked = True
            with self.office.ledger() as ledger:
                self.named.update(ledger.in_doubt())
        return self.store.begin(mail, rcpts)

    def event(self, event):
        """Nobody listens."""

    def got(self):
        """The contents that are in the spool, as they stand on the wire."""
        paths = Path(self.inbox.at("new")).glob("*.bsmtp")
        return Counter(stuffed(parcel) for path in paths for parcel in read_batch(path.read_bytes()))


@pytest.mark.timeout(150)
def test_two_hundred_cuts_lose_nothing_and_double_only_what_the_hub_had_named(tmp_path):
    seed = os.environ.get("BSMTP_BATCH_SEED") or str(random.randrange(2**32))
    print(f"BSMTP_BATCH_SEED={seed}")
    names = [f"site{n}" for n in range(SITES)]
    with hub(tmp_path, names) as (office, port):
        sites = [Customer(name, office, port, tmp_path / "sites", seed) for name in names]
        threads = [threading.Thread(target=site.run) for site in sites]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(140)
            assert not thread.is_alive()
    doubled = 0
    for site in sites:
        assert site.cuts == {UP: CUTS // 2, DOWN: CUTS // 2}
        doubled += assert_whole(site, numbered(office.routes[site.route]))
        assert site.codes.keys() <= {0, 75}, "a line that breaks is no setting to be changed"
    with office.ledger() as ledger:
        assert ledger.in_doubt() == []
    print(
        f"{sum(site.cuts.total() for site in sites)} cuts, {sum((s.codes for s in sites), Counter())}, {doubled} twice"
    )


def assert_whole(site, contents):
    """Everything is there, and what is there twice had been named; how many those are."""
    got = site.got()
    assert got.keys() == site.sent.keys(), f"{site.name} lacks {len(site.sent - got)}"
    doubled = got - site.sent
    assert doubled <= Counter(contents[one] for one in site.named.elements() if one in contents), site.name
    assert doubled.total() <= site.cuts.total()
    assert not list(Path(site.inbox.at("tmp")).iterdir()), "what was cut off is forgotten"
    return doubled.total()
