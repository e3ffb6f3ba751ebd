"""Each unfinished row of the table, made by hand, and what recovery makes of it."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from pathlib import Path

import pytest
from support.batches import manifests, transactions
from support.crash import Faulty, stopped_at
from support.fragments import clone, fill, make_route, message, put, tree

from bsmtp_batch.errors import Bad
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool import durable, groups, names, recover, table
from bsmtp_batch.spool.release import release, sha256_of


@pytest.fixture(params=["signed", "unsigned"])
def route(request, tmp_path):
    made = make_route(tmp_path / "spool")
    fill(made, 2)
    seal(made, sign=(lambda _: b"signature\n") if request.param == "signed" else None)
    yield made
    papers = [p for p in Path(made.path).rglob("*.bsmtp.*") if p.suffix in (".sig", ".json")]
    lone = [p for p in papers if p.suffix == ".sig" and p.with_suffix(".json") not in papers]
    assert lone == [], "a signature was left behind"


def seal(route, sign=None):
    return list(seal_route(route, node="hub", caps=Caps(), reserve_size=0, sign=sign))


def has_signature(route, directory):
    return any(name.endswith(".sig") for name in os.listdir(route.at(directory)))


def state(route, sequence=1):
    (found,) = [s for s in route.standings()[0] if s.sequence == sequence]
    return found.row.name if found.row else None


def move(route, source, target):
    Path(route.at(*source)).rename(route.at(*target))


def recover_all(route):
    with route.sealing(), route.contact():
        recover.recover_seal(route)
        recover.recover_contact(route)


def name_of(route):
    return manifests(route)[0].name


def test_building_is_undone(route):
    other = names.batch_name("example.org", 2, 0, "hub")
    Path(route.at("tmp", other)).write_bytes(b"half")
    Path(route.at("tmp", "4711.of-a-hand-in")).write_bytes(b"half")
    assert state(route, 2) == "building"

    recover_all(route)

    assert os.listdir(route.at("tmp")) == ["4711.of-a-hand-in"]


@pytest.mark.parametrize("papers", [(".json", ".sig"), (".sig",), ()])
def test_intended_is_undone_and_gives_its_number_back(route, papers):
    """The papers go to ready/ one by one; those named are still in tmp/."""
    name = name_of(route)
    move(route, ("lists", "00000001.done"), ("lists", "00000001.list"))
    move(route, ("ready", name), ("tmp", name))
    for suffix in papers:
        if os.path.exists(route.at("ready", name + suffix)):
            move(route, ("ready", name + suffix), ("tmp", name + suffix))
    os.unlink(route.at("seq"))
    assert state(route) == "intended"

    recover_all(route)

    assert tree(route.at("ready")) == tree(route.at("lists")) == tree(route.at("tmp")) == {}
    assert route.numbering() == (1, "")


def test_committed_is_finished_and_its_members_remembered(route, tmp_path):
    move(route, ("lists", "00000001.done"), ("lists", "00000001.list"))
    os.unlink(route.at("seq"))
    for key in os.listdir(route.at("sealed")):
        os.unlink(route.at("sealed", key))
    fill(route, 2)
    assert state(route) == "committed"
    assert route.sealed() == []

    recover_all(route)

    assert state(route) == "sealed"
    assert os.listdir(route.at("new")) == []
    assert len(os.listdir(route.at("sealed"))) == 2
    assert route.numbering()[0] == 2


@pytest.mark.parametrize("half_way", [False, True])
def test_released_is_finished(route, half_way):
    name = name_of(route)
    signed = has_signature(route, "ready")
    move(route, ("ready", name), ("kept", name))
    if half_way and signed:
        move(route, ("ready", name + ".sig"), ("kept", name + ".sig"))
    assert state(route) == "released"

    recover_all(route)

    assert state(route) == "kept"
    assert has_signature(route, "kept") == signed


@pytest.mark.parametrize("half_way", [False, True])
def test_expiring_is_finished(route, half_way):
    name = name_of(route)
    release(route, name, sha256_of(route, name))
    os.unlink(route.at("kept", name))
    if half_way and has_signature(route, "kept"):
        os.unlink(route.at("kept", name + ".sig"))
    assert state(route) == "expiring"

    recover_all(route)

    assert state(route) == "gone"


@pytest.mark.parametrize("step", range(1, 40))
def test_replaced_and_the_seal_that_replaces_it_are_one(route, tmp_path, monkeypatch, step):
    """Expiry of sealed mail: until the new list is done neither may be taken, afterwards only the new one."""
    old = name_of(route)
    fill(route, 1, first=9)
    seal(route)
    new = manifests(route)[1].name
    intent = dataclasses.replace(route.intent(2, done=True), replaces=old)
    Path(route.list_path(2, done=False)).write_bytes(intent.to_bytes())
    os.unlink(route.list_path(2, done=True))
    os.unlink(route.at("seq"))

    if stopped_at(monkeypatch, step, lambda: recover_all(route)):
        assert [s.name for s in route.sealed()] in ([old], [], [new])
    recover_all(route)

    assert [s.name for s in route.sealed()] == [new]
    assert state(route, 1) == "set aside"
    assert Path(route.at("dead", old)).exists()
    assert not has_signature(route, "ready")
    assert new in Path(route.at("dead", old + ".reason")).read_text()


def test_sealing_without_a_list_is_dropped(route):
    from support.fragments import message

    put(route, message(1), queue_id="Q1")

    recover_all(route)

    assert os.listdir(route.at("new")) == []


def test_lone_reason_is_dropped_and_one_with_its_fragment_stays(route):
    lone, paired = (f"{digit * 40}.{digit * 64}" for digit in "ab")
    for name in (f"{lone}.reason", paired, f"{paired}.reason"):
        Path(route.at("dead", name)).write_bytes(b"x")

    recover_all(route)

    assert set(tree(route.at("dead"))) == {paired, f"{paired}.reason"}


def test_rows_at_rest_are_left_as_they_are(route):
    before = tree(route.path)

    recover_all(route)

    assert tree(route.path) == before


def test_what_no_row_admits_is_shown_and_not_touched(route):
    name = name_of(route)
    Path(route.at("kept", name)).write_bytes(b"a copy somebody made")
    before = tree(route.path)

    recover_all(route)

    assert tree(route.path) == before
    assert state(route) is None
    assert route.sealed() == []
    assert any("stands oddly" in odd.reason for odd in route.standings()[1])


def test_a_signature_where_its_batch_is_not_is_odd(route):
    name = name_of(route)
    Path(route.at("kept", name + ".sig")).write_bytes(b"x")

    assert state(route) is None
    os.unlink(route.at("kept", name + ".sig"))


def test_two_batches_of_one_number_are_odd(route):
    other = names.batch_name("example.org", 1, 5, "hub")
    Path(route.at("ready", other)).write_bytes(b"")

    assert state(route) is None


def test_a_lost_number_is_found_again_in_the_lists(route):
    digest = manifests(route)[0].digest()
    os.unlink(route.at("seq"))

    assert route.numbering() == (2, digest)
    Path(route.at("seq")).write_text("9 abc\n")
    assert route.numbering() == (9, "abc")


def test_a_release_is_carried_out_once_and_only_for_the_right_bytes(route):
    name = name_of(route)
    sha256 = sha256_of(route, name)
    for wrong in ((name, "0" * 64), (names.batch_name("example.org", 7, 0, "hub"), sha256), ("../x", sha256)):
        with pytest.raises(Bad):
            release(route, *wrong)
    assert state(route) == "sealed"

    assert release(route, name, sha256) is True
    assert release(route, name, sha256) is False
    assert state(route) == "kept"


def test_a_release_stopped_at_any_step_is_finished(route, tmp_path, monkeypatch):
    name = name_of(route)
    faulty = Faulty()
    from bsmtp_batch.spool import durable

    counted = clone(route, tmp_path / "count")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "posix", faulty)
        release(counted, name, sha256_of(counted, name))
    for step in range(1, faulty.calls + 1):
        again = clone(route, tmp_path / f"s{step}")
        stopped_at(monkeypatch, step, lambda again=again: release(again, name, sha256_of(again, name)))
        recover_all(again)
        release(again, name, sha256_of(again, name))
        assert state(again) == "kept"
        assert len(transactions(again, "kept")) == 2


def grouped(route, *, queue_id):
    """A message that was accepted in a group; its name in ``new/``."""
    digest = hashlib.sha256(message(1))
    name = names.fragment_name(names.key_of(queue_id, digest.digest()), digest.hexdigest())
    writer = groups.GroupWriter(route.spool)
    writer.commit([groups.Entry(route.name, name, message(1))])
    writer.close()
    return name


def test_grouped_comes_to_new(tmp_path):
    route = make_route(tmp_path / "spool")
    name = grouped(route, queue_id=b"Q1")

    groups.drain(route.spool)

    assert os.listdir(route.at("new")) == [name] and groups.pending(route.spool) == (0, 0, 0)


def test_draining_is_done_again_and_a_copy_that_may_not_be_durable_is_replaced(tmp_path):
    route = make_route(tmp_path / "spool")
    name = grouped(route, queue_id=b"Q1")
    Path(route.at("new", name)).write_bytes(b"half")

    groups.drain(route.spool)

    assert Path(route.at("new", name)).read_bytes() == message(1) and os.listdir(route.at("new")) == [name]


def test_every_unfinished_row_has_a_test_here():
    source = Path(__file__).read_text(encoding="utf-8")

    for row in table.BATCH_ROWS + table.FRAGMENT_ROWS:
        if row.recovery:
            assert f"def test_{row.name.replace(' ', '_')}_" in source


def test_a_disk_with_a_few_inodes_left_is_enough_to_finish_a_large_batch(tmp_path, monkeypatch):
    """Where a marker is a file and so is the member it stands for: swapped a few at a time they need no room."""
    route = make_route(tmp_path / "spool")
    made = fill(route, 40)
    real = recover._mark

    def mark(path, like):
        both = len(os.listdir(route.at("sealed"))) + len(os.listdir(route.at("new")))
        if both >= 43 and not os.path.exists(path):
            raise OSError(28, "No space left on device", path)
        return real(path, like)

    monkeypatch.setattr(recover, "_mark", mark)

    seal(route)

    assert state(route) == "sealed"
    assert (len(os.listdir(route.at("sealed"))), os.listdir(route.at("new"))) == (40, [])
    assert transactions(route) == made


def test_markers_are_names_of_a_few_files_and_files_where_there_are_no_links(tmp_path, monkeypatch):
    """A file for each marker costs an inode, and on ext4 a long search for one in a spool that lives."""
    for number, errors in enumerate((None, errno.EPERM, errno.EMLINK)):
        if errors:
            monkeypatch.setattr(durable, "link", lambda path, other, error=errors: _raise(error))
        route = make_route(tmp_path / f"spool{number}")
        fill(route, 5)

        seal(route)

        files = {os.stat(route.at("sealed", key)).st_ino for key in os.listdir(route.at("sealed"))}
        assert len(os.listdir(route.at("sealed"))) == 5
        assert len(files) == (5 if errors else 1)


def _raise(error):
    raise OSError(error, os.strerror(error))
