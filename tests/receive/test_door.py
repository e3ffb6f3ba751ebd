"""The side door: octets that an account asks sshd to run, held against the few we know."""

from __future__ import annotations

import os

import pytest
from courier.conformance import sealed
from hypothesis import given
from hypothesis import strategies as st
from support.batches import manifests
from support.fragments import make_route

from bsmtp_batch.errors import Bad, Later
from bsmtp_batch.receive.door import CONVERSATION, admit, errand
from bsmtp_batch.spool.expected import EXPECTED, GRANTED, allow, allowed
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.routes import make_spool
from bsmtp_batch.spool.store import Spool

NAME = "site.example.00000001.20261122T053300Z.hub.bsmtp"
RSYNC = "rsync --server {}-e.LsfxCIvu --timeout=120 --append --append . {}"


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_what_our_couriers_say_is_understood(suffix):
    there, back = errand(f"scp -t {NAME}{suffix}"), errand(f"scp -f {NAME}{suffix}")
    up, down = errand(RSYNC.format("", NAME + suffix)), errand(RSYNC.format("--sender ", NAME + suffix))

    assert [e.gives for e in (there, back, up, down)] == [False, True, False, True]
    assert {e.batch for e in (there, back, up, down)} == {NAME}
    assert down.words == (
        "rsync", "--server", "--sender", "-e.LsfxCIvu", "--timeout=120", "--append", "--append", ".",
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        f"scp -t {NAME} ",
        f" scp -t {NAME}",
        f"scp -t {NAME}\n",
        f"scp -t {NAME}\nid",
        f"scp -r -t {NAME}",
        f"scp -d -t {NAME}",
        f"scp -t -- {NAME}",
        f"scp -t ../{NAME}",
        f"scp -t ./{NAME}",
        f"scp -t /{NAME}",
        f"scp -t -{NAME}",
        f"scp -t {NAME} {NAME}",
        f"scp -t {NAME}.json",
        f"scp -t {NAME}.gz.gz",
        f"scp -t '{NAME}'",
        f"scp -t {NAME};id",
        "scp -t .",
        "scp -f *",
        RSYNC.format("", "."),
        RSYNC.format("", f"{NAME} {NAME}"),
        RSYNC.format("", f"../{NAME}"),
        RSYNC.format("--daemon ", NAME),
        RSYNC.format("--sender --sender ", NAME),
        RSYNC.format("", NAME).replace("-e.", "-se."),
        RSYNC.format("", NAME).replace("-e.", "-re."),
        RSYNC.format("", NAME).replace("--append --append", "--append --append --delete"),
        RSYNC.format("", NAME).replace("--append --append", "--log-file=/tmp/x --append --append"),
        RSYNC.format("", NAME).replace("rsync", "/usr/bin/rsync"),
        "internal-sftp",
        "/usr/lib/openssh/sftp-server",
        "sh",
        "receive other.example",
        "bsmtp-batch receive other.example",
        "x" * 100_000,
    ],
)
def test_anything_else_is_refused_whole(command):
    with pytest.raises(Bad, match="this account does not run"):
        errand(command)


@given(st.text())
def test_no_text_is_an_errand_unless_it_names_one_batch(command):
    try:
        found = errand(command)
    except Bad:
        assert True
    else:
        assert command.endswith(f" {found.name}")
        assert command not in CONVERSATION


@pytest.fixture
def node(tmp_path):
    route, other = make_route(tmp_path, "site.example"), make_route(tmp_path, "other.example")
    for one in (route, other):
        sealed(one, 1)
    spool = Spool(str(tmp_path))
    make_spool(spool.path)
    inbox = Inbox(spool.path, "site.example")
    inbox.make()
    return inbox, route, other


def test_only_what_the_conversation_granted_may_be_fetched(node):
    """So what may be whose is decided in one place; a name that was guessed, or is somebody else's, is unknown."""
    inbox, route, other = node
    (mine,), (theirs,) = manifests(route), manifests(other)
    for name in (mine.name, theirs.name, NAME):
        with pytest.raises(Bad, match="there is no batch"):
            admit(errand(f"scp -f {name}"), inbox)
    allow(inbox, GRANTED, mine.name, mine.bytes)

    assert admit(errand(f"scp -f {mine.name}"), inbox) == (["scp", "-f", "--", route.at("ready", mine.name)], 0)
    for name in (theirs.name, f"{mine.name}.gz"):
        with pytest.raises(Bad, match="there is no batch"):
            admit(errand(f"scp -f {name}"), inbox)
    allow(inbox, GRANTED, f"{mine.name}.gz", 10)
    assert admit(errand(f"scp -f {mine.name}.gz"), inbox)[0][-1] == route.at("tmp", f"{mine.name}.gz")


def test_only_what_was_announced_may_be_brought_and_no_more_of_it(node):
    inbox, _, _ = node
    with pytest.raises(Later, match="was not announced"):
        admit(errand(f"scp -t {NAME}"), inbox)
    allow(inbox, EXPECTED, NAME, 1234)
    with open(inbox.part(NAME), "wb") as part:
        part.write(b"from an earlier contact")

    argv, limit = admit(errand(RSYNC.format("", NAME)), inbox)
    assert (argv[-1], limit) == (inbox.part(NAME), 1234)
    assert os.path.getsize(inbox.part(NAME)) == 23

    admit(errand(f"scp -t {NAME}"), inbox)
    assert os.path.getsize(inbox.part(NAME)) == 0  # scp begins anew, and what it has not written yet is not there
    with pytest.raises(Later, match="was not announced"):
        admit(errand(f"scp -t {NAME}.gz"), inbox)


@pytest.mark.parametrize("what", ["link", "directory", "nothing"])
def test_a_part_that_is_no_plain_file_is_not_written_to(node, tmp_path, what):
    inbox, _, _ = node
    allow(inbox, EXPECTED, NAME, 10)
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep me")
    if what == "link":
        os.symlink(victim, inbox.part(NAME))
    elif what == "directory":
        os.mkdir(inbox.part(NAME))

    with pytest.raises(OSError, match=r".+"):
        admit(errand(f"scp -t {NAME}"), inbox)
    assert victim.read_bytes() == b"keep me"


def test_what_is_left_of_a_killed_contact_means_nothing_when_it_is_torn(node):
    inbox, _, _ = node
    for data in (b"", b"x", b"a b c", b"\xff\xff 1", b"name many"):
        with open(inbox.at("tmp", "expected"), "wb") as file:
            file.write(data)
        assert allowed(inbox, EXPECTED) is None
