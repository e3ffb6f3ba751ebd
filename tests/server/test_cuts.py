"""A line that is far away and keeps breaking: nothing is lost, what came twice was named, and waiting is rare."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter

import pytest
from support.accounts import SECRET
from support.corpus import corpus
from support.dispatching import Hub as Sealer
from support.importing import Letter
from support.odmr_raw import Wire, log_in
from support.relay import CLOSE, RESET, Relay
from support.served import dial
from support.turned import hub, numbered

SITES, CUTS = 15, 14
DELAY = 0.05
"""Seconds in each direction: a round trip is 100 ms."""


class Site:
    """A customer who writes down every message before he says yes to it."""

    def __init__(self, name, office, port, *, delay=DELAY):
        self.name, self.office, self.route = name, office, f"{name}.example"
        self.relay = Relay(port, delay=delay)
        self.dice = random.Random(name)
        self.got, self.sent, self.named = Counter(), Counter(), Counter()
        self.cuts = 0

    def run(self):
        try:
            numbers = itertools.count(1, 2)
            for _ in range(CUTS):
                self.relay.cut(self.dice.randrange(1, 2500), self.dice.choice([RESET, CLOSE]))
                while not self.relay.fired.is_set():
                    self.sent.update(self.office.fill(2, self.route, first=next(numbers)))
                    self.contact()
                self.cuts += 1
            self.relay.heal()
            while self.contact() != b"453":
                pass
        finally:
            self.relay.close()

    def contact(self):
        """One contact as far as it comes; the code of the reply to ATRN, if one came."""
        code = b""
        try:
            wire = dial(self.relay.port)
        except OSError:
            return code  # cut before it was a connection
        try:
            log_in(wire, self.name, SECRET)
            code = wire.ask(b"ATRN")[:3]
            if code == b"250":
                self.named.update(self.doubtful())
                self.take(wire)
        except (OSError, AssertionError):
            pass
        finally:
            wire.close()
        return code

    def doubtful(self):
        """What the ledger names now, of our own batches."""
        with self.office.ledger() as ledger:
            return ledger.in_doubt()

    def take(self, wire: Wire):
        wire.say(b"220 site")
        while command := wire.line():
            verb = command[:4].upper()
            if verb == b"EHLO":
                wire.say(b"250-site", b"250-PIPELINING", b"250 8BITMIME")
            elif verb == b"DATA":
                wire.say(b"354 go on")
                self.got[wire.content().replace(b"\r\n.", b"\r\n..")] += 1
                wire.say(b"250 ok")
            elif verb == b"QUIT":
                wire.say(b"221 bye")
                return
            else:
                wire.say(b"250 ok")


@pytest.mark.timeout(150)
def test_two_hundred_cuts_lose_nothing_and_double_only_what_the_ledger_named(tmp_path):
    names = [f"site{n}" for n in range(SITES)]
    with hub(tmp_path, names) as (office, port):
        sites = [Site(name, office, port) for name in names]
        threads = [threading.Thread(target=site.run) for site in sites]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(140)
            assert not thread.is_alive()
    assert sum(site.cuts for site in sites) >= 200
    for site in sites:
        contents = numbered(office.routes[site.route])
        named = Counter(contents[one] for one in site.named.elements() if one in contents)
        assert site.got.keys() == site.sent.keys()
        doubled = site.got - site.sent
        assert doubled <= named, "it came twice and the ledger had not named it"
        assert doubled.total() <= site.cuts
    with office.ledger() as ledger:
        assert ledger.in_doubt() == []
    print(f"{sum(s.cuts for s in sites)} cuts, {sum((s.got - s.sent).total() for s in sites)} doubled, ")


def flights(tmp_path, letters):
    """The round trips that sending ``letters`` takes, from the greeting to QUIT."""
    with hub(tmp_path, ["aurora"]) as (office, port):
        sealer = Sealer.__new__(Sealer)
        sealer.spool, sealer.route, sealer._handed = office.base, office.routes["aurora.example"], 0
        sealer.seal(letters)
        site = Site("aurora", office, port, delay=0.0)
        try:
            wire = dial(site.relay.port)
            log_in(wire, "aurora", SECRET)
            assert wire.ask(b"ATRN").startswith(b"250")
            before = site.relay.flights
            site.take(wire)
            wire.close()
            assert site.got.total() == len(letters)
            return site.relay.flights - before
        finally:
            site.relay.close()


def test_it_waits_for_a_far_customer_a_fifth_as_often_as_one_command_at_a_time_would(tmp_path):
    """Counted in round trips, of which each costs the delay of the line."""
    mails = [mail for mail in corpus() if not mail.utf8][:60]
    letters = [
        Letter(to=tuple(rcpt.encode() for rcpt in mail.rcpts), content=b"Subject: %d\r\n\r\nx\r\n" % mail.number)
        for mail in mails
    ]
    one_by_one = sum(3 + len(mail.rcpts) for mail in mails)  # MAIL, each RCPT, DATA, the content

    taken = flights(tmp_path, letters)

    print(f"{taken} flights for {one_by_one} commands and {len(letters)} messages")
    assert taken * 5 <= one_by_one
