"""What a courier brings is taken only as it was sealed and signed: changed, exchanged, forged, repeated, it is noticed.

Each test goes two ways: ``pull`` from a directory, and ``put`` to ``receive``.
"""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from courier.conformance import HUB_ROUTE, sealed
from support.crash import Faulty
from support.fragments import fill, make_route, tree
from support.keys import allow, make_key

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.courier.contact import Terms, pull, push
from bsmtp_batch.courier.directory import Directory
from bsmtp_batch.edge.signing import MAX_SIGNATURE, Signer, verifier
from bsmtp_batch.handover.trust import UNSIGNED, Trust
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.receive.session import Receiver
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Spool
from bsmtp_batch.status import origin_status


@dataclass(frozen=True)
class Batch:
    """The three files of a batch, by content."""

    name: str
    data: bytes
    manifest: bytes
    signature: bytes = b""

    @classmethod
    def read(cls, path: Path) -> Batch:
        signature = path.with_name(path.name + ".sig")
        return cls(
            path.name,
            path.read_bytes(),
            path.with_name(path.name + ".json").read_bytes(),
            signature.read_bytes() if signature.exists() else b"",
        )

    def but(self, **changes: bytes) -> Batch:
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Answer:
    """What came of an offer: whether it was acknowledged, the worst exit code, and all that was said."""

    acknowledged: bool
    code: int
    said: str


class Site:
    """A spool that batches are brought to; asking for ``trust``."""

    def __init__(self, path: Path, trust: Trust = UNSIGNED) -> None:
        path.mkdir()
        self.spool = Spool(str(path))
        self.trust = trust
        self.inbox = Inbox(self.spool.path, "hub")
        self.ledger = Ledger(self.spool.ledger)

    def taken(self) -> dict[str, bytes]:
        return tree(self.inbox.at("new")) if os.path.isdir(self.inbox.at("new")) else {}

    def bring(self, batch: Batch) -> Answer:
        return self.bring_all([batch])[0]


class Pulling(Site):
    def bring_all(self, batches: list[Batch]) -> list[Answer]:
        return [self._bring(batch) for batch in batches]

    def _bring(self, batch: Batch) -> Answer:
        folder = Path(self.spool.path) / "medium" / HUB_ROUTE
        folder.mkdir(parents=True)
        for suffix, data in (("", batch.data), (".json", batch.manifest), (".sig", batch.signature)):
            if data:
                (folder / (batch.name + suffix)).write_bytes(data)
        courier = Directory(str(folder.parent))
        events = list(pull(self.spool, None, courier, self.ledger, terms=Terms(trust=self.trust)))
        answer = Answer(
            (folder / (batch.name + ".ack")).exists(),
            max((e.code for e in events), default=0),
            " ".join(e.note for e in events),
        )
        shutil.rmtree(folder.parent)
        return answer


class OneCommand(io.BytesIO):
    """Says one line and what follows it, and hangs up where another line is due."""

    said = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = b"" if self.said else super().readline(size)
        self.said = True
        return line


class Receiving(Site):
    def bring_all(self, batches: list[Batch]) -> list[Answer]:
        return [self._converse(batch) for batch in batches]

    def _converse(self, batch: Batch) -> Answer:
        """One batch in a contact of its own."""
        head = f"put {batch.name} {len(batch.data)} {len(batch.manifest)} {len(batch.signature)}\n".encode()
        told: list[str] = []
        writing = io.BytesIO()
        receiver = Receiver(
            self.inbox,
            [],
            self.ledger,
            reading=OneCommand(head + batch.manifest + batch.signature + batch.data),
            writing=writing,
            tell=told.append,
            trust=self.trust,
        )
        receiver.serve()
        said = writing.getvalue().decode()
        return Answer("\nACK " in said, receiver.tally.code, said + " ".join(told))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    place = tmp_path_factory.mktemp("keys")
    return {name: make_key(place / name) for name in ("hub", "other")}


