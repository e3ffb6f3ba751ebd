"""``verify``: whole or not, where and why not; and nothing changed is let through where there is a manifest."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
from pathlib import Path

import pytest
from support.wirefiles import simple, write

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.cli.app import run

NAME = "b.example.00000001.20261122T053300Z.hub.example.bsmtp"
BATCH = write([simple(1), simple(2), simple(3)])
GOOD = Manifest(
    name=NAME,
    route="b.example",
    origin="hub.example",
    sequence=1,
    messages=3,
    recipients=3,
    bytes=len(BATCH),
    sha256=hashlib.sha256(BATCH).hexdigest(),
    created="2026-11-22T05:33:00Z",
)


@pytest.fixture
def stored(tmp_path):
    def store(data, manifest=None, *, suffix=""):
        (tmp_path / f"{NAME}{suffix}").write_bytes(data)
        if manifest is not None:
            (tmp_path / f"{NAME}.json").write_bytes(manifest)
        return str(tmp_path / f"{NAME}{suffix}")

    return store


def verified(capsys, *arguments):
    code = run(["verify", "--json", *arguments])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_is_one(stored, capsys):
    assert run(["verify", stored(write([simple(1)]))]) == 0
    assert "whole; 1 message to 1 recipient," in capsys.readouterr().out


def test_a_batch_of_ours_with_its_manifest_is_praised(stored, capsys):
    path = stored(BATCH, GOOD.to_bytes())

    assert run(["verify", path]) == 0
    out, err = capsys.readouterr()
    assert out == (
        f"{path}: whole; 3 messages to 3 recipients, {len(BATCH)} bytes, sha256 {GOOD.sha256}; its manifest agrees\n"
    )
    assert err == ""


def test_without_a_manifest_it_says_what_cannot_be_known(stored, capsys):
    assert run(["verify", stored(BATCH)]) == 0
    assert "no manifest: an added message would not be noticed" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "made"), [(".gz", gzip.compress), (".xz", lzma.compress), ("", gzip.compress)])
def test_compressed_for_the_road_it_still_has_its_manifest(suffix, made, stored, capsys):
    code, (row,) = verified(capsys, stored(made(BATCH), GOOD.to_bytes(), suffix=suffix))

    assert (code, row["ok"], row["dialect"], row["manifest"]) == (0, True, "strict", True)
    assert (row["messages"], row["recipients"], row["bytes"], row["sha256"]) == (3, 3, len(BATCH), GOOD.sha256)
    assert row["compression"] in ("gzip", "xz")


def test_a_foreign_batch_is_whole_but_not_ours(stored, capsys):
    path = stored(BATCH.replace(b"\r\n", b"\n"))

    code, (row,) = verified(capsys, path)
    assert (code, row["ok"], row["dialect"], row["faults"]) == (0, True, "foreign", [])
    assert "not written by this program (message 1, line 1, byte 0: " in row["warnings"][0]
    assert run(["verify", path]) == 0
    assert "dialect of another program; it can be imported" in capsys.readouterr().out


def test_a_foreign_batch_under_our_manifest_is_refused(stored, capsys):
    foreign = BATCH.replace(b"\r\n", b"\n")
    manifest = dataclasses.replace(GOOD, bytes=len(foreign), sha256=hashlib.sha256(foreign).hexdigest())

    code, (row,) = verified(capsys, stored(foreign, manifest.to_bytes()))

    assert (code, row["ok"], row["dialect"]) == (65, False, None)


def test_a_fault_is_told_with_file_message_line_and_byte(stored, capsys):
    path = stored(BATCH.replace(b"text of 2", b"text\rof 2"))

    assert run(["verify", path]) == 65
    place = BATCH.index(b"text of 2") + 4
    assert capsys.readouterr().err == (
        f"{path}: message 2, line 14, byte {place}: a stray CR in the text: where a message ends could be read in two"
        " ways\n"
    )


def test_a_bad_message_in_a_foreign_file_is_not_passed_over(stored, capsys):
    code, (row,) = verified(capsys, stored(BATCH.replace(b"<to2@", b"<to2 @").replace(b"QUIT\r\n", b"")))

    assert code == 65
    assert [(f["message"], f["scope"]) for f in row["faults"]] == [(2, "message")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b.replace(b"text of 2", b"text of 3"), "sha256"),
        (lambda b: b.replace(b"to2@", b"to20@"), "bytes"),
        (lambda b: b[:-6], "without QUIT"),
        (lambda b: b + b"x", "something follows QUIT"),
        (lambda b: b"", "empty"),
        (lambda b: gzip.compress(b + b"QUIT\r\n"), "more than the"),
        (lambda b: gzip.compress(b)[:-1], "ends too early"),
        (lambda b: gzip.compress(gzip.compress(b)), "compressed twice"),
        (bz2.compress, "not taken"),
    ],
)
def test_nothing_but_the_batch_its_manifest_describes_passes(change, words, stored, capsys):
    code, (row,) = verified(capsys, stored(change(BATCH), GOOD.to_bytes()))

    assert (code, row["ok"]) == (65, False)
    assert words in " ".join(f["reason"] for f in row["faults"])


@pytest.mark.parametrize(
    "manifest", [b"", GOOD.to_bytes()[:-1], GOOD.to_bytes().replace(b'"messages":3', b'"messages":4')]
)
def test_a_damaged_manifest_condemns_its_batch(manifest, stored, capsys):
    code, (row,) = verified(capsys, stored(BATCH, manifest))

    assert code == 65
    assert row["manifest"]
    assert ".json: the manifest" in row["faults"][0]["reason"]


def test_the_worst_of_several_files_decides(stored, tmp_path, capsys):
    good = stored(BATCH)
    bad = tmp_path / "bad"
    bad.write_bytes(b"nonsense\n")

    code, rows = verified(capsys, good, str(bad), str(tmp_path / "none"))
    assert (code, [row["ok"] for row in rows]) == (65, [True, False, False])
    assert verified(capsys, good, str(tmp_path / "none"))[0] == 64
    assert verified(capsys, good, good)[0] == 0


def test_names_cannot_play_with_the_terminal(tmp_path, capsys):
    odd = tmp_path / "a\x1b[2Jb"
    odd.write_bytes(BATCH)

    assert run(["verify", str(odd)]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err


def test_help_gives_exit_codes_and_an_example(capsys):
    assert run(["verify", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit codes:" in out and "Example:" in out and "65" in out


@pytest.mark.parametrize("name", [b"\xff.bsmtp", "\u009b2J.bsmtp".encode()], ids=["no text", "a control"])
def test_a_name_that_no_terminal_should_see_is_escaped_for_programs_too(name, tmp_path, capsys):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    Path(path).write_bytes(write([simple(1)]))

    assert run(["verify", "--json", path]) == 0

    said = capsys.readouterr().out
    assert json.loads(said)["file"] == path
    assert said.rstrip("\n").isprintable()


@pytest.mark.timeout(30)
def test_a_manifest_that_is_a_pipe_is_not_waited_for(tmp_path, capsys):
    (tmp_path / "x.bsmtp").write_bytes(write([simple(1)]))
    os.mkfifo(tmp_path / "x.bsmtp.json")

    assert run(["verify", str(tmp_path / "x.bsmtp")]) == 64
    assert "not a regular file" in capsys.readouterr().err


def test_a_batch_without_a_signature_is_told_where_signatures_are_asked_for(stored, tmp_path, capsys):
    (tmp_path / "signers").write_text("")
    path = stored(BATCH, GOOD.to_bytes())

    code, (row,) = verified(capsys, "--allowed-signers", str(tmp_path / "signers"), path)
    _, (unasked,) = verified(capsys, path)

    assert (code, row["signature"], row["warnings"]) == (0, "none", ["it is not signed"])
    assert unasked["warnings"] == []
