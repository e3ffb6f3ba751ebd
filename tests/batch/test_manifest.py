"""The manifest has to notice every change, in the batch and in itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wirefiles import faults, read, simple, write

from bsmtp_batch.batch.events import Severity
from bsmtp_batch.batch.manifest import MAX_BYTES, Manifest, ManifestError

BATCH = write([simple(1), simple(2, b".\r\n"), simple(3)])
GOOD = Manifest(
    name="b.example.00000007.20261122T053300Z.hub.example.bsmtp",
    route="b.example",
    origin="hub.example",
    sequence=7,
    messages=3,
    recipients=3,
    bytes=len(BATCH),
    sha256=hashlib.sha256(BATCH).hexdigest(),
    created="2026-11-22T05:33:00Z",
    previous="ab" * 32,
)
FLIPS = (0x01, 0x02, 0x20, 0x80, 0xFF)


def accepted(batch, manifest):
    """Whether strict reading and the manifest together let ``batch`` through."""
    try:
        described = Manifest.from_bytes(manifest)
    except ManifestError:
        return False
    events, summary = read(batch, Severity.STRICT)
    digest = hashlib.sha256(batch).hexdigest()
    return not faults(events) and not described.matches(len(batch), digest, summary.messages, summary.recipients)


def test_what_was_written_is_read_back():
    assert Manifest.from_bytes(GOOD.to_bytes()) == GOOD
    assert accepted(BATCH, GOOD.to_bytes())
    assert GOOD.digest() == hashlib.sha256(GOOD.to_bytes()).hexdigest()


def test_the_file_is_one_line_of_ascii_json_with_sorted_members():
    data = GOOD.to_bytes()

    assert data.isascii() and data.count(b"\n") == 1 and data.endswith(b"}\n")
    assert list(json.loads(data)) == sorted(json.loads(data))


@pytest.mark.parametrize("flip", FLIPS)
def test_any_octet_changed_in_the_batch_is_caught(flip):
    for at in range(len(BATCH)):
        changed = bytearray(BATCH)
        changed[at] ^= flip
        assert not accepted(bytes(changed), GOOD.to_bytes()), at


@pytest.mark.parametrize("flip", FLIPS)
def test_any_octet_changed_in_the_manifest_is_caught(flip):
    sound = GOOD.to_bytes()
    for at in range(len(sound)):
        changed = bytearray(sound)
        changed[at] ^= flip
        with pytest.raises(ManifestError):
            Manifest.from_bytes(bytes(changed))


def test_any_cut_and_any_addition_is_caught():
    sound = GOOD.to_bytes()
    for changed in [sound[:n] for n in range(len(sound))] + [sound + b" ", sound + b"\n", b" " + sound, sound + sound]:
        with pytest.raises(ManifestError):
            Manifest.from_bytes(changed)


@given(st.data())
def test_no_other_json_passes(data):
    members = json.loads(GOOD.to_bytes())
    name = data.draw(st.sampled_from(sorted(members)))
    value = data.draw(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.floats())
    if value == members[name] and type(value) is type(members[name]):
        return
    with pytest.raises(ManifestError):
        Manifest.from_bytes(json.dumps({**members, name: value}).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"null", b"[]", b"{}", b'{"format":1}', b"\xff", b"[" * 9000, b"9" * 9000, b"x" * (MAX_BYTES + 1)],
    ids=lambda d: repr(d[:8]),
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ManifestError):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "example"},
        {"name": "b.example.00000007.00000009.20261122T053300Z.hub.example.bsmtp"},
        {"name": "b.example.00000007.20261122T053300Z.x.hub.example.bsmtp"},
    ],
    ids=str,
)
def test_a_name_does_not_speak_for_another_route_or_node(change):
    """The file name says whose it is to people and to the medium, the manifest to the spool: one and the same."""
    with pytest.raises(ManifestError, match="does not agree"):
        dataclasses.replace(GOOD, **change)


def test_a_later_format_is_named():
    with pytest.raises(ManifestError, match="format 2; this version reads format 1"):
        Manifest.from_bytes(GOOD.to_bytes().replace(b'"format":1', b'"format":2'))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../b.example.00000007.20261122T053300Z.hub.example.bsmtp"},
        {"name": "c.example.00000007.20261122T053300Z.hub.example.bsmtp"},
        {"name": "b.example.00000008.20261122T053300Z.hub.example.bsmtp"},
        {"name": "b.example.00000007.20261122T053300Z.other.example.bsmtp"},
        {"name": "b.example.00000007.20261122T053300Z.hub.example.bsmtp\n"},
        {"route": "../x"},
        {"route": ""},
        {"origin": "-x"},
        {"sequence": -1},
        {"sequence": True},
        {"messages": 1.0},
        {"bytes": 1 << 64},
        {"sha256": "AB" * 32},
        {"sha256": "ab"},
        {"previous": "x"},
        {"created": "2026-11-22 05:33:00"},
        {"created": "\uff12026-11-22T05:33:00Z"},
        {"dialect": "other"},
        {"format": 2},
    ],
    ids=str,
)
def test_a_value_that_makes_no_sense_is_never_written(change):
    with pytest.raises(ManifestError):
        dataclasses.replace(GOOD, **change)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((len(BATCH) + 1, GOOD.sha256, 3, 3), "bytes"),
        ((len(BATCH), "0" * 64, 3, 3), "sha256"),
        ((len(BATCH), GOOD.sha256, 2, 3), "messages"),
        ((len(BATCH), GOOD.sha256, 3, 4), "recipients"),
    ],
)
def test_the_first_difference_is_named(figures, words):
    difference = GOOD.matches(*figures)

    assert difference and words in difference
