"""Signatures as an operator meets them: a key in the settings, and what seal, pull, verify, import and status say."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from support.fragments import fill
from support.keys import allow, make_key

from bsmtp_batch.cli.app import run
from bsmtp_batch.spool.store import Route

ROUTE = "site.example"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    place = tmp_path_factory.mktemp("keys")
    hub, other = make_key(place / "hub"), make_key(place / "other")
    return {"hub": hub.path, "good": allow(place / "good", hub=hub), "bad": allow(place / "bad", hub=other)}


@pytest.fixture
def settings(tmp_path, keys):
    """Makes files of settings with these keys of ``[node]``; gives the path."""

    def make(name="hub", **more):
        path = tmp_path / f"{name}.{len(os.listdir(tmp_path))}.toml"
        lines = [f'name = "{name}"', "reserve = 0", *(f'{key} = "{value}"' for key, value in more.items())]
        path.write_text("[node]\n" + "\n".join(lines) + "\n")
        return str(path)

    return make


@pytest.fixture
def batch(tmp_path, settings, keys):
    """A signed batch in ``ready/``."""
    spool = str(tmp_path / "hub")
    config = settings(signing_key=keys["hub"])
    assert run(["route", "add", ROUTE, "--config", config, "--spool", spool]) == 0
    route = Route(spool, ROUTE)
    fill(route, 2)
    assert run(["seal", "--config", config, "--spool", spool]) == 0
    (name,) = [n for n in os.listdir(route.at("ready")) if n.endswith(".bsmtp")]
    return Path(route.at("ready", name))


def verified(capsys, *arguments):
    capsys.readouterr()
    code = run(["verify", "--json", *map(str, arguments)])
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, row["signature"], row


def test_seal_signs_with_the_key_of_the_settings(batch):
    assert batch.with_name(batch.name + ".sig").read_bytes().startswith(b"-----BEGIN SSH SIGNATURE-----\n")


def test_a_key_that_cannot_be_used_leaves_the_messages_waiting(tmp_path, settings, capsys):
    spool, config = str(tmp_path / "hub"), settings(signing_key=f"{tmp_path}/none")
    assert run(["route", "add", ROUTE, "--config", config, "--spool", spool]) == 0
    fill(Route(spool, ROUTE), 2)

    assert run(["seal", "--config", config, "--spool", spool]) == 78

    assert "signing key" in capsys.readouterr().err
    assert len(os.listdir(Route(spool, ROUTE).at("new"))) == 2


def test_status_and_expire_see_nothing_odd_in_a_signed_batch(batch, settings, capsys):
    spool = str(batch.parents[3])
    capsys.readouterr()
    assert run(["status", "--json", "--spool", spool]) == 0

    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (row["ready"]["files"], row["ready"]["messages"], row["odd"], row["set_aside"]) == (1, 2, [], [])
    assert run(["expire", "--spool", spool]) == 0


def test_verify_tells_good_bad_unchecked_and_none_apart(batch, keys, settings, capsys):
    good, bad = ("--allowed-signers", keys["good"]), ("--allowed-signers", keys["bad"])

    assert verified(capsys, batch, *good)[:2] == (0, "good")
    assert verified(capsys, batch, "--config", settings(allowed_signers=keys["good"]))[:2] == (0, "good")
    code, word, row = verified(capsys, batch, *bad)
    assert (code, word, row["ok"]) == (65, "bad", False)
    assert "signature is not good" in row["faults"][0]["reason"]
    assert verified(capsys, batch)[:2] == (0, "unchecked")
    assert run(["verify", str(batch)]) == 0
    assert "its signature was not checked" in capsys.readouterr().out
    batch.with_name(batch.name + ".sig").unlink()
    assert verified(capsys, batch, *good)[:2] == (0, "none")


def test_verify_finds_the_signature_of_a_compressed_batch(batch, keys, capsys):
    packed = batch.with_name(batch.name + ".gz")
    packed.write_bytes(gzip.compress(batch.read_bytes()))

    assert verified(capsys, packed, "--allowed-signers", keys["good"])[:2] == (0, "good")


def test_verify_says_that_a_signature_without_its_manifest_proves_nothing(batch, keys, capsys):
    batch.with_name(batch.name + ".json").unlink()

    code, word, row = verified(capsys, batch, "--allowed-signers", keys["good"])

    assert (code, word) == (0, "unchecked")
    assert "manifest" in row["warnings"][0]


def test_verify_does_not_call_wrong_what_it_could_not_check(batch, tmp_path, capsys):
    assert verified(capsys, batch, "--allowed-signers", tmp_path / "none")[:2] == (78, "unchecked")


def test_a_signature_that_is_a_pipe_or_endless_is_not_waited_for(batch, keys, capsys):
    signature = batch.with_name(batch.name + ".sig")
    signature.write_bytes(b"x" * 100_000)
    assert verified(capsys, batch, "--allowed-signers", keys["good"])[:2] == (65, "bad")
    signature.unlink()
    os.mkfifo(signature)
    assert verified(capsys, batch, "--allowed-signers", keys["good"])[0] == 64


def test_import_of_a_named_file_asks_for_the_signature(batch, keys, settings, tmp_path):
    target = ["--to", f"maildir:{tmp_path}/mail", "--local-domain", "example.org"]

    def imported(signers):
        config = settings("site", allowed_signers=keys[signers])
        return run(["import", str(batch), *target, "--config", config, "--spool", str(tmp_path / "site")])

    assert imported("bad") == 65
    assert not list(tmp_path.glob("mail/new/*"))
    assert imported("good") == 0
    assert len(list(tmp_path.glob("mail/new/*"))) == 2


def test_status_shows_what_was_noticed_about_numbers(tmp_path, capsys):
    spool = tmp_path / "site"
    (spool / "in" / "hub").mkdir(parents=True)
    for directory in ("tmp", "new", "work", "done", "bad"):
        (spool / "in" / "hub" / directory).mkdir()
    (spool / "in" / "hub" / "sequences").write_bytes(b"hub r.example 1 3 2-2\n! then chain: 3 was exchanged\n")

    assert run(["status", "--spool", str(spool)]) == 0
    said = capsys.readouterr().out
    assert "missing: r.example from hub: 2 did not come" in said
    assert "noticed: hub: then chain: 3 was exchanged" in said
    assert run(["status", "--json", "--spool", str(spool)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["remarks"] == ["then chain: 3 was exchanged"]
