"""The proof has to fail when something is wrong: a proof that cannot fail shows nothing."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from bsmtp_batch.demo.messages import HUB, NOBODY, SHIP, STATION, samples
from bsmtp_batch.demo.mta import MailServer
from bsmtp_batch.demo.proof import compare

REPORT = b"Content-Type: multipart/report; boundary=x\n\n--x\n\nFinal-Recipient: rfc822; " + NOBODY + b"\n--x--\n"


@pytest.fixture
def servers(tmp_path):
    everybody = {r for s in samples() for r in s.rcpts} - {NOBODY}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                MailServer(name, str(tmp_path / name), {r for r in everybody if r.endswith(b"@" + name.encode())})
            )
            for name in (HUB, SHIP, STATION)
        }


def deliver(servers, *, change=lambda sample: sample.content, report=True):
    for sample in samples():
        if sample.ends != "bounces" and (content := change(sample)) is not None:
            servers[sample.route].store(sample.sender, sample.rcpts, content)
    if report:
        servers[HUB].store(b"", (b"anna@hub.example",), REPORT)
    return compare(samples(), list(servers.values()))


def test_all_is_well_when_all_is_well(servers):
    proof = deliver(servers)

    assert proof.good
    assert proof.identical == proof.wanted == 56


def test_one_changed_octet_is_noticed(servers):
    proof = deliver(servers, change=lambda s: s.content.replace(b"..\n", b".\n") if s.title[0] == "d" else s.content)

    assert not proof.good
    assert [row.sample.title for row in proof.rows if not row.good] == ["dots at line starts"]
    assert proof.surplus == 1


def test_a_lost_message_is_noticed(servers):
    proof = deliver(servers, change=lambda s: None if s.sender == b"" else s.content)

    assert [row.sample.title for row in proof.rows if not row.good] == ["null sender"]
    assert not proof.good


def test_a_message_that_came_twice_is_noticed(servers):
    deliver(servers)
    first = samples()[0]

    servers[SHIP].store(first.sender, first.rcpts, first.content)

    assert not compare(samples(), list(servers.values())).good


def test_a_changed_sender_is_noticed(servers):
    deliver(servers)
    servers[SHIP].taken[0] = type(servers[SHIP].taken[0])(
        b"other@hub.example", servers[SHIP].taken[0].rcpts, servers[SHIP].taken[0].sha256
    )

    assert not compare(samples(), list(servers.values())).good


def test_a_missing_report_is_noticed(servers):
    assert not deliver(servers, report=False).good


def test_mail_that_nobody_sent_is_noticed(servers):
    deliver(servers)

    servers[STATION].store(b"x@y.example", (b"chief@borealis.example",), b"Surprise\n")

    assert not compare(samples(), list(servers.values())).good
