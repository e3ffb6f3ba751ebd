from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from support.batches import manifests, transactions
from support.crash import EIO, FULL, Faulty, stopped_at
from support.fragments import clone, fill, make_route, message, put, text, tree

from bsmtp_batch.errors import Later, Setting
from bsmtp_batch.seal import Caps, Left, Recovered, Sealed, SetAside, Waiting, build, is_due, seal_route, waiting
from bsmtp_batch.spool import durable, names, recover, reserve
from bsmtp_batch.spool.locks import Busy


@pytest.fixture
def route(tmp_path):
    return make_route(tmp_path / "spool")


def seal(route, *, octets=50_000_000, messages=10_000, **options):
    return list(
        seal_route(route, node="hub", caps=Caps(octets, messages), reserve_size=options.pop("reserve", 0), **options)
    )


def new(route):
    return sorted(os.listdir(route.at("new")))


def test_what_waits_becomes_one_batch_in_order_of_arrival(route):
    made = fill(route, 3)

    (sealed,) = seal(route)

    assert (sealed.messages, sealed.recipients, sealed.sequence) == (3, 3, 1)
    assert transactions(route) == made
    assert manifests(route)[0].previous == ""
    assert new(route) == []
    assert len(os.listdir(route.at("sealed"))) == 3
    assert Path(route.at("seq")).read_text().split()[0] == "2"


def test_nothing_waiting_makes_no_batch_and_no_number(route):
    assert seal(route) == []
    assert tree(route.at("ready")) == {}
    fill(route, 1)
    assert seal(route)[0].sequence == 1


def test_manifests_form_a_chain(route):
    fill(route, 5)

    seal(route, messages=2)

    chain = manifests(route)
    assert [m.messages for m in chain] == [2, 2, 1]
    assert [m.previous for m in chain] == ["", chain[0].digest(), chain[1].digest()]
    fill(route, 1, first=9)
    seal(route)
    assert manifests(route)[-1].previous == chain[2].digest()


def test_a_message_over_the_size_cap_gets_a_batch_of_its_own(route):
    big = text("a@x.org", "b@x.org", body=b"x" * 60 + b"\r\n" + b"y" * 3000 + b"\r\n")
    put(route, message(1), age=3)
    put(route, big, age=2)
    put(route, message(2), age=1)

    seal(route, octets=1000)

    assert [m.messages for m in manifests(route)] == [1, 1, 1]


def test_the_greeting_is_ehlo_only_where_a_transaction_has_parameters(route):
    put(route, message(1), age=5)
    put(route, text("a@x.org", "b@x.org", params=((b"BODY", b"8BITMIME"),)), age=3)
    put(route, message(2), age=1)

    seal(route, messages=2)

    first, second = sorted(Path(route.at("ready")).glob("*.bsmtp"))
    assert first.read_bytes().startswith(b"EHLO hub\r\n")
    assert b"BODY=8BITMIME" in first.read_bytes()
    assert second.read_bytes().startswith(b"HELO hub\r\n")
    assert len(manifests(route)) == 2


def test_the_classic_dialect_writes_no_parameter(route):
    put(route, message(1), age=5)
    put(route, text("a@x.org", "b@x.org", body=b".\r\nx\r\n", params=((b"BODY", b"8BITMIME"),)))

    seal(route, classic=True)

    data = next(Path(route.at("ready")).glob("*.bsmtp")).read_bytes()
    assert data == b"HELO hub\r\n" + message(1) + text("a@x.org", "b@x.org", body=b".\r\nx\r\n") + b"QUIT\r\n"
    assert manifests(route)[0].dialect == "classic"


