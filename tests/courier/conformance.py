"""What every courier must do. A courier's tests subclass :class:`Conformance` and give it a ``link`` fixture.

Written once against the contract, so that the promises of a new courier are not a matter of its author's memory.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.batches import manifests, transactions
from support.crash import Faulty, stopped_at
from support.fragments import fill, make_route, text, tree

from bsmtp_batch.courier.contact import Event
from bsmtp_batch.handover.parcel import Receipt
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, Sealed, seal_route
from bsmtp_batch.spool import names, recover
from bsmtp_batch.spool.store import Route, Spool

HUB_ROUTE, SITE_ROUTE = "site.example", "hub.example"


class Link(ABC):
    """Two spools, ``hub`` and ``site``, and a courier between them."""

    def __init__(self, directory: Path) -> None:
        self.hub = Spool(str(directory / "hub"))
        self.site = Spool(str(directory / "site"))
        self.out = make_route(directory / "hub", HUB_ROUTE)
        self.back = make_route(directory / "site", SITE_ROUTE)

    @abstractmethod
    def hand_over(self, sender: Spool, receiver: Spool) -> list[Event]:
        """The contacts in which batches of ``sender`` get to ``receiver``. The receipts may not be back after it."""

    @abstractmethod
    def bring_receipts(self, sender: Spool, receiver: Spool) -> list[Event]:
        """The contact after which ``sender`` has the receipts; nothing to do where they came back at once."""

    @abstractmethod
    def lose_receipts(self, sender: Spool, receiver: Spool) -> None:
        """Make it so that what ``receiver`` has said never got to ``sender``."""

    @abstractmethod
    def say(self, route: Route, receipt: Receipt) -> list[Event]:
        """Have the far side say ``receipt`` for a batch of ``route``, and the contact in which it is heard."""

    @abstractmethod
    def cut(self, octets: int) -> AbstractContextManager[None]:
        """While it is open, a transfer ends after ``octets`` octets of a batch."""

    def carry(self, sender: Spool, receiver: Spool) -> list[Event]:
        """Everything, until the receipts are back."""
        return self.hand_over(sender, receiver) + self.bring_receipts(sender, receiver)


def sealed(
    route: Route, count: int, *, first: int = 1, per_batch: int = 10_000, node: str = "hub", signed: bool = False
) -> list[bytes]:
    """Hand ``count`` messages in and seal them; ``signed`` by something that nobody checks."""
    made = fill(route, count, first=first)
    sign = (lambda manifest: b"over " + manifest) if signed else None
    events = seal_route(route, node=node, caps=Caps(10**9, per_batch), reserve_size=0, sign=sign)
    assert all(isinstance(e, Sealed) for e in events)
    return made


def signatures(directory: str) -> dict[str, bytes]:
    """The signatures in ``directory``, by name."""
    return {p.name: p.read_bytes() for p in Path(directory).glob("*.sig")}


def arrived(spool: Spool, origin: str = "hub") -> list[bytes]:
    """The transactions in ``in/ORIGIN/new``, each batch checked against its manifest."""
    inbox = Route(spool.path, "unused")
    inbox.path = f"{spool.path}/in/{origin}"
    if not os.path.isdir(inbox.at("new")):
        return []
    manifests(inbox, "new")
    return transactions(inbox, "new")


def noted(spool: Spool, direction: str) -> set[tuple[str, str, str]]:
    """Name, sha256 and state of the batches in the ledger of ``spool``."""
    with Ledger(spool.ledger, read_only=True) as ledger:
        return {(row.name, row.sha256, row.state) for row in ledger.batches(direction=direction)}


def codes(events: list[Event]) -> set[int]:
    return {e.code for e in events}


class Conformance:
    """The suite. ``stride``: every so many steps a contact is stopped at; 1 for the courier that is quickest to try."""

    stride = 1

    def test_a_batch_arrives_whole_and_is_kept_after_its_receipt(self, link):
        made = sealed(link.out, 3)

        events = link.carry(link.hub, link.site)

        assert arrived(link.site) == made
        assert tree(link.out.at("ready")) == {}
        assert transactions(link.out, "kept") == made
        assert codes(events) == {0}

    def test_a_signature_arrives_beside_its_batch(self, link):
        sealed(link.out, 1, signed=True)
        sealed(link.out, 1, first=9)

        link.carry(link.hub, link.site)

        there = signatures(f"{link.site.path}/in/hub/new")
        assert len(there) == 1
        assert there == signatures(link.out.at("kept"))
        assert tree(link.out.at("ready")) == {}

    def test_both_directions_at_once(self, link):
        down = sealed(link.out, 2)
        up = sealed(link.back, 2, first=10, node="site")

        link.carry(link.hub, link.site)
        link.carry(link.site, link.hub)

        assert arrived(link.site) == down
        assert arrived(link.hub, "site") == up
        assert tree(link.out.at("ready")) == tree(link.back.at("ready")) == {}

    def test_the_same_batch_again_arrives_once_and_is_acknowledged_again(self, link):
        made = sealed(link.out, 1)
        link.hand_over(link.hub, link.site)
        link.lose_receipts(link.hub, link.site)
        assert tree(link.out.at("ready")) != {}

        link.carry(link.hub, link.site)

        assert arrived(link.site) == made
        assert tree(link.out.at("ready")) == {}

    @pytest.mark.parametrize("where", ["work", "done", "bad"])
    def test_it_is_acknowledged_again_wherever_it_went_meanwhile(self, link, where):
        sealed(link.out, 1)
        link.hand_over(link.hub, link.site)
        link.lose_receipts(link.hub, link.site)
        for path in Path(f"{link.site.path}/in/hub/new").iterdir():
            path.rename(path.parent.parent / where / path.name)

        link.carry(link.hub, link.site)

        assert arrived(link.site) == []
        assert tree(link.out.at("ready")) == {}

    def test_it_is_acknowledged_again_when_only_the_ledger_remembers_it(self, link):
        sealed(link.out, 1)
        link.hand_over(link.hub, link.site)
        link.lose_receipts(link.hub, link.site)
        (manifest,) = manifests(link.out)
        for path in Path(f"{link.site.path}/in/hub/new").iterdir():
            path.unlink()
        with Ledger(link.site.ledger) as ledger:
            ledger.note_batch("in", "hub", manifest.name, 1, manifest.sha256, 1, 1, manifest.bytes, "done")

        link.carry(link.hub, link.site)

        assert arrived(link.site) == []
        assert tree(link.out.at("ready")) == {}

    def test_the_same_name_with_other_bytes_is_refused_and_ours_stays(self, link, tmp_path):
        sealed(link.out, 1)
        (name,) = [n for n in os.listdir(link.out.at("ready")) if n.endswith(".bsmtp")]
        link.hand_over(link.hub, link.site)
        before = tree(f"{link.site.path}/in/hub/new")
        link.lose_receipts(link.hub, link.site)
        other = make_route(tmp_path / "other", HUB_ROUTE)
        sealed(other, 1, first=50)
        self.rename(other, name)
        for file in Path(link.out.path).rglob("*"):
            if file.is_file() and file.suffix in (".bsmtp", ".json", ".done"):
                file.write_bytes((Path(other.path) / file.relative_to(link.out.path)).read_bytes())

        events = link.carry(link.hub, link.site)

        assert 65 in codes(events)
        assert tree(f"{link.site.path}/in/hub/new") == before
        assert tree(link.out.at("ready")) != {}

    @staticmethod
    def rename(route: Route, name: str) -> None:
        """Make the one batch of ``route`` look as if it had always been called ``name``."""
        import dataclasses

        (manifest,) = manifests(route)
        old = route.at("ready", manifest.name)
        renamed = dataclasses.replace(manifest, name=name)
        intent = dataclasses.replace(route.intent(1, done=True), name=name, manifest=renamed.digest())
        Path(old).rename(route.at("ready", name))
        Path(old + ".json").unlink()
        Path(route.at("ready", name + ".json")).write_bytes(renamed.to_bytes())
        Path(route.list_path(1, done=True)).write_bytes(intent.to_bytes())

    def test_a_cut_at_any_place_shows_nothing_under_a_final_name(self, link):
        made = sealed(link.out, 20)
        size = os.path.getsize(link.out.at("ready", manifests(link.out)[0].name))
        for octets in (0, 1, size // 3, size - size // 3 - 2):  # together less than a courier that resumes needs
            with link.cut(octets):
                link.hand_over(link.hub, link.site)
                link.bring_receipts(link.hub, link.site)
            assert arrived(link.site) == []
            assert tree(link.out.at("ready")) != {}

        link.carry(link.hub, link.site)

        assert arrived(link.site) == made
        assert tree(link.out.at("ready")) == {}

    def test_small_batches_go_first(self, link):
        sealed(link.out, 9)
        sealed(link.out, 1, first=20)
        sealed(link.out, 4, first=30)

        events = [e for e in link.carry(link.hub, link.site) if e.kind in ("sent", "arrived")]

        verbs = {e.verb for e in events}
        assert verbs
        for verb in verbs:
            assert [e.messages for e in events if e.verb == verb] == [1, 4, 9]

    def test_a_batch_whose_list_is_not_done_is_not_taken(self, link, monkeypatch):
        """Its members are still in new/: a sealer stopped here would seal them once more after the batch has gone."""
        made = fill(link.out, 2)

        class Stopped(BaseException):
            pass

        def stop(route, intent):
            raise Stopped

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(recover, "finish_commit", stop)
            list(seal_route(link.out, node="hub", caps=Caps(), reserve_size=0))
        with link.out.sealing():  # so that the contact cannot finish it
            link.carry(link.hub, link.site)
            assert arrived(link.site) == []

        link.carry(link.hub, link.site)

        assert arrived(link.site) == made
        assert os.listdir(link.out.at("new")) == []

    @pytest.mark.parametrize("change", ["sha256", "name", "sequence"])
    def test_only_a_matching_receipt_releases(self, link, change):
        made = sealed(link.out, 1)
        (manifest,) = manifests(link.out)
        receipt = {
            "sha256": Receipt(manifest.name, "0" * 64),
            "name": Receipt(names.batch_name(HUB_ROUTE, 1, time.time() + 5000, "hub"), manifest.sha256),
            "sequence": Receipt(names.batch_name(HUB_ROUTE, 2, time.time(), "hub"), manifest.sha256),
        }[change]

        events = link.say(link.out, receipt)

        assert transactions(link.out) == made
        assert change != "sha256" or 65 in codes(events)

    def test_a_contact_stopped_at_any_step_of_either_side_is_taken_up_again(self, tmp_path, link, monkeypatch):
        faulty = Faulty()
        from bsmtp_batch.spool import durable

        made = sealed(link.out, 2, signed=True)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "posix", faulty)
            link.carry(link.hub, link.site)
        assert arrived(link.site) == made
        for step in range(1, faulty.calls + 1, self.stride):
            again = self.fresh(tmp_path / f"s{step}")
            made = sealed(again.out, 2, signed=True)
            stopped_at(monkeypatch, step, lambda again=again: again.carry(again.hub, again.site))
            again.carry(again.hub, again.site)
            again.carry(again.hub, again.site)
            assert arrived(again.site) == made, step
            assert transactions(again.out, "kept") == made, step
            assert tree(again.out.at("ready")) == {}, step
            there = signatures(f"{again.site.path}/in/hub/new")
            assert there == signatures(again.out.at("kept")) != {}, step

    def fresh(self, directory: Path) -> Link:
        """Another link of the same kind."""
        raise NotImplementedError

    def test_a_large_message_goes_through_unchanged(self, link):
        from support.fragments import put

        body = b"".join(b"%06d " % n + b"x" * 60 + b"\r\n" for n in range(20_000))
        put(link.out, text("a@x.org", "b@x.org", body=body))
        list(seal_route(link.out, node="hub", caps=Caps(), reserve_size=0))

        link.carry(link.hub, link.site)

        assert arrived(link.site) == [text("a@x.org", "b@x.org", body=body)]

    def test_contacts_are_in_the_ledger(self, link):
        sealed(link.out, 2)

        link.carry(link.hub, link.site)

        contacts = []
        for spool in (link.hub, link.site):
            if os.path.exists(spool.ledger):
                with Ledger(spool.ledger, read_only=True) as ledger:
                    contacts += ledger.last_contacts()
        assert contacts
        assert {c.result for c in contacts} == {"ok"}
