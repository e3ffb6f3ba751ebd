from __future__ import annotations

import os

import pytest

from bsmtp_batch.spool import reserve, routes


def test_the_reserve_holds_real_blocks_and_gives_them_back(tmp_path):
    made = reserve.make(str(tmp_path), 1_000_000)

    found = os.stat(reserve.path_of(str(tmp_path)))
    assert found.st_size == made
    assert found.st_blocks * 512 >= made
    assert reserve.give_up(str(tmp_path)) == made
    assert reserve.give_up(str(tmp_path)) == 0
    assert os.listdir(tmp_path) == []


def test_it_is_never_more_than_its_share_of_the_file_system(tmp_path, monkeypatch):
    real = os.statvfs(tmp_path)

    class Small:
        f_blocks, f_frsize = 1000, real.f_frsize

    monkeypatch.setattr(os, "statvfs", lambda _: Small)

    assert reserve.make(str(tmp_path), 1 << 40) == 10 * real.f_frsize


def test_one_that_is_there_stays_as_it_is(tmp_path):
    first = reserve.make(str(tmp_path), 4096)

    assert reserve.make(str(tmp_path), 8192) == first


def test_a_failed_attempt_leaves_nothing(tmp_path, monkeypatch):
    def full(fd, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(OSError, match="No space"):
        reserve.make(str(tmp_path), 4096)

    assert os.listdir(tmp_path) == []


def test_file_systems_that_cannot_keep_the_promises_are_known(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x / ext4 rw 0 0\nserver:/x {tmp_path}/nfs nfs4 rw 0 0\nx {tmp_path}/nfs/local xfs rw 0 0\n")
    monkeypatch.setattr(routes, "MOUNTS", str(mounts))

    assert routes.file_system(f"{tmp_path}/nfs/spool") == "nfs4"
    assert routes.file_system(f"{tmp_path}/nfs/local/spool") is None
    assert routes.file_system(f"{tmp_path}/nfsother") is None
    monkeypatch.setattr(routes, "MOUNTS", str(tmp_path / "missing"))
    assert routes.file_system(f"{tmp_path}/nfs/spool") is None