def test_a_fragment_of_several_messages_counts_them_all(route):
    put(route, message(1) + message(2))

    (sealed,) = seal(route)

    assert sealed.messages == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-5],
        lambda data: data[:-1] + b"x",
        lambda data: b"",
        lambda data: data.replace(b"hello", b"hullo"),
    ],
)
def test_a_damaged_member_is_set_aside_with_a_reason_and_not_remembered(route, damage):
    kept = fill(route, 2)
    name = put(route, text("a@x.org", "b@x.org"), queue_id="bad", age=9999)
    Path(route.at("new", name)).write_bytes(damage(text("a@x.org", "b@x.org")))

    aside, sealed = seal(route)

    assert isinstance(aside, SetAside)
    assert Path(aside.path).exists()
    assert Path(aside.path + ".reason").read_text().strip() == aside.reason
    assert not route.remembers(names.parse_fragment(name)[0])
    assert sealed.messages == 2
    assert transactions(route) == kept
    assert new(route) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"QUIT\r\n",
        message(1) + b"QUIT\r\n",
        b"HELO x\r\n" + message(1),
        message(1) + b"MAIL FROM:<a@x.org>\r\n",
        message(1)[:-3],
        message(1).replace(b"hello", b"hel\rlo").replace(b"Subject", b"Sub\nject"),
        message(1) + b"\r\n",
        b"RSET\r\n" + message(1),
    ],
)
def test_a_member_outside_the_grammar_never_reaches_a_batch(route, data):
    kept = fill(route, 1, first=7)
    put(route, data, age=9999)

    events = seal(route)

    assert [type(e) for e in events] == [SetAside, Sealed]
    assert transactions(route) == kept


def test_a_damaged_copy_that_was_handed_in_again_meanwhile_is_not_set_aside(route, monkeypatch):
    """An MTA that repeats itself was told yes for the copy that is in new/ now, not for the one that was read."""
    good = text("a@x.org", "b@x.org")
    name = put(route, good, queue_id="Q")
    path = Path(route.at("new", name))
    path.write_bytes(b"rotten")
    index = route.index

    def raced():
        fresh = Path(route.at("tmp", "fresh"))
        fresh.write_bytes(good)
        fresh.rename(path)
        return index()

    monkeypatch.setattr(type(route), "index", lambda self: raced())
    (event,) = seal(route)
    monkeypatch.undo()

    assert isinstance(event, Left)
    assert path.read_bytes() == good
    assert tree(route.at("dead")) == {}
    assert [type(e) for e in seal(route)] == [Sealed]


def test_a_hand_in_between_choice_and_unlink_is_neither_lost_nor_doubled(route, monkeypatch):
    """The same message, renamed into new/ again while its first copy is being sealed, goes with the first copy."""
    fill(route, 2)
    commit = recover.finish_commit

    def late(route, intent):
        put(route, message(1), queue_id="Q1")
        put(route, message(99), queue_id="other")
        commit(route, intent)

    monkeypatch.setattr(recover, "finish_commit", late)
    seal(route)
    monkeypatch.undo()
    seal(route)

    assert sorted(transactions(route)) == sorted([message(1), message(2), message(99)])


def test_members_are_swapped_only_under_the_exclusive_lock(route, monkeypatch):
    """A hand-in that has looked for its marker and not yet renamed holds the lock shared: the swap must wait for it."""
    fill(route, 1)
    reached, events = threading.Event(), []
    real = route.index

    def told(self):
        reached.set()
        return real()

    monkeypatch.setattr(type(route), "index", told)
    hand_in = durable.lock(route.at("index.lock"), shared=True)
    sealer = threading.Thread(target=lambda: events.extend(seal(route)))
    sealer.start()
    assert reached.wait(20)
    assert not route.remembers(new(route)[0].partition(".")[0])
    put(route, message(1), queue_id="Q1")
    durable.unlock(hand_in)
    sealer.join(20)

    assert transactions(route) == [message(1)]
    assert new(route) == []


def test_a_second_sealer_is_told_so_and_changes_nothing(route):
    fill(route, 1)
    before = tree(route.path)

    with route.sealing(), pytest.raises(Busy):
        seal(route)

    assert tree(route.path) == before


@pytest.fixture
def three(tmp_path):
    """A route in which three messages wait; to be cloned for each attempt."""
    route = make_route(tmp_path / "three")
    fill(route, 3)
    return route


