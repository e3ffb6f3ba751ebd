"""Making and removing routes: no half-made route takes mail, and a removal that was stopped leaves nothing for ever."""

from __future__ import annotations

import os

import pytest

from bsmtp_batch.errors import Setting
from bsmtp_batch.spool import durable, listing, routes
from bsmtp_batch.spool.names import Limits
from bsmtp_batch.spool.store import Route


def add(spool, name="site.example", **limits):
    return routes.add(str(spool), name, Limits(**limits), reserve_size=0)


def test_a_route_takes_no_mail_before_its_limits_are_there(tmp_path, monkeypatch):
    def refuse(path, data):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(durable, "write_file", refuse)
    with pytest.raises(Setting, match="cannot be made"):
        add(tmp_path / "spool", max_size=1000)

    home = tmp_path / "spool" / "out" / "site.example"
    assert (home / "tmp").is_dir()
    assert not (home / "new").exists()

    monkeypatch.undo()
    add(tmp_path / "spool", max_size=1000)
    assert (home / "new").is_dir()
    assert Limits.from_bytes((home / "limits").read_bytes()).max_size == 1000


def test_a_removal_that_was_stopped_is_finished_by_the_next_command(tmp_path):
    route = add(tmp_path / "spool")
    os.rename(route.path, tmp_path / "spool" / "out" / ".removed.site.example.77.abc")

    add(tmp_path / "spool", "other.example")

    assert os.listdir(tmp_path / "spool" / "out") == ["other.example"]


def test_a_removed_route_leaves_nothing_behind(tmp_path):
    routes.remove(add(tmp_path / "spool"))

    assert os.listdir(tmp_path / "spool" / "out") == []


def test_what_cannot_be_looked_at_is_not_taken_for_missing(tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(OSError, match="symbolic links"):
        listing.is_there(f"{tmp_path}/loop/x")
    with pytest.raises(OSError, match="symbolic links"):
        Route(f"{tmp_path}/loop", "site.example").remembers("0" * 40)
    assert not listing.is_there(f"{tmp_path}/nothing")
