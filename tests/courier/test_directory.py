from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from courier.conformance import HUB_ROUTE, Conformance, Link, arrived, codes, sealed
from support.batches import manifests, transactions
from support.crash import Killed
from support.fragments import fill, make_route, tree

from bsmtp_batch.courier import directory
from bsmtp_batch.courier.contact import pull, push
from bsmtp_batch.courier.contract import Cut
from bsmtp_batch.courier.directory import Directory
from bsmtp_batch.edge.user import user_name
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool import medium
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Spool


class DirectoryLink(Link):
    def __init__(self, base):
        super().__init__(base)
        self.medium = base / "medium"
        self.medium.mkdir()

    def push(self, spool, names=()):
        with Ledger(spool.ledger) as ledger:
            return list(push(spool.chosen(list(names)), Directory(str(self.medium)), ledger))

    def pull(self, spool, wanted=None):
        with Ledger(spool.ledger) as ledger:
            return list(pull(spool, wanted, Directory(str(self.medium)), ledger))

    def hand_over(self, sender, receiver):
        return self.push(sender) + self.pull(receiver)

    def bring_receipts(self, sender, receiver):
        return self.push(sender)

    def lose_receipts(self, sender, receiver):
        for path in self.medium.rglob("*.ack"):
            path.unlink()
        for path in self.medium.rglob("*.bsmtp*"):
            path.unlink()

    def say(self, route, receipt):
        folder = self.medium / route.name
        folder.mkdir(exist_ok=True)
        (folder / f"{receipt.name}.ack").write_bytes(receipt.to_bytes())
        return self.push(Spool(route.spool))

    @contextmanager
    def cut(self, octets):
        """First the medium goes away during the push; the next time, the file is only half there for the pull."""
        real = medium.chunks_of

        def short(path, moved):
            left = octets
            for chunk in real(path, moved):
                yield chunk[:left]
                left -= len(chunk)
                if left <= 0:
                    raise OSError(5, "Input/output error", path)

        directory.chunks_of = short
        try:
            yield
        finally:
            directory.chunks_of = real


@pytest.fixture
def link(tmp_path):
    return DirectoryLink(tmp_path)


class TestDirectory(Conformance):
    def fresh(self, directory):
        directory.mkdir()
        return DirectoryLink(directory)


def only(path, pattern):
    (found,) = path.rglob(pattern)
    return found


def test_the_medium_is_left_as_it_was_found(link):
    sealed(link.out, 2, per_batch=1)
    link.push(link.hub)
    assert len(list(link.medium.rglob("*"))) == 5

    link.pull(link.site)
    link.push(link.hub)

    assert [p.name for p in link.medium.rglob("*")] == [HUB_ROUTE]


def test_a_pull_by_the_maker_takes_the_receipts_too_and_never_its_own_batches(link):
    made = sealed(link.out, 1)
    link.push(link.hub)

    assert link.pull(link.hub) == []
    assert link.hub.origins() == []
    link.pull(link.site)
    link.pull(link.hub)

    assert transactions(link.out, "kept") == made


def test_two_nodes_of_one_name_do_not_take_each_other_for_themselves(link):
    down = sealed(link.out, 1)
    up = sealed(link.back, 1, first=9)

    for spool in (link.hub, link.site, link.hub, link.site):
        link.push(spool)
        link.pull(spool)

    assert arrived(link.site) == down
    assert arrived(link.hub) == up
    assert tree(link.medium) == {}


def test_one_folder_for_both_directions_alarms_nobody(tmp_path):
    link = DirectoryLink(tmp_path)
    link.back = make_route(tmp_path / "site", HUB_ROUTE)
    down = sealed(link.out, 1)
    up = sealed(link.back, 1, first=9, node="site")

    events = []
    for _ in range(3):
        for spool in (link.hub, link.site):
            events += link.push(spool) + link.pull(spool)

    assert codes(events) == {0}
    assert arrived(link.site) == down
    assert arrived(link.hub, "site") == up
    assert tree(link.medium) == {}


def test_a_half_copied_batch_is_left_for_later(link):
    made = sealed(link.out, 3)
    link.push(link.hub)
    file = only(link.medium, "*.bsmtp")
    whole = file.read_bytes()
    for part in (b"", whole[:-1], whole[:-1] + b"x", b"\0" * len(whole)):
        file.write_bytes(part)
        events = link.pull(link.site)
        assert codes(events) == {75}
        assert arrived(link.site) == []
        assert not list(link.medium.rglob("*.ack"))
        assert tree(f"{link.site.path}/in/hub/bad") == {}

    file.write_bytes(whole)
    link.pull(link.site)

    assert arrived(link.site) == made


