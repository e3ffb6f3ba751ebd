"""push and pull within bounds, as they are set for a peer and on the command line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support.batches import manifests, transactions
from support.fragments import fill, tree

from bsmtp_batch.cli import moving
from bsmtp_batch.cli.app import run
from bsmtp_batch.config import load
from bsmtp_batch.courier.contact import Terms
from bsmtp_batch.courier.options import Options
from bsmtp_batch.spool.store import Route


def window(first, last):
    """From so many hours after now to so many."""
    return "-".join(time.strftime("%H:%M", time.localtime(time.time() + 3600 * hours)) for hours in (first, last))


INSIDE, OUTSIDE = (-1, 1), (2, 3)


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def medium(tmp_path):
    path = tmp_path / "medium"
    path.mkdir()
    return path


@pytest.fixture
def cli(tmp_path, capsys, spool):
    (tmp_path / "node.toml").write_text('[node]\nname = "hub"\nreserve = 0\n')

    def call(*arguments, code=0, where=spool, more=None):
        if more is not None:
            (tmp_path / "node.toml").write_text(f'[node]\nname = "hub"\nreserve = 0\n{more}')
        found = run([*arguments, "--config", str(tmp_path / "node.toml"), "--spool", str(where)])
        said = capsys.readouterr()
        assert found == code, said
        return said

    call("route", "add", "a.example")
    return call


@pytest.fixture
def sealed(cli, spool):
    made = fill(Route(str(spool), "a.example"), 2)
    cli("seal")
    return made


@pytest.fixture
def asked(monkeypatch):
    """What couriers were asked for: URL, options; and nobody is reached."""
    seen = []

    def courier_for(url, options):
        seen.append((url, options))
        from bsmtp_batch.courier.directory import Directory

        return Directory("/nowhere")

    monkeypatch.setattr("bsmtp_batch.courier.schemes.courier_for", courier_for)
    return seen


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_peer_outside_its_window_is_left_alone_and_that_is_no_failure(cli, sealed, medium, spool):
    hours = window(*OUTSIDE)
    peer = f'[peer.stick]\nurl = "dir:{medium}"\nwindow = "{hours}"\n'

    for verb in ("push", "pull"):
        said = cli(verb, more=peer)
        assert said.out == f"{verb} stick: outside its window {hours}, nothing was moved\n"
        (row,) = map(json.loads, cli(verb, "--json").out.splitlines())
        assert (row["kind"], row["party"]) == ("outside", "stick")

    assert tree(medium) == {}
    assert not (spool / "ledger.db").exists() or "stick" not in cli("status").out


def test_a_flag_beats_the_window_of_the_peer(cli, sealed, medium):
    peer = f'[peer.stick]\nurl = "dir:{medium}"\nwindow = "{window(*OUTSIDE)}"\n'

    assert "sent" in cli("push", "stick", "--window", window(*INSIDE), more=peer).out
    peer = peer.replace(window(*OUTSIDE), window(*INSIDE))
    assert "outside" in cli("push", "stick", "--window", window(*OUTSIDE), more=peer).out
    assert "there already" in cli("push", "stick", more=peer).out


def test_one_peer_outside_its_window_does_not_keep_the_others_waiting(cli, sealed, medium):
    peers = f'[peer.one]\nurl = "dir:/x"\nwindow = "{window(*OUTSIDE)}"\n[peer.two]\nurl = "dir:{medium}"\n'

    said = cli("push", more=peers)

    assert "outside" in said.out
    assert "sent" in said.out


def test_the_end_of_the_window_is_the_end_of_the_contact(cli, medium, monkeypatch):
    hours = window(*INSIDE)
    settings = load(None)
    peer = settings.peers.get("x") or next(moving.peers(settings, f"dir:{medium}"))[1]

    terms = moving._terms(settings, peer.model_copy(update={"window": hours, "max_bytes": 7}))

    assert isinstance(terms, Terms)
    assert terms.max_octets == 7
    assert time.strftime("%H:%M", time.localtime(terms.until)) == hours.partition("-")[2]
    assert 0 < terms.until - time.time() < 3700
    assert moving._terms(settings, peer) == Terms()


# --- how much ---------------------------------------------------------------------------------------------------------


def test_the_bound_of_a_peer_and_of_the_command_line(cli, sealed, medium, spool):
    peer = f'[peer.stick]\nurl = "dir:{medium}"\nmax_bytes = 10\n'

    assert "raise max_bytes" in cli("push", "stick", code=75, more=peer).err
    assert "raise max_bytes" in cli("push", f"dir:{medium}", "--max-bytes", "10", code=75).err
    assert "sent" in cli("push", "stick", "--max-bytes", "0").out
    assert len(manifests(Route(str(spool), "a.example"))) == 1


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--max-bytes", "lots", "write a number of octets"),
        ("--max-bytes", "-1", "write a number of octets"),
        ("--window", "2-5", "write two times of day"),
        ("--identity", "x", "leave it out"),
        ("--known-hosts", "x", "leave it out"),
    ],
)
def test_a_flag_that_makes_no_sense_moves_nothing(cli, sealed, medium, flag, value, told):
    for verb in ("push", "pull"):
        said = cli(verb, f"dir:{medium}", f"{flag}={value}", code=64)
        assert told in said.err
        assert flag in said.err
    assert tree(medium) == {}


# --- what a courier is told -------------------------------------------------------------------------------------------


def test_a_courier_is_told_what_the_peer_says_of_the_road(cli, spool, asked, tmp_path):
    for name in ("id", "known", "other"):
        (tmp_path / name).write_text("x")
    cli(
        "push",
        code=75,
        more=f'[peer.hub]\nurl = "rsync://mail@hub.example/"\nidentity = "{tmp_path}/id"\n'
        f'known_hosts = "{tmp_path}/known"\ncompression = "xz"\n'
        '[peer.plain]\nurl = "rsync://mail@other.example/srv"\nfar = "directory"\n'
        '[peer.guest]\nroutes = ["a.example"]\n',
    )
    cli("push", "hub", "--identity", f"{tmp_path}/other", code=75)

    assert asked == [
        ("rsync://mail@hub.example/", Options(f"{tmp_path}/id", f"{tmp_path}/known", "xz", "receive")),
        ("rsync://mail@other.example/srv", Options(far="directory")),
        ("rsync://mail@hub.example/", Options(f"{tmp_path}/other", f"{tmp_path}/known", "xz", "receive")),
    ]


def test_a_key_named_from_here_is_found_from_anywhere(cli, asked, tmp_path, monkeypatch):
    (tmp_path / "id").write_text("x")
    monkeypatch.chdir(tmp_path)

    cli("push", "scp://mail@hub.example/", "--identity", "id", code=75)

    assert [options.identity for _, options in asked] == [str(tmp_path / "id")]


@pytest.mark.parametrize("key", ["identity", "known_hosts"])
def test_a_key_that_is_not_there_is_told_before_anybody_is_reached(cli, asked, tmp_path, key):
    said = cli("push", more=f'[peer.hub]\nurl = "scp://u@h/"\n{key} = "/nowhere/k"\n', code=78)

    assert f"{key} /nowhere/k is not there" in said.err
    assert asked == []
    cli("pull", "scp://u@h/", f"--{key.replace('_', '-')}", "/no/k", code=78, more="")
    assert asked == []


def test_a_key_that_ssh_would_read_as_something_else_is_refused(cli, asked, tmp_path):
    odd = tmp_path / "a%h"
    odd.write_text("x")

    assert "rename the file" in cli("push", "scp://u@h/", "--identity", str(odd), code=64).err
    assert asked == []


def test_a_peer_without_a_url_comes_to_us(cli, sealed):
    said = cli("push", "guest", more='[peer.guest]\nroutes = ["a.example"]\n', code=64)

    assert "it comes to us" in said.err
    assert "with a url" in cli("push", code=64).err


# --- receipts and signatures ------------------------------------------------------------------------------------------


def test_what_counts_as_a_receipt_is_said_by_the_peer(cli, sealed, medium, spool):
    said = cli("push", more=f'[peer.stick]\nurl = "dir:{medium}"\nreceipt = "copied"\n')

    assert "released: copied, not acknowledged: receipt = copied" in said.out
    assert transactions(Route(str(spool), "a.example"), "kept") == sealed


def test_a_peer_whose_signature_is_required_is_not_believed_without_one(cli, sealed, medium, tmp_path):
    cli("push", f"dir:{medium}")
    signers = tmp_path / "signers"
    signers.write_text("")

    said = cli(
        "pull",
        where=tmp_path / "site",
        code=65,
        more=f'[peer.stick]\nurl = "dir:{medium}"\nsignature = "required"\nallowed_signers = "{signers}"\n',
    )

    assert "it is not signed" in said.err
    assert not list(Path(medium).rglob("*.ack"))
    assert not os.path.isdir(tmp_path / "site" / "in" / "hub")
