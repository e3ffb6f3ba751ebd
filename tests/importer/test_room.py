"""A full disk: an import gets the reserve, because it is what empties the disk."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from bsmtp_batch.importer import room
from bsmtp_batch.spool import reserve


@pytest.fixture
def spool(tmp_path):
    reserve._allocate(str(tmp_path / "reserve"), 100_000)
    return str(tmp_path)


def free(monkeypatch, octets):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=octets, f_frsize=1, f_blocks=1 << 40))


def test_a_full_disk_gets_the_reserve_for_the_time_of_the_import(spool, monkeypatch):
    free(monkeypatch, 1000)
    with room.made(spool, dry_run=False):
        assert not os.path.exists(reserve.path_of(spool))
    assert os.path.getsize(reserve.path_of(spool)) == 100_000


def test_a_disk_that_stays_full_does_without_until_later(spool, monkeypatch):
    free(monkeypatch, 1000)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reserve, "_allocate", full)
    with room.made(spool, dry_run=False):
        pass
    assert not os.path.exists(reserve.path_of(spool))


def test_with_room_or_in_a_dry_run_the_reserve_stays(spool, monkeypatch):
    with room.made(spool, dry_run=False):
        assert os.path.exists(reserve.path_of(spool))
    free(monkeypatch, 1000)
    with room.made(spool, dry_run=True):
        assert os.path.exists(reserve.path_of(spool))