MADE = [message(n) for n in (1, 2, 3)]


def signature(manifest):
    """What stands beside a manifest in these tests."""
    return b"over " + manifest


def crash_free_steps(three, tmp_path, monkeypatch, sign=None):
    route = clone(three, tmp_path / "count")
    faulty = Faulty()
    with monkeypatch.context() as patch:
        patch.setattr(durable, "posix", faulty)
        seal(route, messages=2, sign=sign)
    return faulty.calls


@pytest.mark.parametrize(("retry", "sign"), [(False, None), (True, signature)])
def test_a_sealer_killed_at_any_step_loses_and_doubles_nothing(three, tmp_path, monkeypatch, retry, sign):
    for step in range(1, crash_free_steps(three, tmp_path, monkeypatch, sign) + 1):
        route, made = clone(three, tmp_path / f"s{step}"), MADE
        assert stopped_at(monkeypatch, step, lambda route=route: seal(route, messages=2, sign=sign))
        taken = transactions_takeable(route)
        if retry and not route.remembers(key_of_first(route)):
            put(route, made[0], queue_id="Q1", age=1000)

        seal(route, messages=2, sign=sign)

        assert sorted(transactions(route)) == sorted(made), step
        assert set(taken) <= set(made)
        assert [m.sequence for m in manifests(route)] == [1, 2], step
        assert new(route) == []
        leftovers = [n for n in os.listdir(route.at("tmp")) if not n.startswith(".")]
        assert leftovers == [], step
        assert all(s.row is not None and not s.row.recovery for s in route.standings()[0]), step
        beside = {p.name: p.read_bytes() for p in Path(route.at("ready")).glob("*.sig")}
        assert beside == ({f"{m.name}.sig": signature(m.to_bytes()) for m in manifests(route)} if sign else {}), step


def test_a_batch_that_cannot_be_signed_is_not_sealed(route):
    made = fill(route, 2)

    def refuse(manifest):
        raise Later("the agent is away", safe="x", next="x")

    with pytest.raises(Later, match="the agent is away"):
        seal(route, sign=refuse)
    assert tree(route.at("ready")) == tree(route.at("tmp")) == tree(route.at("lists")) == {}
    assert len(new(route)) == 2

    seal(route, sign=signature)

    assert transactions(route) == made
    assert [s.sequence for s in route.sealed()] == [1]


def transactions_takeable(route):
    found = []
    for standing in route.sealed():
        body = Path(route.at("ready", standing.name)).read_bytes().partition(b"\r\n")[2]
        found += [part + b"\r\n.\r\n" for part in body.removesuffix(b"QUIT\r\n").split(b"\r\n.\r\n")[:-1]]
        assert not any((Path(route.at("new")) / n).exists() for n in members_of(route, standing))
    return found


def members_of(route, standing):
    return [m.name for m in route.intent(standing.sequence, done=True).members]


def key_of_first(route):
    import hashlib

    return names.key_of(b"Q1", hashlib.sha256(message(1)).digest())


def test_recovery_killed_at_any_step_can_be_run_again(three, tmp_path, monkeypatch):
    steps = crash_free_steps(three, tmp_path, monkeypatch)
    for first in range(1, steps + 1, 3):
        for second in range(1, 30):
            route, made = clone(three, tmp_path / f"s{first}-{second}"), MADE
            stopped_at(monkeypatch, first, lambda route=route: seal(route, messages=2))

            def again(route=route):
                with route.sealing():
                    recover.recover_seal(route)

            if not stopped_at(monkeypatch, second, again):
                break
            seal(route)
            assert sorted(transactions(route)) == sorted(made), (first, second)


