"""Durable files: what failed must be seen to have failed, and nothing may be replaced by half of something."""

from __future__ import annotations

import fcntl
import os
import posix
import stat
import threading
from pathlib import Path

import pytest

from bsmtp_batch.spool import durable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names, in order, of the system calls that make things durable."""
    made: list[str] = []

    def record(name: str) -> None:
        real = getattr(posix, name)

        def recorded(*arguments: object) -> object:
            made.append(name)
            return real(*arguments)

        monkeypatch.setattr(posix, name, recorded)

    for name in ("write", "fsync", "close", "rename", "unlink"):
        record(name)
    return made


def fail(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def failing(*_: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(posix, name, failing)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_new_file_is_for_its_owner_only_and_never_an_existing_one(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    os.close(durable.create(path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        durable.create(path)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        durable.create(str(tmp_path / "link"))
    with pytest.raises(OSError, match="symbolic links"):
        durable.lock(str(tmp_path / "link"))
    assert not (tmp_path / "elsewhere").exists()


def test_short_writes_are_continued_to_the_last_octet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = posix.write
    monkeypatch.setattr(posix, "write", lambda fd, data: real(fd, memoryview(data)[:7]))
    fd = durable.create(str(tmp_path / "x"))
    durable.write_all(fd, bytes(range(100)))
    durable.write_all(fd, b"")
    durable.sync_close(fd)
    assert (tmp_path / "x").read_bytes() == bytes(range(100))


def test_a_failed_fsync_is_raised_once_and_the_file_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    fd = durable.create(str(tmp_path / "x"))
    fail(monkeypatch, "fsync")
    with pytest.raises(OSError, match="Input/output"):
        durable.sync_close(fd)
    with pytest.raises(OSError, match="Input/output"):
        durable.fsync_dir(str(tmp_path))
    assert open_descriptors() == before


def test_a_failed_close_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = durable.create(str(tmp_path / "x"))
    fail(monkeypatch, "close")
    with pytest.raises(OSError, match="Input/output"):
        durable.sync_close(fd)
    monkeypatch.undo()
    os.close(fd)


def test_a_rename_is_durable_at_both_ends(tmp_path: Path, calls: list[str]) -> None:
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
    for name, sync_source, syncs in (("1", True, 2), ("2", False, 1)):
        (tmp_path / "a" / name).write_bytes(b"x")
        calls.clear()
        durable.rename_durably(str(tmp_path / "a" / name), str(tmp_path / "b" / name), sync_source=sync_source)
        assert calls[0] == "rename" and calls.count("fsync") == syncs
        assert (tmp_path / "b" / name).exists()
    calls.clear()
    durable.rename_durably(str(tmp_path / "b" / "1"), str(tmp_path / "b" / "3"))
    assert calls.count("fsync") == 1


def test_a_relative_name_is_synced_in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    durable.write_file("a", b"1")
    durable.rename_durably("a", "b")
    assert Path("b").read_bytes() == b"1"


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, calls: list[str]) -> None:
    durable.write_file(str(tmp_path / "x"), b"data")
    assert calls == ["write", "fsync", "close", "rename", "fsync", "close"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_file_that_could_not_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    before = open_descriptors()
    fail(monkeypatch, call)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_file(str(path), b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert open_descriptors() == before


def test_removing_what_is_not_there_is_no_failure(tmp_path: Path) -> None:
    durable.remove(str(tmp_path / "x"))


def test_unique_names_do_not_repeat() -> None:
    assert len({durable.unique() for _ in range(1000)}) == 1000


def test_an_exclusive_lock_keeps_others_out_until_it_is_let_go(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = durable.lock(path)
    for shared in (False, True):
        with pytest.raises(BlockingIOError):
            durable.lock(path, shared=shared, block=False)
    durable.unlock(held)
    durable.unlock(durable.lock(path, block=False))


def test_shared_locks_do_not_exclude_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    one, two = durable.lock(path, shared=True), durable.lock(path, shared=True, block=False)
    with pytest.raises(BlockingIOError):
        durable.lock(path, block=False)
    durable.unlock(one)
    durable.unlock(two)


def test_a_lock_file_removed_meanwhile_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    real = fcntl.flock
    removed = threading.Event()

    def flock(fd: int, how: int) -> None:
        if not removed.is_set():
            path.unlink()  # the race: somebody removes the file after our open and before our lock
            removed.set()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = durable.lock(str(path))
    assert os.fstat(held).st_ino == path.stat().st_ino
    durable.unlock(held)


def test_a_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    held = durable.lock(str(tmp_path / "lock"))
    assert not os.get_inheritable(held)
    durable.unlock(held)
