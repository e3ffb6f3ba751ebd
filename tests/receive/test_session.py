from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.batches import manifests
from support.fragments import fill, make_route, tree
from support.pipe_courier import Far

from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Spool


@pytest.fixture
def site(tmp_path):
    return Spool(str(tmp_path / "site"))


@pytest.fixture
def batch(tmp_path):
    """Name, manifest and bytes of a batch made elsewhere."""
    route = make_route(tmp_path / "hub")
    fill(route, 3)
    list(seal_route(route, node="hub", caps=Caps(), reserve_size=0))
    (manifest,) = manifests(route)
    data = Path(route.at("ready", manifest.name)).read_bytes()
    return manifest.name, manifest.to_bytes(), data


@pytest.fixture(autouse=True)
def spool_is_there(site):
    os.mkdir(site.path)


def put(name, manifest, data, size=None):
    head = f"put {name} {len(data) if size is None else size} {len(manifest)} 0\n".encode()
    return head + manifest + data


def test_what_came_whole_and_wrong_is_kept_aside_and_a_sound_copy_is_still_welcome(site, batch):
    name, manifest, data = batch
    far = Far(site, "hub", [])

    answer = far.converse(put(name, manifest, data[:-1] + b"x"), b"quit\n")

    assert b"NO 65" in answer
    assert b"ACK" not in answer
    assert far.tally.code == 65
    bad = tree(f"{site.path}/in/hub/bad")
    assert set(bad) == {f"{name}.damaged", f"{name}.damaged.json", f"{name}.damaged.reason"}
    assert b"ACK " + name.encode() in Far(site, "hub", []).converse(put(name, manifest, data), b"quit\n")
    assert tree(f"{site.path}/in/hub/new") == {name: data, name + ".json": manifest}


def test_what_broke_off_is_kept_for_later_and_not_acknowledged(site, batch):
    name, manifest, data = batch
    far = Far(site, "hub", [])

    answer = far.converse(put(name, manifest, data[:100], len(data)))

    assert b"ACK" not in answer
    assert far.tally.code == 75
    assert "broke off" in far.tally.result
    assert tree(f"{site.path}/in/hub/new") == {}
    assert os.path.getsize(Inbox(site.path, "hub").part(name)) == 100


def test_a_part_that_began_wrong_is_dropped_and_the_next_contact_starts_anew(site, batch):
    name, manifest, data = batch
    inbox = Inbox(site.path, "hub")
    inbox.make()
    Path(inbox.part(name)).write_bytes(b"garbage left by a power cut")
    far = Far(site, "hub", [])

    answer = far.converse(put(name, manifest, data[27:], len(data)), b"quit\n")

    assert b"NO 75" in answer
    assert tree(inbox.at("bad")) == {}
    assert b"ACK" in Far(site, "hub", []).converse(put(name, manifest, data), b"quit\n")


def test_a_changed_manifest_is_refused_before_any_octet_of_the_batch(site, batch):
    name, manifest, data = batch
    for place in range(0, len(manifest) - 1, 7):
        changed = manifest[:place] + bytes([manifest[place] ^ 1]) + manifest[place + 1 :]
        answer = Far(site, "hub", []).converse(put(name, changed, b"", len(data)))
        assert b"GO" not in answer
        assert b"NO 65" in answer
    assert not os.path.exists(f"{site.path}/in/hub/new") or tree(f"{site.path}/in/hub/new") == {}


def test_a_name_and_size_other_than_the_manifest_s_are_refused(site, batch):
    name, manifest, data = batch

    assert b"NO 65" in Far(site, "hub", []).converse(put(name.replace("00001", "00002"), manifest, b"", len(data)))
    assert b"NO 65" in Far(site, "hub", []).converse(put(name, manifest, b"", len(data) + 1))


def test_after_an_unknown_command_nothing_is_read_on(site):
    far = Far(site, "hub", [])

    answer = far.converse(b"EHLO x\n", b"list\n")

    assert answer.count(b"\n") == 2
    assert b"NO 64" in answer
    assert far.tally.code == 64


def test_a_full_disk_in_the_middle_ends_the_contact_instead_of_reading_mail_as_commands(site, batch, monkeypatch):
    from bsmtp_batch.spool import durable

    name, manifest, data = batch

    def full(fd, chunk):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_all", full)
    far = Far(site, "hub", [])
    answer = far.converse(put(name, manifest, data), b"list\n")
    monkeypatch.undo()

    assert b"END" not in answer or answer.count(b"NO ") == 1
    assert b"ACK" not in answer
    assert far.tally.code == 75


def test_two_contacts_of_one_origin_do_not_write_the_same_part(site, batch):
    name, manifest, data = batch
    inbox = Inbox(site.path, "hub")
    inbox.make()

    with inbox.intake():
        answer = Far(site, "hub", []).converse(put(name, manifest, b"", len(data)))

    assert b"NO 75" in answer


def test_the_contact_is_in_the_ledger(site, batch):
    name, manifest, data = batch
    Far(site, "hub", []).converse(put(name, manifest, data), b"quit\n")

    with Ledger(site.ledger) as ledger:
        (contact,) = ledger.last_contacts()
        (row,) = ledger.batches(direction="in")

    assert (contact.peer, contact.direction, contact.batches, contact.octets) == ("hub", "receive", 1, len(data))
    assert (row.name, row.state, row.messages) == (name, "new", 3)
