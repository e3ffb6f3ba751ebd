from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.batches import manifests
from support.crash import Faulty, stopped_at
from support.fragments import fill, make_route, tree

from bsmtp_batch.courier.contact import pull, push
from bsmtp_batch.courier.directory import Directory
from bsmtp_batch.errors import Later
from bsmtp_batch.expire import DAY, check_clock, expire_inbox, expire_route, overdue_of_route
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool import clock
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.locks import Busy
from bsmtp_batch.spool.store import Spool

KEEP = 14 * DAY


@pytest.fixture
def route(tmp_path):
    """A route with one acknowledged batch and one that waits."""
    return acknowledged(tmp_path)


def acknowledged(base):
    (base / "medium").mkdir(parents=True)
    made = make_route(base / "spool")
    site = Spool(str(base / "site"))
    os.mkdir(site.path)
    fill(made, 2)
    seal(made, sign=lambda _: b"signature\n")
    for spool in (Spool(made.spool), site, Spool(made.spool)):
        with Ledger(spool.ledger) as ledger:
            courier = Directory(str(base / "medium"))
            list(push(spool.chosen([]), courier, ledger) if spool is not site else pull(spool, None, courier, ledger))
    fill(made, 1, first=9)
    seal(made)
    fill(made, 1, first=20)
    return made


def seal(route, sign=None):
    return list(seal_route(route, node="hub", caps=Caps(), reserve_size=0, sign=sign))


def expire(route, days):
    return sorted(e.kind for e in expire_route(route, keep=KEEP, now=time.time() + days * DAY))


def test_nothing_goes_before_its_time(route):
    before = tree(route.path)

    assert expire(route, 6.9) == []
    assert tree(route.path) == before


def test_keys_are_forgotten_when_no_mta_tries_any_more(route):
    assert expire(route, 7.1) == ["key"] * 3
    assert os.listdir(route.at("sealed")) == []


def test_forgetting_one_key_does_not_make_the_others_young(tmp_path):
    """Markers may be names of one file, which is changed when one of them is removed."""
    route = make_route(tmp_path / "spool")
    fill(route, 5)
    seal(route)
    old = time.time() - 8 * DAY
    os.utime(route.at("sealed", os.listdir(route.at("sealed"))[0]), (old, old))

    assert expire(route, 0) == ["key"] * 5


def test_an_acknowledged_batch_goes_and_then_its_list(route):
    assert len(tree(route.at("kept"))) == 3
    assert "kept" in expire(route, 14.1)
    assert tree(route.at("kept")) == {}

    assert "list" in expire(route, 22)
    assert os.listdir(route.at("lists")) == ["00000002.done"]


def test_what_waits_never_goes(route):
    expire(route, 10_000)

    assert len(manifests(route)) == 1
    assert len(os.listdir(route.at("new"))) == 1


def test_numbers_go_on_after_every_list_has_gone(route):
    digest = manifests(route, "kept")[0].digest()
    Path(route.at("seq")).unlink()
    expire(route, 14.1)
    expire(route, 30)
    seal(route)

    found = manifests(route)
    assert [m.sequence for m in found] == [2, 3]
    assert found[0].previous == digest


def test_rubbish_goes_after_the_longest_life_of_a_writer(route):
    for name in ("tmp/123.abc", "lists/.00000009.list.1.x", ".seq.1.x"):
        Path(route.at(name)).write_bytes(b"x")

    assert expire(route, 1.4) == []
    assert expire(route, 1.6) == ["rubbish"] * 3


def test_dead_mail_is_a_person_s_business(route):
    Path(route.at("dead", "something")).write_bytes(b"mail")
    Path(route.at("dead", "something.reason")).write_bytes(b"why")

    expire(route, 10_000)

    assert len(os.listdir(route.at("dead"))) == 2


def test_imported_batches_go_and_bad_ones_stay(tmp_path):
    inbox = Inbox(str(tmp_path), "hub")
    inbox.make()
    for directory in ("new", "work", "done", "bad", "tmp"):
        Path(inbox.at(directory, "x")).write_bytes(b"x")

    gone = [e.path for e in expire_inbox(inbox, keep=KEEP, now=time.time() + 15 * DAY)]

    assert gone == [inbox.at("done", "x"), inbox.at("tmp", "x")]


