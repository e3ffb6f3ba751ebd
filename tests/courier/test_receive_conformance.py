"""The suite over ``receive``: as the taker (pushed to) and as the giver (pulled from)."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from courier.conformance import Conformance, Link, arrived, sealed
from support.batches import manifests
from support.pipe_courier import Far, PipeCourier

from bsmtp_batch.courier.contact import pull, push
from bsmtp_batch.courier.contract import Cut
from bsmtp_batch.ledger import Ledger


class PushLink(Link):
    """Who sends has the courier; ``receive`` takes."""

    budget = None
    deaf = False

    def origin(self, spool):
        return "hub" if spool is self.hub else "site"

    def hand_over(self, sender, receiver):
        far = []

        def connect():
            far.append(Far(receiver, self.origin(sender), []))
            return far[0]

        courier = PipeCourier(connect, budget=self.budget)
        with Ledger(sender.ledger) as ledger:
            try:
                events = list(push(sender.chosen([]), courier, ledger))
            except Cut:
                return []
            finally:
                self.fail_with(far)
        return events

    @staticmethod
    def fail_with(far):
        """A kill in the thread is a kill of the test's process."""
        for one in far:
            if one.error is not None and not isinstance(one.error, Exception):
                raise one.error

    def bring_receipts(self, sender, receiver):
        return []

    def lose_receipts(self, sender, receiver):
        route = sender.chosen([])[0]
        for name in [m.name for m in manifests(route, "kept")]:
            for file in (name, name + ".json"):
                import os

                os.rename(route.at("kept", file), route.at("ready", file))

    def say(self, route, receipt):
        class Liar(PipeCourier):
            def receipts(self, route):
                return iter([receipt])

            def send(self, parcel, path, moved):
                raise Cut("enough", safe="x", next="x")

        events = []
        with Ledger(self.hub.ledger) as ledger, pytest.raises(Cut):
            for event in push([route], Liar(lambda: Far(self.site, "hub", [])), ledger):
                events.append(event)
        return events

    @contextmanager
    def cut(self, octets):
        self.budget = octets
        try:
            yield
        finally:
            self.budget = None


class PullLink(PushLink):
    """Who takes has the courier; ``receive`` gives."""

    def hand_over(self, sender, receiver):
        far = []

        def connect():
            far.append(Far(sender, self.origin(receiver), sender.routes()))
            return far[0]

        with Ledger(receiver.ledger) as ledger:
            try:
                events = list(pull(receiver, None, PipeCourier(connect, budget=self.budget), ledger))
            except Cut:
                return []
            finally:
                self.fail_with(far)
        return events

    def say(self, route, receipt):
        far = Far(self.hub, "site", [route.name])
        answer = far.converse(b"ack %s %s\n" % (receipt.name.encode(), receipt.sha256.encode()), b"quit\n")
        assert b"\nNO 65 " in answer

        class Said:
            code = far.tally.code

        return [Said()]


class TestPushedTo(Conformance):
    stride = 3

    @pytest.fixture
    def link(self, tmp_path):
        return PushLink(tmp_path)

    def fresh(self, directory):
        return PushLink(directory)

    def test_a_cut_transfer_goes_on_where_it_stopped(self, link):
        made = sealed(link.out, 50)
        size = manifests(link.out)[0].bytes
        with link.cut(size - 100):
            link.hand_over(link.hub, link.site)

        with link.cut(101):
            link.hand_over(link.hub, link.site)

        assert arrived(link.site) == made


class TestPulledFrom(Conformance):
    stride = 5

    @pytest.fixture
    def link(self, tmp_path):
        return PullLink(tmp_path)

    def fresh(self, directory):
        return PullLink(directory)

    def test_a_customer_sees_only_the_routes_that_were_given(self, link):
        sealed(link.out, 1)
        name = manifests(link.out)[0].name.encode()

        far = Far(link.hub, "other", [])
        answer = far.converse(b"list\n", b"get " + name + b" 0\n", b"ack " + name + b" " + b"0" * 64 + b"\n")

        assert b"BATCH" not in answer
        assert answer.count(b"NO 65 there is no batch") == 2
