"""Signatures beside what is imported: they follow their batch, and beside a file that was named they are checked."""

from __future__ import annotations

import os

import pytest
from support.importing import arrive, batch, letters, manifest, names, run
from support.sink import Sink

from bsmtp_batch.errors import Setting
from bsmtp_batch.importer import inbox


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def named(tmp_path):
    """A file with its manifest, and a signature that says whether it is good."""
    octets = batch(letters(2))
    said = manifest(octets, letters(2))
    path = tmp_path / said.name
    path.write_bytes(octets)
    path.with_name(said.name + ".json").write_bytes(said.to_bytes())
    path.with_name(said.name + ".sig").write_bytes(b"")
    return path


def verify(data, signature, origin):
    assert data.startswith(b'{"bytes"')
    assert origin == "hub.example"
    return signature.decode()


@pytest.mark.parametrize("moved", [(), (".sig",), (".sig", ".json")])
@pytest.mark.parametrize("end", ["done", "bad"])
def test_a_signature_follows_its_batch_from_wherever_an_importer_was_stopped(spool, moved, end):
    path = arrive(spool, letters(2))
    path.with_name(path.name + ".sig").write_bytes(b"signature")
    for suffix in moved:
        os.rename(f"{path}{suffix}", f"{path.parent.parent}/work/{path.name}{suffix}")
    if end == "bad":
        path.write_bytes(batch(letters(3)))

    with Sink() as sink:
        result = run(spool, sink.url)

    assert result.code == (0 if end == "done" else 65)
    found = names(path.parent.parent / end)
    assert [n for n in found if not n.endswith(".reason")] == [path.name, path.name + ".json", path.name + ".sig"]
    assert names(path.parent) == names(path.parent.parent / "work") == []


def test_a_lone_signature_is_nothing_to_import(spool):
    path = arrive(spool, letters(1))
    path.with_name(path.name + ".sig").write_bytes(b"signature")
    for gone in (path, path.with_name(path.name + ".json")):
        gone.unlink()

    assert list(inbox.arrivals(str(spool))) == []


def test_what_has_arrived_was_checked_when_it_came(spool):
    path = arrive(spool, letters(1))
    path.with_name(path.name + ".sig").write_bytes(b"wrong")
    with Sink() as sink:
        assert run(spool, sink.url, verify=verify).code == 0


def test_a_file_with_a_good_signature_is_imported(spool, named):
    with Sink() as sink:
        result = run(spool, sink.url, named, verify=verify)

    assert (result.code, result.outcomes) == (0, ["delivered"] * 2)


@pytest.mark.parametrize("directory", [False, True])
def test_a_file_with_a_wrong_signature_is_a_bad_file(spool, named, directory):
    named.with_name(named.name + ".sig").write_bytes(b"its signature is not good")
    with Sink() as sink:
        result = run(spool, sink.url, named.parent if directory else named, verify=verify, salvage=True)

    assert (result.code, sink.taken) == (65, [])
    assert result.said("its signature is not good")
    assert len([n for n in names(spool / "in" / "local" / "bad") if n.endswith(".bsmtp")]) == 1


def test_a_file_whose_signed_manifest_is_missing_is_a_bad_file(spool, named):
    """Without it the file would pass for one of a stranger, to whose batches anything could be added."""
    named.with_name(named.name + ".json").unlink()
    with Sink() as sink:
        result = run(spool, sink.url, named, verify=verify)

    assert (result.code, sink.taken) == (65, [])
    assert result.said("the manifest that it is over is missing")


def test_a_signature_longer_than_any_is_not_read(spool, named):
    named.with_name(named.name + ".sig").write_bytes(b"x" * 20_000)
    with Sink() as sink:
        assert run(spool, sink.url, named, verify=verify).code == 65


def test_where_nobody_said_whose_are_good_a_signature_is_passed_over(spool, named):
    named.with_name(named.name + ".sig").write_bytes(b"wrong")
    with Sink() as sink:
        assert run(spool, sink.url, named).code == 0


def test_a_check_that_cannot_be_made_leaves_everything_where_it_is(spool, named):
    def broken(data, signature, origin):
        raise Setting("the file of allowed signers cannot be read", safe="x", next="x")

    with Sink() as sink, pytest.raises(Setting):
        run(spool, sink.url, named, verify=broken)

    assert sink.taken == []
    assert named.exists()
    assert not (spool / "in" / "local" / "bad").exists()
