"""Signatures: nothing passes but what an allowed key has signed, and what cannot be checked is not called wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.keys import allow, make_key

from bsmtp_batch.edge import process, signing
from bsmtp_batch.edge.signing import MAX_SIGNATURE, Signer, is_whole, verifier
from bsmtp_batch.errors import Later, Setting

MANIFEST = b'{"a manifest":"of some kind"}\n'


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def hub(keys):
    return make_key(keys / "hub")


@pytest.fixture(scope="module")
def other(keys):
    return make_key(keys / "other")


@pytest.fixture(scope="module")
def check(keys, hub, other):
    return verifier(allow(keys / "allowed", hub_example=hub, other_example=other))


@pytest.fixture(scope="module")
def signature(hub):
    return Signer(hub.path).sign(MANIFEST)


def by_hand(key, namespace, data):
    command = ["ssh-keygen", "-Y", "sign", "-q", "-f", key.path, "-n", namespace]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def test_what_was_signed_is_good(check, signature):
    assert check(MANIFEST, signature, "hub.example") == ""


def test_a_signature_made_by_hand_is_as_good(check, hub):
    assert check(MANIFEST, by_hand(hub, "bsmtp-batch", MANIFEST), "hub.example") == ""


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_every_kind_of_key_will_do(kind, tmp_path):
    key = make_key(tmp_path / "key", kind=kind)

    assert verifier(allow(tmp_path / "allowed", hub=key))(MANIFEST, Signer(key.path).sign(MANIFEST), "hub") == ""


def test_another_manifest_is_not_covered(check, signature):
    assert "not good" in check(MANIFEST.replace(b"some", b"same"), signature, "hub.example")


def test_the_key_of_another_node_is_not_good_for_this_one(check, other, signature):
    assert "not one of hub.example" in check(MANIFEST, Signer(other.path).sign(MANIFEST), "hub.example")
    assert "not one of other.example" in check(MANIFEST, signature, "other.example")


def test_what_the_key_signed_for_another_purpose_is_not_good(check, hub):
    assert "namespace" in check(MANIFEST, by_hand(hub, "file", MANIFEST), "hub.example")


def test_a_key_whose_time_is_over_is_not_good(hub, signature, tmp_path):
    (tmp_path / "allowed").write_text(f'hub.example valid-before="20200101" {hub.public}\n')

    assert "expired" in verifier(str(tmp_path / "allowed"))(MANIFEST, signature, "hub.example")


def test_every_changed_byte_of_a_signature_is_noticed(check, signature):
    for place in range(len(signature)):
        for bit in (1, 0x20) if place % 7 == 0 else (1,):
            changed = bytearray(signature)
            changed[place] ^= bit
            assert check(MANIFEST, bytes(changed), "hub.example"), (place, bit)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1],
        lambda s: s + b"\n",
        lambda s: s.replace(b"\n", b"\r\n"),
        lambda s: s[:100] + b"\n" + s[100:],
        lambda s: s.replace(b"=\n-", b"=\n\n-"),
        lambda s: b"",
        lambda s: b"x" * (MAX_SIGNATURE + 1),
        lambda s: s[:30] + b"A" * MAX_SIGNATURE + s[30:],
    ],
)
def test_what_is_not_written_as_a_signature_never_reaches_the_program(change, check, signature, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("the program was started")

    monkeypatch.setattr(signing, "Child", fail)

    assert not is_whole(change(signature))
    assert check(MANIFEST, change(signature), "hub.example")


@pytest.mark.parametrize("origin", ["", "-f", "a b", "a\n", "../x", "A", "a,b", "*", "!hub.example", ".a"])
def test_only_a_host_name_becomes_an_argument(origin, check, signature, monkeypatch):
    monkeypatch.setattr(signing, "Child", None)

    assert "not a host name" in check(MANIFEST, signature, origin)


def test_nothing_of_a_manifest_but_its_origin_is_an_argument(check, hub, signature, monkeypatch):
    started = []

    class Seen(process.Child):
        def __init__(self, argv, **options):
            started.append(argv)
            super().__init__(argv, **options)

    monkeypatch.setattr(signing, "Child", Seen)
    Signer(hub.path).sign(MANIFEST)
    check(MANIFEST, signature, "hub.example")

    assert started[0] == ["ssh-keygen", "-Y", "sign", "-q", "-f", hub.path, "-n", "bsmtp-batch"]
    assert started[1][:9] == [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        started[1][4],
        "-I",
        "hub.example",
        "-n",
        "bsmtp-batch",
    ]
    assert started[1][9] == "-s"
    assert not os.path.exists(started[1][10])


def test_without_the_program_nothing_is_called_wrong(check, hub, signature, monkeypatch, tmp_path):
    monkeypatch.setenv(process.PATH_VARIABLE, str(tmp_path))

    with pytest.raises(Later, match="is not there"):
        check(MANIFEST, signature, "hub.example")
    with pytest.raises(Later, match="is not there"):
        Signer(hub.path).sign(MANIFEST)


def test_files_that_cannot_be_read_are_a_matter_of_the_settings(signature, tmp_path):
    with pytest.raises(Setting, match="allowed signers"):
        verifier(str(tmp_path / "none"))(MANIFEST, signature, "hub.example")
    with pytest.raises(Setting, match="signing key"):
        Signer(str(tmp_path / "none")).sign(MANIFEST)


def test_a_key_with_a_passphrase_asks_nobody(tmp_path):
    with pytest.raises(Later, match="incorrect passphrase"):
        Signer(make_key(tmp_path / "key", passphrase="secret").path).sign(MANIFEST)


def program(directory, text, monkeypatch):
    script = directory / "ssh-keygen"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setenv(process.PATH_VARIABLE, f"{directory}:/usr/bin:/bin")


@pytest.mark.parametrize(
    "text", ["echo 'No user exists for uid 77' >&2; exit 255", "kill -9 $$", "exec yes", "exec sleep 60"]
)
def test_a_program_that_fails_has_not_found_anything_wrong(text, check, hub, signature, tmp_path, monkeypatch):
    monkeypatch.setattr(signing, "SECONDS", 2.0 if "sleep" not in text else 0.1)
    program(tmp_path, text, monkeypatch)

    with pytest.raises(Later):
        check(MANIFEST, signature, "hub.example")
    with pytest.raises(Later):
        Signer(hub.path).sign(MANIFEST)


def test_what_is_no_signature_is_not_taken_for_one(hub, tmp_path, monkeypatch):
    program(tmp_path, "echo done", monkeypatch)

    with pytest.raises(Later, match="made no signature"):
        Signer(hub.path).sign(MANIFEST)


def test_the_private_half_may_be_with_an_agent(keys, other, tmp_path, monkeypatch):
    path = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()  # it says where it listens once it does
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        subprocess.run(["ssh-add", "-q", other.path], check=True, stderr=subprocess.DEVNULL)
        (tmp_path / "only.pub").write_bytes(Path(f"{other.path}.pub").read_bytes())

        made = Signer(str(tmp_path / "only.pub")).sign(MANIFEST)
    finally:
        agent.terminate()
        agent.wait()
        agent.stdout.close()

    assert verifier(allow(tmp_path / "allowed", hub=other))(MANIFEST, made, "hub") == ""