@pytest.mark.parametrize("error", [EIO, FULL])
def test_an_error_at_any_step_is_not_retried_and_loses_nothing(three, tmp_path, monkeypatch, error):
    for step in range(1, crash_free_steps(three, tmp_path, monkeypatch) + 1):
        route, made = clone(three, tmp_path / f"e{step}"), MADE
        try:
            stopped_at(monkeypatch, step, lambda route=route: seal(route, messages=2), error=error)
        except Later as problem:
            assert problem.safe
        seal(route)

        assert sorted(transactions(route)) == sorted(made), step
        assert new(route) == []
        manifests(route)


def test_a_batch_whose_fsync_failed_is_never_used(route, monkeypatch):
    fill(route, 1)

    with pytest.raises(Later):
        stopped_at(monkeypatch, 1, lambda: seal(route), error=EIO, only=("fsync",))

    assert tree(route.at("ready")) == {}
    assert len(new(route)) == 1


def test_a_batch_that_reads_back_differently_is_thrown_away(route, monkeypatch):
    fill(route, 1)
    real = durable.sync_close

    def rot(fd):
        real(fd)
        for path in Path(route.at("tmp")).glob("*.bsmtp"):
            path.write_bytes(path.read_bytes().replace(b"Subject", b"Sbuject"))

    monkeypatch.setattr(durable, "sync_close", rot)
    with pytest.raises(Later, match="read back"):
        seal(route)

    assert tree(route.at("tmp")) == {}
    assert len(new(route)) == 1


def test_a_full_disk_is_drained_with_the_reserve_which_is_made_again(tmp_path, monkeypatch):
    route = make_route(tmp_path / "spool")
    reserve.make(route.spool, 4096)
    made = fill(route, 4)
    space = {"left": 300}
    real = durable.write_all

    def little_room(fd, data):
        if not os.path.exists(reserve.path_of(route.spool)):
            space["left"] = 10_000
        if len(data) > space["left"]:
            raise OSError(FULL, "No space left on device")
        space["left"] -= len(data) if len(data) > 60 else 0
        real(fd, data)

    monkeypatch.setattr(durable, "write_all", little_room)
    events = seal(route, reserve=4096)
    monkeypatch.undo()

    assert sorted(transactions(route)) == sorted(made)
    assert not [e for e in events if isinstance(e, Left)]
    assert os.path.getsize(reserve.path_of(route.spool)) == 4096


def test_a_disk_without_room_for_one_message_leaves_all_where_it_is(route, monkeypatch):
    fill(route, 4)

    def no_room(fd, data):
        raise OSError(FULL, "No space left on device")

    monkeypatch.setattr(durable, "write_all", no_room)
    events = seal(route)

    assert isinstance(events[-1], Left)
    assert len(new(route)) == 4


def test_a_damaged_list_stops_the_route_and_names_the_file(route):
    fill(route, 1)
    Path(route.at("lists", "00000001.list")).write_bytes(b"{")
    Path(route.at("ready", names.batch_name("example.org", 1, 0, "hub"))).write_bytes(b"")
    Path(route.at("ready", names.batch_name("example.org", 1, 0, "hub") + ".json")).write_bytes(b"")

    with pytest.raises(Setting, match=r"00000001\.list"):
        seal(route)

    assert len(new(route)) == 1


def test_a_list_where_no_row_admits_it_stops_the_route(route):
    """Its members may have been carried away already: sealing them again would double them."""
    fill(route, 1)
    Path(route.at("lists", "00000001.list")).write_bytes(b"{}")
    Path(route.at("kept", names.batch_name("example.org", 1, 0, "hub"))).write_bytes(b"")

    with pytest.raises(Setting, match="state"):
        seal(route)

    assert len(new(route)) == 1


def test_a_member_that_the_disk_brought_back_is_not_sealed_again(route):
    fill(route, 1)
    seal(route)
    put(route, message(1), queue_id="Q1")

    (event,) = seal(route)

    assert isinstance(event, Recovered)
    assert transactions(route) == [message(1)]
    assert new(route) == []


def test_foreign_files_in_new_are_left_alone(route):
    made = fill(route, 1)
    Path(route.at("new", "README")).write_text("hello")
    os.symlink("/etc/passwd", route.at("new", "0" * 40 + "." + "0" * 64))
    Path(route.at("new", "1" * 40 + "." + "0" * 64)).mkdir()

    seal(route)

    assert transactions(route) == made
    assert len(new(route)) == 3