def test_a_damaged_copy_is_written_again_by_the_next_push(link):
    made = sealed(link.out, 3)
    link.push(link.hub)
    file = only(link.medium, "*.bsmtp")
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, (1, 1))

    link.push(link.hub)
    link.pull(link.site)

    assert arrived(link.site) == made


@pytest.mark.parametrize("lacking", ["*.bsmtp", "*.json"])
def test_a_batch_and_its_manifest_may_come_in_either_order(link, lacking):
    made = sealed(link.out, 1)
    link.push(link.hub)
    file = only(link.medium, lacking)
    data = file.read_bytes()
    file.unlink()

    assert codes(link.pull(link.site)) == {75}
    file.write_bytes(data)
    link.pull(link.site)

    assert arrived(link.site) == made


def test_a_half_copied_manifest_is_left_for_later(link):
    sealed(link.out, 1)
    link.push(link.hub)
    file = only(link.medium, "*.json")
    file.write_bytes(file.read_bytes()[:50])

    assert codes(link.pull(link.site)) == {75}


def test_another_node_s_batch_of_the_same_name_is_neither_replaced_nor_taken_for_ours(link, tmp_path):
    sealed(link.out, 1)
    link.push(link.hub)
    file = only(link.medium, "*.json")
    file.write_bytes(b"somebody else's")
    before = tree(link.medium)

    assert codes(link.push(link.hub)) == {65}
    assert tree(link.medium) == before


def test_odd_names_are_named_and_not_followed(link, tmp_path):
    made = sealed(link.out, 1)
    link.push(link.hub)
    folder = link.medium / HUB_ROUTE
    secret = tmp_path / "secret"
    secret.write_text("not yours")
    (folder / "-rf.bsmtp").write_text("x")
    (folder / "a\nb").write_text("x")
    (folder / f"{HUB_ROUTE}.00000009.20261122T053300Z.hub.bsmtp").symlink_to(secret)
    (folder / f"{HUB_ROUTE}.00000009.20261122T053300Z.hub.bsmtp.json").symlink_to(secret)
    os.mkfifo(folder / f"{HUB_ROUTE}.00000008.20261122T053300Z.hub.bsmtp")
    os.mkfifo(folder / f"{HUB_ROUTE}.00000008.20261122T053300Z.hub.bsmtp.json")
    (link.medium / "..bad").mkdir()
    (link.medium / "elsewhere").symlink_to(tmp_path)
    (link.medium / "Thumbs.db").write_text("x")
    (link.medium / os.fsdecode(b"\xff\xfe")).mkdir()

    events = link.pull(link.site)

    assert arrived(link.site) == made
    assert len([e for e in events if e.note]) >= 6
    assert secret.read_text() == "not yours"


def test_a_folder_that_is_a_link_is_not_written_through(link, tmp_path):
    sealed(link.out, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (link.medium / HUB_ROUTE).symlink_to(elsewhere)

    events = link.push(link.hub)

    assert codes(events) == {75}
    assert list(elsewhere.iterdir()) == []


def test_a_planted_temporary_file_is_not_written_through(link, tmp_path):
    """A hard link under the name we are about to write would let the medium's owner truncate a file of ours."""
    made = sealed(link.out, 1)
    (link.medium / HUB_ROUTE).mkdir()
    name = manifests(link.out)[0].name
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, link.medium / HUB_ROUTE / f".{name}.part")
    (link.medium / HUB_ROUTE / f".{name}.json.part").symlink_to(victim)

    link.push(link.hub)
    link.pull(link.site)

    assert victim.read_text() == "precious"
    assert arrived(link.site) == made


def test_only_the_routes_named_are_taken(link):
    sealed(link.out, 1)
    link.push(link.hub)

    assert link.pull(link.site, ["other.example"]) == []
    assert arrived(link.site) == []
    assert codes(link.pull(link.site, [HUB_ROUTE])) == {0}
    assert len(arrived(link.site)) == 1


