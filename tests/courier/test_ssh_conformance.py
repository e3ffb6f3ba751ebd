"""The suite over a real sshd, with real ssh, scp and rsync: each courier pushed with and pulled with."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest
from courier.conformance import HUB_ROUTE, SITE_ROUTE, Conformance, Link, arrived
from support import pair
from support.batches import manifests
from support.relay import Relay

from bsmtp_batch.courier.contact import pull, push
from bsmtp_batch.courier.contract import Cut
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.schemes import courier_for
from bsmtp_batch.ledger import Ledger

pytestmark = pytest.mark.real

PEERS = f'[peer.hub]\nroutes = ["{SITE_ROUTE}"]\n[peer.site]\nroutes = ["{HUB_ROUTE}"]\n'

EMPTY: dict[str, int] = {}
"""Octets of a contact in which nothing is moved, by scheme."""


class PushLink(Link):
    """Who sends has the courier; the forced command takes."""

    def __init__(self, directory, sshd, relay, scheme):
        super().__init__(directory)
        self.sshd, self.relay, self.scheme = sshd, relay, scheme
        self.directory = directory
        self.settings = directory / "far.toml"
        self.settings.write_text(PEERS)

    def origin(self, spool):
        return "hub" if spool is self.hub else "site"

    def key(self, origin, far):
        return self.sshd.customer(f"conformance.{origin}", origin, far.path, "--config", str(self.settings))

    def courier(self, near, far):
        options = Options(
            identity=str(self.key(self.origin(near), far)),
            known_hosts=str(self.sshd.known_hosts),
        )
        return courier_for(self.sshd.url(self.scheme, self.relay.port), options)

    def hand_over(self, sender, receiver):
        with Ledger(sender.ledger) as ledger:
            return self.until_cut(push(sender.chosen([]), self.courier(sender, receiver), ledger))

    @staticmethod
    def until_cut(events):
        found = []
        try:
            found.extend(events)
        except Cut:
            return []
        return found

    def bring_receipts(self, sender, receiver):
        return []

    def lose_receipts(self, sender, receiver):
        route = sender.chosen([])[0]
        for name in [m.name for m in manifests(route, "kept")]:
            for file in (name, name + ".json"):
                os.rename(route.at("kept", file), route.at("ready", file))

    def say(self, route, receipt):
        courier = self.courier(self.hub, self.site)

        def enough(*_):
            raise Cut("enough", safe="x", next="x")

        courier.receipts = lambda route: iter([receipt])
        courier.send = enough
        events = []
        with Ledger(self.hub.ledger) as ledger, pytest.raises(Cut):
            for event in push([route], courier, ledger):
                events.append(event)
        return events

    @contextmanager
    def cut(self, octets):
        """So many octets beyond those of the ssh connection and of an empty conversation: of the batch come fewer."""
        if self.scheme not in EMPTY:
            before = self.relay.total
            with self.courier(self.hub, self.site) as courier:
                list(courier.offers([]))
            EMPTY[self.scheme] = self.relay.total - before
        self.relay.cut(EMPTY[self.scheme] + octets)
        try:
            yield
        finally:
            self.relay.heal()


class PullLink(PushLink):
    """Who takes has the courier; the forced command gives."""

    def hand_over(self, sender, receiver):
        with Ledger(receiver.ledger) as ledger:
            return self.until_cut(pull(receiver, None, self.courier(receiver, sender), ledger))

    def say(self, route, receipt):
        said = receipt.to_bytes().replace(b"ACK", b"ack") + b"quit\n"
        done = self.sshd.ssh(self.key("site", self.hub), "receive", input=said)
        assert b"\nNO 65 " in done.stdout

        class Said:
            code = done.returncode

        return [Said()]


@pytest.fixture(autouse=True)
def _programs(sshd, monkeypatch):
    monkeypatch.setenv("BSMTP_BATCH_PATH", sshd.path)


@pytest.fixture(scope="module")
def relay(sshd):
    between = Relay(sshd.port)
    yield between
    between.close()


class OverSsh(Conformance):
    stride = 29
    kind: type[PushLink]
    scheme: str

    @pytest.fixture
    def link(self, tmp_path, sshd, relay):
        self._sshd, self._relay = sshd, relay
        return self.kind(tmp_path, sshd, relay, self.scheme)

    def fresh(self, directory):
        return self.kind(directory, self._sshd, self._relay, self.scheme)


class TestScpPush(OverSsh):
    kind, scheme = PushLink, "scp"


class TestScpPull(OverSsh):
    kind, scheme = PullLink, "scp"


class TestRsyncPush(OverSsh):
    kind, scheme = PushLink, "rsync"


class TestRsyncPull(OverSsh):
    kind, scheme = PullLink, "rsync"


@pytest.mark.parametrize("kind", [PushLink, PullLink])
@pytest.mark.parametrize(("scheme", "again"), [("rsync", False), ("scp", True)])
def test_what_a_cut_left_is_gone_on_with_by_rsync_and_sent_again_by_scp(tmp_path, sshd, relay, kind, scheme, again):
    link = kind(tmp_path, sshd, relay, scheme)
    made = pair.sealed(link.out, 1, node="hub", sizes={1: 16_000_000})
    size = manifests(link.out)[0].bytes
    relay.cut(size // 2)
    link.hand_over(link.hub, link.site)
    assert relay.fired.is_set() and not arrived(link.site)
    before = relay.total

    link.hand_over(link.hub, link.site)

    went = relay.total - before
    assert arrived(link.site) == made
    # ssh itself holds a window of 2 MB, which is lost with the line.
    assert went > size if again else went < size // 2 + 3_000_000
