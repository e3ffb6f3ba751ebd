"""Every target keeps the one contract: what is delivered arrives as it was, and what is not is said."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from support import smtp_child
from support.importing import NODE
from support.sink import Sink

from bsmtp_batch.replay import address, targets
from bsmtp_batch.replay.contract import Job, Kind, Unreachable
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import stuff
from bsmtp_batch.wire.session import Protocol

AWKWARD = {
    "plain": b"Subject: x\r\n\r\nbody\r\n",
    "empty": b"",
    "no headers": b"\r\nbody\r\n",
    "dots": b".\r\n..\r\n...\r\n.x\r\n \r\n.\r\n",
    "ends in a dot": b"Subject: x\r\n\r\n.\r\n",
    "eight bit": "Subject: Grüße\r\n\r\näöü\r\n".encode(),
    "not utf-8": b"Subject: x\r\n\r\n\xff\xfe\x80\r\n",
    "long line": b"Subject: x\r\n\r\n" + b"y" * 5000 + b"\r\n",
    "three megabytes": b"Subject: x\r\n\r\n" + b".0123456789abcdef\r\n" * 170_000,
    "looks like commands": b"MAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nDATA\r\n.\r\nQUIT\r\n",
    "blank lines": b"\r\n\r\n\r\n",
    "from line": b"From someone\r\n>From other\r\n",
}


def job(content, *, name="name.1", sender=b"a@hub.example", to=(b"c@site.example",), pieces=1000):
    wire = stuff(content)

    def cut(octets):
        return lambda: (octets[i : i + pieces] for i in range(0, len(octets), pieces))

    return Job(
        name=name,
        mail=Mail(sender),
        rcpts=tuple(map(Rcpt, to)),
        size=len(content),
        eight_bit=not content.isascii(),
        wire=cut(wire),
        content=cut(content),
    )


class Place:
    """A target and a way to see what it holds."""

    def __init__(self, url, held):
        self.target = targets.target_of(address.parse(url), node=NODE, patience=0.1)
        self.contents = held


def read_maildir(path: Path) -> list[bytes]:
    return [one.read_bytes().replace(b"\n", b"\r\n") for one in sorted((path / "new").iterdir())]


@pytest.fixture(params=["smtp", "lmtp", "lmtp-socket", "sendmail", "maildir"])
def place(request, tmp_path):
    with ExitStack() as stack:
        if request.param == "maildir":
            yield Place(f"maildir:{tmp_path}/M", lambda: read_maildir(tmp_path / "M"))
        elif request.param == "sendmail":
            program, taken = smtp_child.install(tmp_path)
            yield Place(f"sendmail:{program}", lambda: [row["content"] for row in smtp_child.read(taken)])
        else:
            protocol = Protocol.SMTP if request.param == "smtp" else Protocol.LMTP
            path = str(tmp_path / "s") if request.param == "lmtp-socket" else None
            sink = stack.enter_context(Sink(protocol=protocol, path=path))
            yield Place(sink.url, lambda: [one.content for one in sink.taken])


def test_awkward_messages_arrive_octet_for_octet(place):
    connection = place.target.connect()
    for number, content in enumerate(AWKWARD.values()):
        result = connection.carry(job(content, name=f"name.{number:04}", pieces=65536), lambda: None)
        assert [verdict.kind for verdict in result.verdicts] == [Kind.DELIVERED]
        assert result.ended == ""
    connection.close()

    assert place.contents() == list(AWKWARD.values())


def test_a_line_end_cut_in_two_stays_one(place):
    connection = place.target.connect()
    content = b"a: 1\r\n\r\nx\r\n.\r\n"
    for pieces in range(1, 8):
        connection.carry(job(content, name=f"name.{pieces}", pieces=pieces), lambda: None)
    connection.close()

    assert place.contents() == [content] * 7


def test_the_mark_comes_before_the_message_is_there(place):
    seen = []
    connection = place.target.connect()
    connection.carry(job(b"x: y\r\n\r\n"), lambda: seen.append(1))
    assert seen == [1]
    connection.close()


def test_a_mark_that_cannot_be_made_keeps_the_message_back(place):
    def fail():
        raise RuntimeError("the ledger is full")

    connection = place.target.connect()
    with pytest.raises(RuntimeError, match="ledger"):
        connection.carry(job(b"x: y\r\n\r\n"), fail)
    connection.close()

    assert place.contents() == []


def test_every_recipient_has_a_verdict(place):
    connection = place.target.connect()
    to = tuple(b"user%d@site.example" % n for n in range(250))
    result = connection.carry(job(b"x: y\r\n\r\n", to=to), lambda: None)
    connection.close()

    assert [verdict.kind for verdict in result.verdicts] == [Kind.DELIVERED] * 250


@pytest.mark.parametrize(
    "url",
    ["smtp://127.0.0.1:1", "lmtp://127.0.0.1:1", "lmtp:///nonexistent/socket", "sendmail:/nonexistent/sendmail"],
)
def test_a_target_that_is_not_there_is_unreachable(url):
    with pytest.raises(Unreachable):
        targets.target_of(address.parse(url), node=NODE).connect()


def test_a_maildir_that_cannot_be_is_unreachable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable):
        targets.target_of(address.parse(f"maildir:{tmp_path}/file/M"), node=NODE).connect()


def test_a_program_that_is_no_mail_server_is_unreachable():
    with pytest.raises(Unreachable):
        targets.target_of(address.parse("sendmail:/bin/false"), node=NODE).connect()