@pytest.fixture(scope="module")
def trust(keys, tmp_path_factory):
    allowed = allow(tmp_path_factory.mktemp("allowed") / "signers", hub=keys["hub"], elsewhere=keys["other"])
    return Trust(True, verifier(allowed))


def made(directory: Path, count: int, *, sign=None, first: int = 1) -> list[Batch]:
    """Batches with the numbers 1 to ``count``, small ones."""
    route = make_route(directory, HUB_ROUTE)
    for number in range(count):
        fill(route, 1, first=first + number)
        list(seal_route(route, node="hub", caps=Caps(), reserve_size=0, sign=sign))
    return [Batch.read(path) for path in sorted(Path(route.at("ready")).glob("*.bsmtp"))]


@pytest.fixture(scope="module")
def signed(keys, tmp_path_factory):
    return made(tmp_path_factory.mktemp("signed") / "hub", 3, sign=Signer(keys["hub"].path).sign)


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory):
    return made(tmp_path_factory.mktemp("unsigned") / "hub", 3)


@pytest.fixture(params=[Pulling, Receiving])
def way(request, tmp_path, monkeypatch):
    """Makes sites. Nothing is synced: what a power cut would leave is a question for other tests."""
    monkeypatch.setattr(durable, "posix", Faulty())
    sites = []

    def make(trust: Trust = UNSIGNED) -> Site:
        sites.append(request.param(tmp_path / f"site{len(sites)}", trust))
        return sites[-1]

    yield make
    for site in sites:
        site.ledger.close()


def flipped(data: bytes) -> list[bytes]:
    """``data`` with one bit of one byte changed, for each byte in turn."""
    return [data[:place] + bytes([byte ^ 1]) + data[place + 1 :] for place, byte in enumerate(data)]


def assert_none_taken(site: Site, batches: list[Batch]) -> None:
    answers = site.bring_all(batches)
    passed = [place for place, answer in enumerate(answers) if answer.acknowledged or answer.code not in (65, 75)]
    assert passed == [], f"of {len(answers)}"
    assert len(answers) == len(batches) > 0
    assert not [name for name in site.taken() if name.endswith(".bsmtp")]


@pytest.mark.parametrize("kind", ["signed", "unsigned"])
def test_every_changed_byte_of_a_manifest_is_noticed(way, kind, request, trust):
    batch = request.getfixturevalue(kind)[0]
    site = way(trust if kind == "signed" else UNSIGNED)

    assert_none_taken(site, [batch.but(manifest=changed) for changed in flipped(batch.manifest)])

    assert site.bring(batch).acknowledged


@pytest.mark.parametrize("kind", ["signed", "unsigned"])
def test_every_changed_byte_of_a_batch_is_noticed(way, kind, request, trust):
    batch = request.getfixturevalue(kind)[0]
    site = way(trust if kind == "signed" else UNSIGNED)

    assert_none_taken(site, [batch.but(data=changed) for changed in flipped(batch.data)])

    assert site.bring(batch).acknowledged
    assert set(site.taken()) == {
        batch.name + suffix for suffix in ("", ".json", *([".sig"] if kind == "signed" else []))
    }


def test_every_changed_byte_of_a_signature_is_noticed(way, signed, trust):
    site = way(trust)

    assert_none_taken(site, [signed[0].but(signature=changed) for changed in flipped(signed[0].signature)])

    assert site.bring(signed[0]).acknowledged


def forged(batch: Batch, **changes: object) -> Batch:
    """A manifest that was changed and made to agree with itself again."""
    manifest = dataclasses.replace(Manifest.from_bytes(batch.manifest), **changes)
    return batch.but(manifest=manifest.to_bytes())