def test_a_node_name_that_no_batch_can_carry_is_a_setting(route):
    with pytest.raises(Setting):
        list(seal_route(route, node="a_b/c", caps=Caps(), reserve_size=0))


def test_what_is_due(route):
    assert waiting(route) == Waiting(0, 0, None)
    found = Waiting(2, 100, 1000.0)

    def due(now=1000.0, age=300.0, octets=1000, messages=10):
        return is_due(found, age=age, octets=octets, messages=messages, now=now)

    assert not due()
    assert due(now=1300.0)
    assert due(octets=100)
    assert due(messages=2)
    assert due(now=0.0), "a clock that was set back must not keep mail for ever"
    assert not is_due(Waiting(0, 0, None), age=0, octets=0, messages=0, now=0)


def test_several_sealers_and_a_hand_in_at_once_lose_and_double_nothing(route):
    made = fill(route, 30)
    late = [message(n) for n in range(100, 130)]
    problems = []

    def keep_sealing():
        for _ in range(15):
            try:
                seal(route, messages=7)
            except Busy:
                pass
            except BaseException as error:
                problems.append(error)

    def hand_in():
        for place, data in enumerate(late):
            lock = durable.lock(route.at("index.lock"), shared=True)
            put(route, data, queue_id=f"L{place}")
            durable.unlock(lock)

    threads = [threading.Thread(target=target) for target in (keep_sealing, keep_sealing, keep_sealing, hand_in)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seal(route)

    assert problems == []
    assert sorted(transactions(route)) == sorted(made + late)
    found = manifests(route)
    assert [m.sequence for m in found] == list(range(1, len(found) + 1))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB that really is full when it is full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True)
    except OSError as error:
        mounted = subprocess.CompletedProcess([], 1, b"", str(error).encode())
    if mounted.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a small tmpfs: {mounted.stderr.decode()}")
        pytest.skip(f"cannot mount a small tmpfs (not root?): {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_full_to_the_last_block_is_drained(small_disk):
    route = make_route(small_disk / "spool")
    assert reserve.make(route.spool, 600_000) <= 600_000
    Path(reserve.path_of(route.spool)).unlink(missing_ok=True)
    Path(reserve.path_of(route.spool)).write_bytes(b"\0" * 600_000)
    made = []
    try:
        while True:
            body = b"Subject: %d\r\n\r\n" % len(made) + (b"x" * 70 + b"\r\n") * 1000
            data = text("a@x.org", "b@x.org", body=body)
            put(route, data, queue_id=f"Q{len(made)}")
            made.append(data)
    except OSError as error:
        assert error.errno == FULL
        for fragment in route.waiting():
            if fragment.size < 72_000:  # the one that no longer fitted
                os.unlink(fragment.path)
    assert os.statvfs(small_disk).f_bavail * 4096 < 3 * len(data)

    events = seal(route, reserve=1)

    assert not [e for e in events if isinstance(e, Left)], events
    assert sorted(transactions(route)) == sorted(made)
    assert new(route) == []
    assert len(manifests(route)) > 1


def test_a_message_the_disk_does_not_give_back_keeps_no_other_from_being_sealed(route, monkeypatch):
    made = fill(route, 3)
    bad = sorted(f.path for f in route.waiting())[1]
    real = os.read

    def read(fd, size):
        if os.readlink(f"/proc/self/fd/{fd}") == bad:
            raise OSError(5, "Input/output error")
        return real(fd, size)

    with monkeypatch.context() as patch:
        patch.setattr(build.os, "read", read)
        events = seal(route)

    assert [type(event) for event in events] == [Left, Sealed]
    assert bad in events[0].reason
    assert len(transactions(route)) == 2
    assert seal(route)[0].messages == 1
    assert sorted(map(str, transactions(route))) == sorted(map(str, made))