def test_a_batch_that_rotted_in_ready_is_not_handed_over(link):
    sealed(link.out, 1)
    path = Path(link.out.at("ready", manifests(link.out)[0].name))
    path.write_bytes(path.read_bytes().replace(b"Subject", b"Sbuject"))

    events = link.push(link.hub)

    assert codes(events) == {65}
    assert not list(link.medium.rglob("*.bsmtp"))
    assert path.exists()


def test_a_medium_that_is_not_there_ends_the_contact_and_is_in_the_ledger(link):
    sealed(link.out, 1)
    link.medium.rmdir()

    with pytest.raises(Cut):
        link.push(link.hub)

    with Ledger(link.hub.ledger) as ledger:
        assert "cannot be opened" in ledger.last_contacts()[0].result


def test_a_route_in_another_contact_is_passed_over_and_said_so(link):
    sealed(link.out, 1)

    with link.out.contact():
        events = link.push(link.hub)

    assert codes(events) == {75}
    assert tree(link.medium) == {}


def test_a_gap_in_the_numbers_is_told_and_stops_nothing(link):
    sealed(link.out, 3, per_batch=1)
    link.push(link.hub)
    lost = list(link.medium.rglob("*.00000002.*"))
    saved = {p: p.read_bytes() for p in lost}
    for path in lost:
        path.unlink()

    events = link.pull(link.site)
    assert [e.note for e in events if e.note] == ["gap: 2 of site.example from hub did not come"]
    assert len(arrived(link.site)) == 2
    assert [e.note for e in link.pull(link.site) if "gap" in e.note] == []

    for path, data in saved.items():
        path.write_bytes(data)
    events = link.pull(link.site)
    assert "fills a gap" in events[0].note


def test_batches_that_come_out_of_order_in_one_contact_are_no_gap(link):
    """Small ones go first. Whoever is told of gaps that are none after each contact stops reading of them."""
    for count, first in ((1, 1), (3, 10), (2, 20)):
        sealed(link.out, count, first=first)
    link.push(link.hub)

    events = link.pull(link.site)

    assert [e.messages for e in events] == [1, 2, 3]
    assert {e.note for e in events} == {""}


def test_nothing_on_the_medium_is_nothing_to_do(link):
    assert link.pull(link.site) == []
    assert link.push(link.hub) == []


def test_a_medium_of_another_user_is_named_with_the_user_who_needs_it(link, monkeypatch):
    sealed(link.out, 1)
    link.push(link.hub)

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(medium.Folder, "below", refused)
    advice = f"let {user_name()} read and write there"

    for events in (link.pull(link.site), link.push(link.hub)):
        assert 75 in codes(events)
        assert any(advice in str(event) for event in events), events


def test_a_batch_that_does_not_fit_leaves_the_room_on_the_medium_to_the_receipts(link, monkeypatch):
    sealed(link.out, 1)

    def full(fd, data):
        os.write(fd, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(medium.durable, "write_all", full)
        assert codes(link.push(link.hub)) == {75}

    assert [p.name for p in link.medium.rglob("*") if p.is_file()] == []
    link.push(link.hub)
    link.pull(link.site)
    assert arrived(link.site)


def test_a_full_spool_is_not_taken_for_a_full_medium(link, monkeypatch):
    sealed(link.out, 1)
    link.push(link.hub)

    def full(fd, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(medium.durable, "write_all", full)
        (event,) = link.pull(link.site)

    assert event.code == 75
    assert "look at the medium" not in event.note
    assert event.note == "the spool: No space left on device"


def test_more_routes_than_a_process_may_have_descriptors_are_pushed_all_the_same(link):
    many = [make_route(Path(link.hub.path), f"r{number}.example") for number in range(150)]
    fill(many[149], 1)
    list(seal_route(many[149], node="hub", caps=Caps(), reserve_size=0))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        pushed = link.push(link.hub)
        receipts = link.pull(link.hub)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert [(event.kind, event.code) for event in pushed] == [("sent", 0)]
    assert receipts == []


def test_a_pull_killed_before_it_noted_the_number_leaves_no_gap_behind(link, monkeypatch):
    for number in (1, 2, 3):
        sealed(link.out, 1, first=number)
        link.push(link.hub)
        with monkeypatch.context() as patch:
            if number == 2:
                patch.setattr(Inbox, "see", lambda *_, **__: (_ for _ in ()).throw(Killed))
            with suppress(Killed):
                link.pull(link.site)
        link.pull(link.site)

    assert Inbox(link.site.path, "hub").sequences().missing() == []
