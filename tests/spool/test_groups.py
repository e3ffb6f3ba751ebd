"""Group commit: what was acknowledged comes to ``new/``, once, whatever happened; what was not does not."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import time
from pathlib import Path

import pytest
from support.batches import manifests
from support.spooldir import make_route

from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool import (
    groups,
    groups_drain,
    groups_file,
    groups_pour,
    groups_scratch,
    groups_sync,
    groups_writer,
    names,
    reserve,
    routes,
)
from bsmtp_batch.spool.groups import Entry, GroupWriter, NoRoom, drain, look, pending
from bsmtp_batch.spool.groups_file import PAGE, Gap, Record
from bsmtp_batch.spool.store import Route

ROUTES = ("a.example", "b.example")


@pytest.fixture
def spool(tmp_path: Path) -> str:
    for route in ROUTES:
        make_route(tmp_path, route)
    return str(tmp_path)


def entry(number: int, route: str = ROUTES[0], *, queue_id: bytes = b"", more: bytes = b"", cut: int = 0) -> Entry:
    data = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nnumber %d\r\n%s.\r\n" % (number, more)
    digest = hashlib.sha256(data).digest()
    key = names.key_of(queue_id or b"Q%d" % number, digest)
    return Entry(route, names.fragment_name(key, digest.hex()), (data[:cut], data[cut:]) if cut else data)


def whole(one: Entry) -> bytes:
    return b"".join(one.pieces())


def new(spool: str, route: str = ROUTES[0]) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in Path(spool, "out", route, "new").iterdir()}


def expected(*entries: Entry) -> dict[str, bytes]:
    return {one.name: whole(one) for one in entries}


def files(spool: str) -> list[str]:
    """The group files there are, without what is always there."""
    return sorted(
        name for name in os.listdir(f"{spool}/groups") if name not in {groups_file.DRAIN_LOCK, groups_scratch.POUR}
    )


def the_group(spool: str) -> Path:
    (name,) = files(spool)
    return Path(spool, "groups", name)


def commit(spool: str, *commits: list[Entry]) -> None:
    writer = GroupWriter(spool)
    for entries in commits:
        writer.commit(entries)
    writer.close()


def test_what_is_acknowledged_for_many_routes_comes_to_new(spool: str) -> None:
    large = entry(3, more=b"x" * 100 + b"\r\n", cut=10)
    huge = entry(4, ROUTES[1], more=b"a line\r\n" * 400_000)
    commit(spool, [entry(1), entry(2, ROUTES[1])], [large, huge])
    assert pending(spool) == (1, 4, sum(len(whole(e)) for e in (entry(1), entry(2), large, huge)))

    assert drain(spool) == []

    assert new(spool) == expected(entry(1), large)
    assert new(spool, ROUTES[1]) == expected(entry(2, ROUTES[1]), huge)
    assert files(spool) == [] and pending(spool) == (0, 0, 0)
    assert [list(Path(spool, "out", route, "tmp").iterdir()) for route in ROUTES] == [[], []]


def test_a_writer_whose_file_was_drained_begins_another_one(spool: str) -> None:
    writer = GroupWriter(spool)
    for number in range(3):
        writer.commit([entry(number)])
        assert drain(spool) == []
    assert new(spool) == expected(*map(entry, range(3)))
    assert files(spool) == []


def test_messages_keep_the_order_and_the_time_of_their_acceptance(spool: str) -> None:
    commit(spool, [entry(1), entry(2)], [entry(3)])
    drain(spool)
    found = sorted(Path(spool, "out", ROUTES[0], "new").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    assert [p.name for p in found] == [entry(n).name for n in (1, 2, 3)]


def test_a_message_that_is_in_a_batch_already_is_not_brought_back(spool: str) -> None:
    Path(spool, "out", ROUTES[0], "sealed", entry(1).name.partition(".")[0]).touch()
    commit(spool, [entry(1), entry(2)])
    assert pending(spool)[1] == 1
    drain(spool)
    assert new(spool) == expected(entry(2))


def test_a_message_that_is_handed_in_again_is_there_once(spool: str) -> None:
    commit(spool, [entry(1)], [entry(1)])
    drain(spool)
    commit(spool, [entry(1)])
    drain(spool)
    assert new(spool) == expected(entry(1))


# --- torn and damaged files -------------------------------------------------------------------------------------------


def test_a_commit_that_was_cut_anywhere_is_not_there_and_the_ones_before_it_are(spool: str) -> None:
    commit(spool, [entry(1)], [entry(n, more=b"y" * 300) for n in range(2, 60)])
    path = the_group(spool)
    data = path.read_bytes()
    last = entry(59, more=b"y" * 300)
    needed = data.rindex(whole(last)) + len(whole(last))
    for cut in (PAGE, PAGE + 1, PAGE + 44, PAGE + 100, PAGE + 199, PAGE + 220, 2 * PAGE, 3 * PAGE, needed - 1):
        path.write_bytes(data[:cut])
        said = drain(spool)
        assert new(spool) == expected(entry(1)), cut
        assert len(said) == (cut > PAGE) and all("nobody was told yes" in s for s in said), (cut, said)
        assert files(spool) == []
    path.write_bytes(data[:needed])
    assert drain(spool) == []
    assert len(new(spool)) == 59


def test_room_that_was_never_written_is_nothing(spool: str) -> None:
    commit(spool, [entry(1)])
    path = the_group(spool)
    path.write_bytes(path.read_bytes() + bytes(3 * PAGE))
    assert len(drain(spool)) == 1
    assert new(spool) == expected(entry(1)) and files(spool) == []


def test_a_last_commit_with_a_hole_in_it_is_kept_aside_and_told(spool: str) -> None:
    commit(spool, [entry(1)], [entry(2, more=b"z" * 3 * PAGE)])
    path = the_group(spool)
    data = bytearray(path.read_bytes())
    data[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    (said,) = drain(spool)
    assert new(spool) == expected(entry(1))
    odd, reason = files(spool)
    assert (odd.endswith(".odd"), reason) == (True, odd + ".reason") and odd in said
    assert Path(spool, "groups", odd).read_bytes() == bytes(data[PAGE:])
    assert [o.path for o in look(spool).odd] == [f"{spool}/groups/{odd}"]
    assert drain(spool) == [] and len(files(spool)) == 2


def test_rubbish_in_the_middle_is_kept_aside_and_what_follows_it_is_found(spool: str) -> None:
    commit(spool, [entry(1)], [entry(2, more=b"z" * 2 * PAGE)], [entry(3)])
    path = the_group(spool)
    data = bytearray(path.read_bytes())
    data[PAGE + 30] ^= 1
    path.write_bytes(data)
    assert len(drain(spool)) == 1
    assert new(spool) == expected(entry(1), entry(3))
    assert Path(spool, "groups", files(spool)[0]).read_bytes() == bytes(data[PAGE:-PAGE])


def test_a_message_that_looks_like_a_record_is_none(spool: str) -> None:
    """Who sends mail cannot know BASE, and so cannot write a record into the middle of a damaged file."""
    forged = entry(9, ROUTES[1])
    record = groups_file.head("0" * 24, 1, [(forged.route, forged.name, forged.size())]) + whole(forged)
    start = len(groups_file.head("0" * 24, 1, [(ROUTES[0], forged.name, 9000)])) + whole(entry(2)).index(b".\r\n")
    carrier = entry(2, more=b"p" * (PAGE - start) + record + bytes(PAGE))
    commit(spool, [entry(1)], [carrier], [entry(3)])
    path = the_group(spool)
    data = bytearray(path.read_bytes())
    assert any(data[at:].startswith(record) for at in range(0, len(data), PAGE)), "not on a page border"
    data[PAGE + 30] ^= 1
    path.write_bytes(data)
    drain(spool)
    assert new(spool) == expected(entry(1), entry(3)) and new(spool, ROUTES[1]) == {}


def test_a_file_of_others_is_left_alone(spool: str) -> None:
    commit(spool, [entry(1)])
    Path(spool, "groups", "notes.txt").write_text("mine")
    Path(spool, "groups", ".left-by-a-killed-drain").write_text("")
    drain(spool)
    assert files(spool) == ["notes.txt"]


# --- routes that are not there ----------------------------------------------------------------------------------------


def test_mail_for_a_route_that_was_removed_waits_for_it_and_is_told_once(spool: str) -> None:
    commit(spool, [entry(1), entry(2, "gone.example")], [entry(3, "far.example", cut=5)])
    gone, far = drain(spool)
    assert "gone.example" in gone and "far.example" in far and "no such route" in far
    assert new(spool) == expected(entry(1))
    assert drain(spool) == [] and pending(spool)[1] == 2

    make_route(Path(spool), "gone.example")
    (said,) = drain(spool)
    assert "far.example" in said and "gone" not in said
    assert new(spool, "gone.example") == expected(entry(2, "gone.example")) and pending(spool)[1] == 1

    make_route(Path(spool), "far.example")
    assert drain(spool) == [] and files(spool) == []
    assert new(spool, "far.example") == expected(entry(3, "far.example"))


def test_a_route_that_is_removed_while_it_is_drained_takes_no_mail_with_it(spool: str, monkeypatch) -> None:
    commit(spool, [entry(1), entry(2, ROUTES[1])])
    real = groups_pour._is
    removed = []

    def is_(path: str, home: int) -> bool:
        if path.endswith(ROUTES[0]):
            removed.append(f"{spool}/out/.removed")
            os.rename(path, removed[0])
        return real(path, home)

    monkeypatch.setattr(groups_pour, "_is", is_)
    (said,) = drain(spool)
    assert removed and ROUTES[0] in said
    assert list(Path(removed[0], "new").iterdir()) == [] and list(Path(removed[0], "tmp").iterdir()) == []
    assert pending(spool)[1] == 1 and new(spool, ROUTES[1]) == expected(entry(2, ROUTES[1]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_route_that_cannot_be_written_costs_nobody_else_anything(spool: str) -> None:
    closed = Path(spool, "out", ROUTES[0], "new")
    closed.chmod(0o500)
    commit(spool, [entry(1), entry(2, ROUTES[1])])
    (said,) = drain(spool)
    assert ROUTES[0] in said and "cannot be written" in said
    assert new(spool, ROUTES[1]) == expected(entry(2, ROUTES[1])) and look(spool).left == {ROUTES[0]}
    closed.chmod(0o700)
    assert drain(spool) == [] and new(spool) == expected(entry(1)) and files(spool) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EISDIR])
def test_an_error_of_one_route_costs_nobody_else_anything(spool: str, monkeypatch, number: int) -> None:
    commit(spool, [entry(1), entry(2, ROUTES[1]), entry(3)])
    real = os.rename

    def rename(source: str, target: str, **where: int) -> None:
        if target.endswith(entry(3).name):
            raise OSError(number, os.strerror(number), source)
        real(source, target, **where)

    with monkeypatch.context() as patch:
        patch.setattr(groups_pour.os, "rename", rename)
        (said,) = drain(spool)
        assert ROUTES[0] in said and os.strerror(number) in said
        assert new(spool, ROUTES[1]) == expected(entry(2, ROUTES[1]))
        assert drain(spool) == []
    assert drain(spool) == [] and files(spool) == []
    assert new(spool) == expected(entry(1), entry(3))


# --- a medium that says no --------------------------------------------------------------------------------------------


def fail(number: int):
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.parametrize("call", ["writev", "fsync"])
@pytest.mark.parametrize("cut", ["cut off", "cannot be cut off"])
def test_what_could_not_be_made_durable_does_not_come_up_later(spool: str, monkeypatch, call: str, cut: str) -> None:
    writer = GroupWriter(spool)
    writer.commit([entry(1)])
    with monkeypatch.context() as patch:
        patch.setattr(groups_writer.os, call, fail(5))
        if cut != "cut off":
            patch.setattr(groups_writer.os, "ftruncate", fail(5))
        with pytest.raises(OSError):
            writer.commit([entry(2)])
    writer.commit([entry(3)])
    writer.close()
    assert len(files(spool)) == 2
    drain(spool)
    assert new(spool) == expected(entry(1), entry(3)) and files(spool) == []


def test_a_first_commit_that_fails_leaves_nothing(spool: str, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(groups_writer.os, "fsync", fail(5))
        with pytest.raises(OSError):
            commit(spool, [entry(1)])
    assert files(spool) == []


def test_an_answer_that_nobody_waits_for_is_taken_back(spool: str) -> None:
    writer = GroupWriter(spool)
    with pytest.raises(TimeoutError):
        writer.commit([entry(1)], wanted=lambda: False)
    writer.commit([entry(2)], wanted=lambda: True)
    with pytest.raises(TimeoutError):
        writer.commit([entry(3)], wanted=lambda: False)
    drain(spool)
    assert new(spool) == expected(entry(2))


def test_below_the_reserve_nothing_is_written_and_the_route_is_named(spool: str) -> None:
    Path(spool, "out", ROUTES[1], names.LIMITS).write_bytes(b"min_free 999999999999999999\nmin_inodes 0\n")
    writer = GroupWriter(spool)
    with pytest.raises(NoRoom) as refused:
        writer.commit([entry(1), entry(2, ROUTES[1])])
    assert refused.value.routes == {ROUTES[1]} and not os.path.exists(f"{spool}/groups")
    writer.commit([entry(1)])
    Path(spool, "out", ROUTES[0], names.LIMITS).write_bytes(b"min_free 0\nmin_inodes 999999999999999\n")
    with pytest.raises(NoRoom):
        writer.commit([entry(3)])
    drain(spool)
    assert new(spool) == expected(entry(1))


def test_a_sync_that_failed_is_not_tried_again_but_everything_is_written_anew(spool: str, monkeypatch) -> None:
    both = [entry(1), entry(2, ROUTES[1])]
    paths = [f"{spool}/out/{one.route}/new/{one.name}" for one in both]
    commit(spool, both)
    before = []

    def syncfs(fd: int) -> int:
        before.extend(map(open, paths))  # open, so that their inodes are not used again
        return 5

    monkeypatch.setattr(groups_sync, "_syncfs", lambda: syncfs)
    (said,) = drain(spool)
    assert "Input/output error" in said
    inodes = {os.fstat(file.fileno()).st_ino for file in before}
    for file in before:
        file.close()
    assert len(inodes) == 2 and not inodes & {os.stat(path).st_ino for path in paths}, "what was not synced is there"
    assert files(spool) == []


def test_a_route_on_a_file_system_of_its_own_is_synced_there(spool: str, monkeypatch) -> None:
    commit(spool, [entry(1), entry(2), entry(3, ROUTES[1])])
    real_rename, real_fsync, synced = os.rename, os.fsync, []

    def rename(source: str, target: str, **where: int) -> None:
        if where and where["src_dir_fd"] != where["dst_dir_fd"]:
            raise OSError(18, "Invalid cross-device link")
        real_rename(source, target, **where)

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real_fsync(fd)

    monkeypatch.setattr(groups_pour.os, "rename", rename)
    monkeypatch.setattr(groups_pour.os, "fsync", fsync)
    assert drain(spool) == []
    assert new(spool) == expected(entry(1), entry(2)) and new(spool, ROUTES[1]) == expected(entry(3, ROUTES[1]))
    assert len(synced) == 3 and all("/tmp/" in path for path in synced)
    assert files(spool) == []


def test_without_a_sync_of_everything_each_file_is_synced(spool: str, monkeypatch) -> None:
    commit(spool, [entry(1), entry(2, ROUTES[1])])
    synced = []
    real = os.fsync
    monkeypatch.setattr(groups_sync, "_syncfs", lambda: None)
    monkeypatch.setattr(
        groups_sync.os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))
    )
    drain(spool)
    assert len([path for path in synced if "/pour/" in path]) == 2
    assert new(spool) == expected(entry(1)) and new(spool, ROUTES[1]) == expected(entry(2, ROUTES[1]))


def test_nothing_is_let_go_of_when_the_disk_refuses_for_good(spool: str, monkeypatch) -> None:
    commit(spool, [entry(1)])
    with monkeypatch.context() as patch:
        patch.setattr(groups_sync, "_syncfs", lambda: lambda fd: 5)
        patch.setattr(groups_sync.os, "fsync", fail(5))
        with pytest.raises(OSError):
            drain(spool)
    assert len(files(spool)) == 1
    drain(spool)
    assert new(spool) == expected(entry(1)) and files(spool) == []


def test_a_full_disk_gets_its_reserve_back_to_be_drained(spool: str, monkeypatch) -> None:
    reserve.make(spool, 100_000)
    commit(spool, [entry(1)])
    commit(spool, [entry(2)])
    real = groups_pour.durable.write_all

    def write_all(fd: int, data: bytes) -> None:
        if os.path.exists(reserve.path_of(spool)) and b"number 2" in data:
            raise OSError(28, "No space left on device")
        real(fd, data)

    monkeypatch.setattr(groups_pour.durable, "write_all", write_all)
    assert drain(spool) == []
    assert new(spool) == expected(entry(1), entry(2)) and files(spool) == []


def test_what_the_disk_does_not_give_back_does_not_keep_the_rest(spool: str, monkeypatch) -> None:
    commit(spool, [entry(1), entry(2), entry(3)], [entry(4)])
    real = os.pread
    bad = the_group(spool).read_bytes().index(whole(entry(2)))

    def pread(fd: int, size: int, at: int) -> bytes:
        if at == bad:
            raise OSError(5, "Input/output error")
        return real(fd, size, at)

    with monkeypatch.context() as patch:
        patch.setattr(groups_file.os, "pread", pread)
        (said,) = drain(spool)
        assert "cannot be read" in said
        assert new(spool) == expected(entry(1), entry(3), entry(4))
        unread, reason = files(spool)
        assert (unread[24:], reason) == (".unread", unread + ".reason") and len(look(spool).odd) == 1
        tried = time.time() - groups_drain.RETRY
        os.utime(f"{spool}/groups/{unread}", (tried, tried))
        assert drain(spool) == [] and len(files(spool)) == 2
    assert drain(spool) == [] and len(files(spool)) == 2, "asked for again at once"
    os.utime(f"{spool}/groups/{unread}", (tried, tried))
    os.utime(f"{spool}/groups/{reason}", (tried, tried - groups_drain.GIVE_UP))
    assert drain(spool) == [] and len(files(spool)) == 2, "asked for again after the KEYs are forgotten"
    os.utime(f"{spool}/groups/{reason}", (tried, tried))
    assert drain(spool) == [] and files(spool) == []
    assert new(spool) == expected(*map(entry, (1, 2, 3, 4)))


def test_a_group_is_asked_for_again_although_the_drain_that_could_not_read_it_was_stopped(
    spool: str, monkeypatch
) -> None:
    commit(spool, [entry(1)])

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(groups_file.os, "pread", refuse)
        patch.setattr(groups_drain.durable, "write_file", refuse)
        with pytest.raises(OSError, match="Input"):
            drain(spool)
    drain(spool)
    assert new(spool) == expected(entry(1))


def test_what_is_not_given_back_once_is_asked_for_again_at_once(spool: str, monkeypatch) -> None:
    commit(spool, [entry(1)])
    real, calls = os.pread, []

    def pread(fd: int, size: int, at: int) -> bytes:
        calls.append(at)
        if len(calls) == 1:
            raise OSError(5, "Input/output error")
        return real(fd, size, at)

    monkeypatch.setattr(groups_file.os, "pread", pread)
    assert drain(spool) == []
    assert new(spool) == expected(entry(1)) and files(spool) == []


@pytest.mark.parametrize("place", [0, PAGE, 2 * PAGE], ids=["head", "another head", "message"])
def test_a_group_that_cannot_be_read_at_all_stays(spool: str, monkeypatch, place: int) -> None:
    commit(spool, [entry(1)], [entry(2, more=b"y" * 2 * PAGE)])
    real = os.pread

    def pread(fd: int, size: int, at: int) -> bytes:
        if at <= place < at + size:
            raise OSError(5, "Input/output error")
        return real(fd, size, at)

    with monkeypatch.context() as patch:
        patch.setattr(groups_file.os, "pread", pread)
        assert len(drain(spool)) == 1
    unread, _ = files(spool)
    os.utime(f"{spool}/groups/{unread}", (1, time.time() - groups_drain.RETRY))
    assert drain(spool) == [] and files(spool) == []
    assert new(spool) == expected(entry(1), entry(2, more=b"y" * 2 * PAGE))


def test_what_was_given_up_and_cannot_be_read_keeps_its_end(spool: str) -> None:
    name = groups_file.cut_name("a" * 24, groups_file.UNREAD, 8192)
    found = groups_file.parse_name(name)
    assert found is not None and (found.kind, found.limit) == (groups_file.UNREAD, 8192)


# --- at the same time -------------------------------------------------------------------------------------------------


def test_a_large_group_file_is_left_for_another_one(spool: str, monkeypatch) -> None:
    monkeypatch.setattr(groups_writer, "LARGEST", 2 * PAGE)
    commit(spool, *([entry(n)] for n in range(5)))
    assert len(files(spool)) == 3
    drain(spool)
    assert new(spool) == expected(*map(entry, range(5)))


def test_more_pieces_than_one_call_takes_are_written(spool: str) -> None:
    many = [entry(n, cut=3) for n in range(groups_writer.PIECES)]
    commit(spool, many)
    assert drain(spool) == [] and new(spool) == expected(*many)


def test_a_drain_that_is_held_up_does_not_bring_a_sealed_message_back(spool: str, monkeypatch) -> None:
    """The sealer has drained and chosen; the same message comes in a group, and its drain is held before its rename."""
    route = Route(spool, ROUTES[0])
    commit(spool, [entry(1)])
    drain(spool)
    commit(spool, [entry(1)])
    looked, go_on, real = threading.Event(), threading.Event(), groups_pour._is_there

    def is_there(home: int, name: str) -> bool:
        found = real(home, name)
        if name.startswith(names.SEALED):
            looked.set()
            assert go_on.wait(30)
        return found

    monkeypatch.setattr(groups_pour, "_is_there", is_there)
    monkeypatch.setattr("bsmtp_batch.seal.stage._drain", lambda route: [])
    draining = threading.Thread(target=drain, args=(spool,))
    draining.start()
    assert looked.wait(30)
    sealing = threading.Thread(target=lambda: list(seal_route(route, node="hub", caps=Caps(), reserve_size=0)))
    sealing.start()
    deadline = time.monotonic() + 30
    while sealing.is_alive() and not waits_for_a_lock():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    held = sealing.is_alive()
    go_on.set()
    draining.join(30)
    sealing.join(30)
    assert held, "sealed to the end while a drain was between its look-up and its rename"
    assert new(spool) == {} and files(spool) == [] and len(manifests(route)) == 1


def waits_for_a_lock() -> bool:
    """Whether the kernel lists a thread of ours as blocked behind a lock."""
    return re.search(rf"-> FLOCK .* {os.getpid()} ", Path("/proc/locks").read_text()) is not None


def test_nothing_to_drain_takes_no_lock(spool: str, monkeypatch) -> None:
    monkeypatch.setattr(groups.drain.__globals__["durable"], "lock", fail(5))
    assert drain(spool) == []
    groups.make_groups(spool)
    assert drain(spool) == []


def test_scan_says_what_is_a_record(spool: str) -> None:
    commit(spool, [entry(1)], [entry(2), entry(3)])
    path = the_group(spool)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        parts = list(groups_file.scan(file.fileno(), path.name, size))
        other = list(groups_file.scan(file.fileno(), "f" * 24, size))
    assert [len(part.places) for part in parts if isinstance(part, Record)] == [1, 2]
    assert other == [Gap(0, size, torn=False)]


def test_names_of_group_files() -> None:
    base = groups_file.new_base()
    kinds = {name: groups_file.parse_name(name) for name in (base, f"{base}.full", f"{base}.left", f"{base}.odd")}
    assert [found and found.kind for found in kinds.values()] == ["", ".full", ".left", ".odd"]
    failed = groups_file.parse_name(groups_file.cut_name(base, groups_file.FAILED, 8192))
    assert failed is not None and (failed.kind, failed.limit, failed.base) == (".failed", 8192, base)
    assert [groups_file.parse_name(name) for name in ("drain.lock", f".{base}", f"{base}.odd.reason", "x")] == [
        None
    ] * 4


def test_a_route_is_not_removed_while_mail_for_it_is_in_a_group(spool: str) -> None:
    commit(spool, [entry(1)])
    with pytest.raises(Exception, match="holds mail"):
        routes.remove(Route(spool, ROUTES[0]))