def test_papers_of_a_batch_that_never_came_go_and_those_of_one_that_did_stay(tmp_path):
    inbox = Inbox(str(tmp_path), "hub")
    inbox.make()
    for name in ("new/a.bsmtp", "new/a.bsmtp.json", "new/b.bsmtp.json", "new/b.bsmtp.sig", "new/c.bsmtp.sig",
                 "work/c.bsmtp", "new/d.bsmtp.gz", "new/d.bsmtp.json"):  # fmt: skip
        Path(inbox.at(name)).write_bytes(b"x")

    assert list(expire_inbox(inbox, keep=KEEP, now=time.time() + DAY)) == []
    gone = [e.path for e in expire_inbox(inbox, keep=KEEP, now=time.time() + 2 * DAY)]

    assert sorted(gone) == [inbox.at("new/b.bsmtp.json"), inbox.at("new/b.bsmtp.sig")]


def test_a_busy_route_is_left(route):
    with route.contact(), pytest.raises(Busy):
        expire(route, 15)


def test_a_look_changes_nothing(route):
    before = tree(route.path)

    found = [o.kind for o in overdue_of_route(route, keep=KEEP, now=time.time() + 15 * DAY)]

    assert "kept" in found
    assert tree(route.path) == before


def test_an_expiry_stopped_at_any_step_is_finished_by_the_next(tmp_path, monkeypatch):
    from bsmtp_batch.spool import durable

    faulty = Faulty()
    counted = acknowledged(tmp_path / "count")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "posix", faulty)
        expire(counted, 15)
    for step in range(1, faulty.calls + 1):
        route = acknowledged(tmp_path / f"s{step}")
        stopped_at(monkeypatch, step, lambda route=route: expire(route, 15))
        expire(route, 15)
        assert tree(route.at("kept")) == {}, step
        assert all(s.row is not None and not s.row.recovery for s in route.standings()[0]), step
        assert len(manifests(route)) == 1


NOW = (1_000_000.0, 5000.0, "boot-1")


@pytest.mark.parametrize(
    ("after", "believed"),
    [
        ((1_000_600.0, 5600.0, "boot-1"), True),
        ((1_864_000.0, 5600.0, "boot-1"), False),
        ((100_000.0, 5600.0, "boot-1"), False),
        ((1_864_000.0, 869_000.0, "boot-1"), True),
        ((1_864_000.0, 20.0, "boot-2"), True),
        ((900_000.0, 20.0, "boot-2"), False),
    ],
)
def test_a_clock_that_jumped_suspends_one_run(tmp_path, after, believed):
    assert clock.jumped(str(tmp_path), current=NOW) == ""

    assert (clock.jumped(str(tmp_path), current=after) == "") is believed
    assert clock.jumped(str(tmp_path), current=after) == ""


def test_a_jump_is_a_problem_for_later(tmp_path, monkeypatch):
    check_clock(str(tmp_path))
    real = clock.now()
    monkeypatch.setattr(clock, "now", lambda: (real[0] + 10 * DAY, real[1], real[2]))

    with pytest.raises(Later, match="jumped"):
        check_clock(str(tmp_path))


def test_a_damaged_clock_file_is_no_jump(tmp_path):
    (tmp_path / "clock").write_bytes(b"\xff\0")

    check_clock(str(tmp_path))


def test_a_full_disk_does_not_keep_expire_from_making_room(tmp_path, monkeypatch):
    assert clock.jumped(str(tmp_path), current=(1e9, 1000.0, "b")) == ""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clock.durable, "write_file", full)

    assert clock.jumped(str(tmp_path), current=(1e9 + 60, 1060.0, "b")) == ""
    with pytest.raises(OSError, match="No space"):  # what was found out could not be remembered, so it counts again
        clock.jumped(str(tmp_path), current=(2e9, 1120.0, "b"))
