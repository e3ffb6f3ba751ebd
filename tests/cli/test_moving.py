"""route, seal, push, pull, receive, expire and status, run as an operator runs them."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.batches import manifests, transactions
from support.fragments import fill, put, tree

from bsmtp_batch.cli.app import run
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.store import Route


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def medium(tmp_path):
    path = tmp_path / "medium"
    path.mkdir()
    return path


@pytest.fixture
def site(tmp_path):
    return tmp_path / "site"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "hub"\nreserve = 0\n')
    return path


@pytest.fixture
def cli(config, capsys):
    def call(*arguments, spool, code=0):
        found = run([*arguments, "--config", str(config), "--spool", str(spool)])
        said = capsys.readouterr()
        assert found == code, said
        return said

    return call


def rows(said):
    return [json.loads(line) for line in said.out.splitlines()]


def test_a_route_is_made_with_its_parents_and_limits_for_its_owner_alone(cli, spool, config):
    config.write_text(config.read_text() + '[route."example.org"]\nmax_size = "10M"\nnul = "refuse"\n')

    cli("route", "add", "Example.ORG", spool=spool / "deep")

    route = Route(str(spool / "deep"), "example.org")
    assert {e.name for e in os.scandir(route.path) if e.is_dir()} == set(names.OUT_DIRECTORIES)
    for path in (spool / "deep", Path(route.path), Path(route.at("new"))):
        assert path.stat().st_mode & 0o777 == 0o700
    limits = names.Limits.from_bytes(Path(route.at("limits")).read_bytes())
    assert (limits.max_size, limits.nul) == (10_000_000, "refuse")


def test_adding_a_route_again_changes_its_limits_and_nothing_else(cli, spool, config):
    cli("route", "add", "example.org", spool=spool)
    route = Route(str(spool), "example.org")
    fill(route, 1)
    config.write_text(config.read_text() + '[route."example.org"]\nmax_size = 7\n')

    cli("route", "add", "example.org", spool=spool)

    assert len(os.listdir(route.at("new"))) == 1
    assert b"max_size 7\n" in Path(route.at("limits")).read_bytes()


@pytest.mark.parametrize(
    "name", ["..", "/etc", "a/b", "-rf", "a..b", "", "exa mple.org", "ü.example", "a\n", "a." * 64 + "a"]
)
def test_a_name_that_is_no_route_makes_nothing(cli, spool, name):
    assert run(["route", "add", "--spool", str(spool), "--", name]) == 64
    assert not spool.exists()


def test_a_dry_run_of_route_makes_nothing(cli, spool):
    assert "would make" in cli("route", "add", "example.org", "--dry-run", spool=spool).out
    assert not spool.exists()


def test_a_route_with_mail_is_not_removed_and_says_how_much_there_is(cli, spool, medium, site):
    cli("route", "add", "example.org", spool=spool)
    route = Route(str(spool), "example.org")
    fill(route, 2)
    assert "2 messages" in cli("route", "remove", "example.org", spool=spool, code=64).err
    cli("seal", spool=spool)
    assert "1 batches" in cli("route", "remove", "example.org", spool=spool, code=64).err
    for step in (("push", spool), ("pull", site), ("push", spool)):
        cli(step[0], f"dir:{medium}", spool=step[1])
    assert "would remove" in cli("route", "remove", "example.org", "--dry-run", spool=spool).out
    assert os.path.isdir(route.path)

    cli("route", "remove", "example.org", spool=spool)

    assert os.listdir(spool / "out") == []
    cli("route", "remove", "example.org", spool=spool, code=64)


def test_routes_are_listed(cli, spool):
    cli("route", "add", "b.example", "a.example", spool=spool)
    fill(Route(str(spool), "a.example"), 3)

    found = rows(cli("route", "list", "--json", spool=spool))

    assert [(r["route"], r["messages"]) for r in found] == [("a.example", 3), ("b.example", 0)]
    assert "a.example: 3 messages waiting" in cli("route", "list", spool=spool).out


def test_the_whole_way_there_and_the_receipt_back(cli, spool, site, medium):
    cli("route", "add", "site.example", spool=spool)
    route = Route(str(spool), "site.example")
    made = fill(route, 3)

    (sealed,) = rows(cli("seal", "--json", spool=spool))
    said = cli("push", f"dir:{medium}", spool=spool)
    assert "3 messages" in said.out
    assert "waits for a receipt" in said.out
    (arrived,) = rows(cli("pull", f"dir:{medium}", "--json", spool=site))
    assert (arrived["kind"], arrived["name"], arrived["party"]) == ("arrived", sealed["name"], "hub")
    assert "acknowledged" in cli("push", f"dir:{medium}", spool=spool).out

    assert transactions(route, "kept") == made
    assert tree(medium) == {}


def test_dry_runs_say_what_would_be_done_and_do_nothing(cli, spool, site, medium):
    cli("route", "add", "site.example", spool=spool)
    route = Route(str(spool), "site.example")
    fill(route, 3)
    before = tree(spool)
    assert "3 messages" in cli("seal", "--dry-run", spool=spool).out
    assert tree(spool) == before
    cli("seal", spool=spool)
    before = tree(spool)
    assert "3 messages" in cli("push", f"dir:{medium}", "--dry-run", spool=spool).out
    assert (tree(spool), tree(medium)) == (before, {})
    cli("push", f"dir:{medium}", spool=spool)
    there = tree(medium)
    assert "3 messages" in cli("pull", f"dir:{medium}", "--dry-run", spool=site).out
    assert tree(medium) == there
    assert not site.exists()
    before = tree(spool)
    cli("expire", "--dry-run", spool=spool)
    assert tree(spool) == before


def test_seal_with_due_leaves_what_is_young_small_and_few(cli, spool, config):
    config.write_text(config.read_text() + '[route."a.example"]\nseal_age = "1h"\nseal_count = 3\n')
    cli("route", "add", "a.example", spool=spool)
    route = Route(str(spool), "a.example")
    fill(route, 2)
    assert cli("seal", "--due", spool=spool).out == ""
    fill(route, 1, first=3)
    assert "3 messages" in cli("seal", "--due", spool=spool).out
    put(route, b"", age=4000)
    cli("seal", "--due", spool=spool, code=65)


def test_a_busy_route_is_passed_over_and_the_others_are_sealed(cli, spool):
    cli("route", "add", "a.example", "b.example", spool=spool)
    routes = [Route(str(spool), name) for name in ("a.example", "b.example")]
    for route in routes:
        fill(route, 1)

    with routes[0].sealing():
        said = cli("seal", spool=spool, code=75)

    assert "a.example is at work" in said.err
    assert len(manifests(routes[1])) == 1


def test_a_damaged_message_is_told_and_makes_65(cli, spool):
    cli("route", "add", "a.example", spool=spool)
    route = Route(str(spool), "a.example")
    fill(route, 1)
    name = put(route, b"nothing", age=50)

    said = cli("seal", spool=spool, code=65)

    assert name in said.err
    assert "1 message" in said.out
    status = rows(cli("status", "--json", spool=spool))[0]
    assert status["set_aside"][0]["path"].endswith(name)
    assert status["set_aside"][0]["reason"]


@pytest.mark.parametrize("url", ["uucp://x", "ftp:/x", "nobody", "dir:relative", "dir:"])
def test_an_unknown_scheme_or_peer_names_what_there_is(cli, spool, url):
    cli("route", "add", "a.example", spool=spool)
    for verb in ("push", "pull"):
        assert "dir:/path" in cli(verb, url, spool=spool, code=64).err


def test_peers_of_the_settings_are_reached_by_name_and_all_in_turn(cli, spool, site, medium, config):
    config.write_text(config.read_text() + f'[peer.stick]\nurl = "dir:{medium}"\nroutes = ["site.example"]\n')
    cli("route", "add", "site.example", "other.example", spool=spool)
    for name in ("site.example", "other.example"):
        fill(Route(str(spool), name), 1)
    cli("seal", spool=spool)

    cli("push", spool=spool)

    assert [p.name for p in medium.iterdir()] == ["site.example"]
    assert "arrived" in cli("pull", "stick", spool=site).out
    assert "acknowledged" in cli("push", "stick", spool=spool).out


def test_a_medium_that_is_not_there_is_for_later(cli, spool, medium):
    cli("route", "add", "a.example", spool=spool)
    medium.rmdir()

    for verb in ("push", "pull"):
        assert "mount" in cli(verb, f"dir:{medium}", spool=spool, code=75).err


def test_a_spool_that_is_not_there_is_not_taken_for_an_empty_one(cli, spool, medium):
    for command in (["seal"], ["seal", "--due"], ["push", f"dir:{medium}"], ["status"], ["status", "--json"]):
        assert f"there is no spool at {spool}" in cli(*command, spool=spool, code=78).err
    assert not spool.exists()


def test_nothing_to_do_is_no_failure(cli, tmp_path, spool, medium):
    spool.mkdir()
    for command in (["seal"], ["push", f"dir:{medium}"], ["expire"], ["status"], ["pull", f"dir:{medium}"]):
        cli(*command, spool=spool)


@contextmanager
def standard_input(path):
    """Descriptor 0 is the file ``path``."""
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_receive_speaks_on_standard_input_and_output(spool, site, monkeypatch, config, tmp_path):
    assert run(["route", "add", "site.example", "--config", str(config), "--spool", str(spool)]) == 0
    route = Route(str(spool), "site.example")
    fill(route, 2)
    assert run(["seal", "--config", str(config), "--spool", str(spool)]) == 0
    (manifest,) = manifests(route)
    data = Path(route.at("ready", manifest.name)).read_bytes()
    raw = manifest.to_bytes()
    talk = f"put {manifest.name} {len(data)} {len(raw)} 0\n".encode() + raw + data + b"quit\n"
    said = tmp_path / "said"
    said.write_bytes(talk)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, write_through=True))

    with standard_input(said):
        assert run(["receive", "hub", "--config", str(config), "--spool", str(site)]) == 0

    name = manifest.name
    assert written.getvalue() == f"READY 1\nGO {name} 0\nACK {name} {manifest.sha256}\nBYE\n".encode()
    assert Path(site / "in" / "hub" / "new" / name).read_bytes() == data


def test_receive_gives_a_dry_run_and_refuses_a_name_that_is_none(cli, spool):
    cli("route", "add", "site.example", spool=spool)

    assert "site.example" in cli("receive", "site.example", "--dry-run", spool=spool).err
    cli("receive", "../x", spool=spool, code=64)


def test_expire_says_what_went(cli, spool, site, medium, config):
    config.write_text(config.read_text() + '[route."a.example"]\nkeep = 0\n')
    cli("route", "add", "a.example", spool=spool)
    fill(Route(str(spool), "a.example"), 1)
    cli("seal", spool=spool)
    for verb, where in (("push", spool), ("pull", site), ("push", spool)):
        cli(verb, f"dir:{medium}", spool=where)

    assert "1 acknowledged batch" in cli("expire", spool=spool).out
    assert tree(spool / "out" / "a.example" / "kept") == {}


def test_status_shows_each_state_with_and_without_a_ledger(cli, spool, site, medium):
    cli("route", "add", "a.example", spool=spool)
    route = Route(str(spool), "a.example")
    assert not (spool / "ledger.db").exists()
    cli("status", spool=spool)
    assert not (spool / "ledger.db").exists(), "status changes nothing"
    fill(route, 2)
    cli("seal", spool=spool)
    cli("push", f"dir:{medium}", spool=spool)
    fill(route, 3, first=10)

    here = {next(iter(r)): r for r in rows(cli("status", "--json", spool=spool))}
    assert here["route"]["waiting"]["messages"] == 3
    assert here["route"]["ready"]["messages"] == 2
    assert here["route"]["last_contact"] is not None
    assert here["peer"]["result"] == "ok"
    cli("pull", f"dir:{medium}", spool=site)
    there = {next(iter(r)): r for r in rows(cli("status", "--json", spool=site))}
    assert there["origin"]["new"] == here["route"]["ready"] | {"oldest": there["origin"]["new"]["oldest"]}
    table = cli("status", spool=spool).out
    assert "a.example" in table
    assert "dir:" in table
    assert here["route"]["kept"]["messages"] == 0
    cli("push", f"dir:{medium}", spool=spool)
    assert rows(cli("status", "--json", spool=spool))[0]["kept"]["messages"] == 2
    cli("status", "nobody.example", spool=spool, code=64)


def test_status_tells_a_failed_contact_below_a_table_that_fits(cli, spool, tmp_path):
    cli("route", "add", "a.example", spool=spool)
    fill(Route(str(spool), "a.example"), 1)
    cli("seal", spool=spool)
    cli("push", "dir:/nowhere", spool=spool, code=75)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.example").write_bytes(b"no directory")
    cli("push", f"dir:{tmp_path}/full", spool=spool, code=75)

    said = cli("status", spool=spool).out

    assert "see below" in said
    assert f"push dir:{tmp_path}/full: batch a.example.00000001." in said
    assert f".bsmtp: {tmp_path}/full/a.example" in said


def test_status_waits_for_nobody_and_survives_any_state(cli, spool):
    cli("route", "add", "a.example", spool=spool)
    route = Route(str(spool), "a.example")
    Path(route.at("ready", names.batch_name("a.example", 3, time.time(), "hub"))).write_bytes(b"no manifest, no list")
    Path(route.at("lists", "00000007.list")).write_bytes(b"not json")
    Path(route.at("dead", "x\x1b[2J")).write_bytes(b"")
    os.symlink("nowhere", route.at("new", "link"))
    os.mkdir(spool / "in" / "hub")
    (spool / "in" / "hub" / "sequences").write_bytes(b"\xff garbage")
    fds = [durable.lock(route.at(lock)) for lock in (names.INDEX_LOCK, names.SEAL_LOCK, names.CONTACT_LOCK)]

    said = cli("status", spool=spool)
    found = rows(cli("status", "--json", spool=spool))

    for fd in fds:
        durable.unlock(fd)
    assert "\x1b" not in said.out
    assert len(found[0]["odd"]) == 2
    assert found[0]["unfinished"] == 1


def test_what_is_odd_in_the_ledger_keeps_status_from_nothing(cli, spool):
    cli("route", "add", "a.example", spool=spool)
    (spool / "ledger.db").write_bytes(b"this is no database, whatever its name says" * 100)

    said = cli("status", spool=spool)

    assert "a.example" in said.out
    assert "ledger" in said.err


def test_a_broken_ledger_does_not_keep_mail_from_being_sealed(cli, spool):
    cli("route", "add", "a.example", spool=spool)
    fill(Route(str(spool), "a.example"), 1)
    (spool / "ledger.db").write_bytes(b"this is no database, whatever its name says" * 100)

    cli("seal", spool=spool, code=75)

    assert len(manifests(Route(str(spool), "a.example"))) == 1