def test_only_what_an_allowed_key_signed_for_this_purpose_and_origin_is_taken(way, signed, keys, trust, tmp_path):
    good = signed[0]
    elsewhere = dataclasses.replace(
        Manifest.from_bytes(good.manifest), name=good.name.replace(".hub.", ".elsewhere."), origin="elsewhere"
    )
    stranger = make_key(tmp_path / "stranger")
    site = way(trust)

    refused = {
        "missing": good.but(signature=b""),
        "of a key nobody knows": good.but(signature=Signer(stranger.path).sign(good.manifest)),
        "of a key of another origin": good.but(signature=Signer(keys["other"].path).sign(good.manifest)),
        "for another origin": Batch(
            elsewhere.name, good.data, elsewhere.to_bytes(), Signer(keys["hub"].path).sign(elsewhere.to_bytes())
        ),
        "of another manifest": good.but(signature=signed[1].signature),
        "over what the manifest was": forged(good, recipients=7),
        "over another previous": forged(good, previous="0" * 64),
        "too long": good.but(signature=b"x" * MAX_SIGNATURE),
        "nonsense": good.but(signature=b"x"),
    }

    for what, batch in refused.items():
        answer = site.bring(batch)
        assert (answer.acknowledged, answer.code) == (False, 65), (what, answer)
    assert not os.path.isdir(f"{site.spool.path}/in/elsewhere"), "something was made for an origin nobody vouches for"
    assert site.taken() == {}
    assert site.bring(good).acknowledged


def test_a_signature_that_is_wrong_is_refused_also_where_none_is_required(way, signed, trust):
    site = way(Trust(False, trust.verify))

    assert not site.bring(signed[0].but(signature=signed[1].signature)).acknowledged
    assert site.bring(signed[0].but(signature=b"")).acknowledged


def test_a_signature_that_nobody_can_check_is_carried_along(way, signed):
    site = way(UNSIGNED)

    assert site.bring(signed[0]).acknowledged
    assert site.taken()[signed[0].name + ".sig"] == signed[0].signature


@pytest.mark.parametrize("broken", [Trust(True, None), Trust(True, verifier("/nowhere/allowed"))])
def test_what_cannot_be_checked_is_not_called_wrong_and_not_taken(way, signed, broken):
    site = way(broken)

    answer = site.bring(signed[0])

    assert not answer.acknowledged
    assert answer.code in (75, 78)
    assert site.taken() == {}


def test_exchanged_batches_are_noticed(way, unsigned):
    one, two, _ = unsigned
    site = way()

    assert_none_taken(site, [one.but(data=two.data), two.but(data=one.data)])
    assert_none_taken(site, [Batch(one.name, two.data, two.manifest), Batch(two.name, one.data, one.manifest)])


def test_a_batch_that_does_not_come_is_noticed_by_the_next(way, unsigned):
    site = way()
    assert "gap" not in site.bring(unsigned[0]).said

    assert "gap: 2 of site.example" in site.bring(unsigned[2]).said

    assert "2 did not come" in origin_status(site.inbox).missing[0]
    assert "late: 2 of site.example" in site.bring(unsigned[1]).said
    assert origin_status(site.inbox).missing == []


@pytest.mark.parametrize("where", ["new", "done", "ledger"])
def test_an_old_batch_that_is_played_again_is_not_taken_again(way, unsigned, where):
    site = way()
    for batch in unsigned:
        site.bring(batch)
    before = site.taken()
    if where != "new":
        for path in Path(site.inbox.at("new")).iterdir():
            path.rename(site.inbox.at("done", path.name)) if where == "done" else path.unlink()
        before = {}
        for batch in unsigned:
            m = Manifest.from_bytes(batch.manifest)
            site.ledger.note_batch("in", "hub", m.name, m.sequence, m.sha256, m.messages, m.recipients, m.bytes, "done")

    site.bring(unsigned[0])

    assert site.taken() == before
    assert origin_status(site.inbox).remarks == []


def test_the_same_name_with_other_content_is_an_alarm(way, unsigned):
    site = way()
    site.bring(unsigned[0])
    manifest = dataclasses.replace(Manifest.from_bytes(unsigned[1].manifest), name=unsigned[0].name, sequence=1)

    answer = site.bring(Batch(unsigned[0].name, unsigned[1].data, manifest.to_bytes()))

    assert (answer.acknowledged, answer.code) == (False, 65)
    assert "ALARM" in answer.said


def test_a_number_that_comes_again_with_another_batch_is_noticed_and_shown(way, unsigned):
    site = way()
    for batch in unsigned:
        site.bring(batch)
    manifest = Manifest.from_bytes(unsigned[1].manifest)
    route, sequence, when, node = names.parse_batch_name(manifest.name)
    again = dataclasses.replace(manifest, name=names.batch_name(route, sequence, when + 60, node))

    answer = site.bring(Batch(again.name, unsigned[1].data, again.to_bytes()))

    assert answer.acknowledged
    assert "replay: number 2" in answer.said
    assert "replay: number 2" in origin_status(site.inbox).remarks[0]
    (row,) = [r for r in site.ledger.batches(direction="in") if r.name == again.name]
    assert row.reason.startswith("replay:")


def test_a_batch_that_was_not_made_behind_the_one_before_it_is_noticed_and_shown(way, unsigned, tmp_path):
    """A spool that was restored from a copy, or a sealer that is not the one it says it is."""
    site = way()
    site.bring(unsigned[0])
    stranger = made(tmp_path / "stranger", 2, first=50)[1]

    answer = site.bring(stranger)

    assert answer.acknowledged, "what is noticed never stops anything"
    assert "chain: 2 of site.example" in answer.said
    assert "chain: 2 of site.example" in origin_status(site.inbox).remarks[0]
    (row,) = [r for r in site.ledger.batches(direction="in") if r.name == stranger.name]
    assert row.reason.startswith("chain:")
    assert site.bring(stranger).acknowledged
    assert len(origin_status(site.inbox).remarks) == 1


def test_a_stick_carries_the_signature_and_is_left_as_it_was_found(tmp_path, keys, trust):
    medium = tmp_path / "medium"
    medium.mkdir()
    route = make_route(tmp_path / "hub", HUB_ROUTE)
    (tmp_path / "site").mkdir()
    hub, site = Spool(route.spool), Spool(str(tmp_path / "site"))
    fill(route, 1)
    list(seal_route(route, node="hub", caps=Caps(), reserve_size=0, sign=Signer(keys["hub"].path).sign))
    sealed(route, 1, first=9)

    with Ledger(hub.ledger) as ours, Ledger(site.ledger) as theirs:
        list(push(hub.chosen([]), Directory(str(medium)), ours))
        assert len(list(medium.rglob("*.sig"))) == 1
        events = list(pull(site, None, Directory(str(medium)), theirs, terms=Terms(trust=trust)))
        assert [(e.kind, e.code) for e in events] == [("arrived", 0), ("refused", 65)]
        list(push(hub.chosen([]), Directory(str(medium)), ours))

    (signature,) = Path(site.path, "in", "hub", "new").glob("*.sig")
    assert signature.read_bytes() == Path(route.at("kept", signature.name)).read_bytes()
    assert len(list(medium.rglob("*.bsmtp*"))) == 2


def test_a_signature_that_was_damaged_on_the_medium_is_put_right_by_the_next_push(tmp_path):
    medium = tmp_path / "medium"
    medium.mkdir()
    route = make_route(tmp_path / "hub", HUB_ROUTE)
    fill(route, 1)
    list(seal_route(route, node="hub", caps=Caps(), reserve_size=0, sign=lambda _: b"as signed\n"))
    sealed(route, 1, first=9)
    with Ledger(Spool(route.spool).ledger) as ledger:
        list(push([route], Directory(str(medium)), ledger))
        (there,) = medium.rglob("*.sig")
        bare = next(p for p in medium.rglob("*.bsmtp") if p.name not in there.name)
        for damage in (
            lambda: there.unlink(),
            lambda: there.write_bytes(b"x"),
            lambda: there.write_bytes(b"x" * 20_000),
        ):
            damage()
            bare.with_name(bare.name + ".sig").write_bytes(b"planted")

            list(push([route], Directory(str(medium)), ledger))

            assert there.read_bytes() == b"as signed\n"
            assert not bare.with_name(bare.name + ".sig").exists()
