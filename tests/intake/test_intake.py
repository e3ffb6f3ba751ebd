"""Mail handed in by LMTP: durable before yes, every recipient told his own fate, the envelope and text untouched."""

from __future__ import annotations

import errno
import hashlib
import threading

import pytest
from support.fragments import make_route
from support.lmtp import Client, HeldWriter, Served, until

from bsmtp_batch.intake.desk import Bounds
from bsmtp_batch.intake.line import Patience
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.groups import GroupWriter

TEXT = b"Subject: x\r\n\r\n..dot\r\n\xe4\r\n"


@pytest.fixture
def spool(tmp_path):
    make_route(tmp_path, "site.example")
    make_route(tmp_path, "other.example")
    return tmp_path


def test_what_is_answered_with_yes_is_in_its_route_octet_by_octet(spool):
    with Served(spool) as served:
        client = served.client()
        said = client.ask(
            b"MAIL FROM:<s@client.example> BODY=8BITMIME SIZE=40 RET=HDRS ENVID=e+2B1\r\n"
            b"RCPT TO:<a@site.example> NOTIFY=NEVER\r\nRCPT TO:<b@Site.Example> ORCPT=rfc822;b@x\r\nDATA\r\n",
            4,
        )
        assert [one[:3] for one in said] == [b"250", b"250", b"250", b"354"]
        said = client.ask(TEXT + b".\r\n", 2)
        assert said[0].startswith(b"250 2.0.0 <a@site.example> kept as ")

    (kept,) = served.kept("site.example")
    assert kept == (
        b"MAIL FROM:<s@client.example> BODY=8BITMIME SIZE=40 RET=HDRS ENVID=e+2B1\r\n"
        b"RCPT TO:<a@site.example> NOTIFY=NEVER\r\nRCPT TO:<b@Site.Example> ORCPT=rfc822;b@x\r\nDATA\r\n"
        + TEXT
        + b".\r\n"
    )
    (path,) = (spool / "out/site.example/new").iterdir()
    assert names.parse_fragment(path.name)[1] == hashlib.sha256(kept).hexdigest()
    assert said[0].rstrip().endswith(path.name.partition(".")[0].encode())


def test_one_message_for_several_routes_is_kept_for_each_with_its_own_recipients(spool):
    with Served(spool, domains={b"alias.example": "other.example"}) as served:
        said = served.client().hand_in(TEXT, b"a@site.example", b"b@alias.example", b"c@site.example")
        assert all(one.startswith(b"250") for one in said)
        assert said[0].split()[-1] == said[2].split()[-1] != said[1].split()[-1]

    assert b"<a@site.example>\r\nRCPT TO:<c@site.example>\r\nDATA" in served.kept("site.example")[0]
    assert b"RCPT TO:<b@alias.example>\r\nDATA" in served.kept("other.example")[0]


def test_a_recipient_without_a_route_stays_with_the_mta_and_the_others_are_taken(spool):
    with Served(spool) as served:
        client = served.client()
        said = client.ask(
            b"MAIL FROM:<>\r\nRCPT TO:<x@none.example>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<a@site.example>\r\n", 4
        )
        assert [one[:9] for one in said[1:]] == [b"451 4.3.0", b"451 4.3.0", b"250 2.1.5"]
        assert b"route add none.example" in said[1]
        assert len(client.ask(b"DATA\r\n")) == 1
        assert client.ask(TEXT + b".\r\n")[0].startswith(b"250")
    assert len(served.kept("site.example")) == 1


def test_a_route_added_meanwhile_is_found_and_one_for_everything_takes_the_rest(spool):
    with Served(spool, fallback="other.example") as served:
        client = served.client()
        assert client.hand_in(TEXT, b"a@new.example")[0].startswith(b"250")
        make_route(spool, "new.example")
        assert client.hand_in(TEXT, b"a@new.example")[0].startswith(b"250")
    assert (len(served.kept("other.example")), len(served.kept("new.example"))) == (1, 1)


def test_a_message_handed_in_again_after_a_lost_answer_is_kept_once(spool):
    received = (
        b"Received: from x (y [1.2.3.4])\r\n\tby mx.example (Postfix) with ESMTP id 4Fk12\r\n\tfor <a@b>; Mon\r\n"
        + TEXT
    )
    with Served(spool) as served:
        for _ in range(2):
            served.client().hand_in(received, b"a@site.example")
        for _ in range(2):
            client = served.client()
            client.ask(b"RSET\r\nXFORWARD IDENT=5B2284C3\r\n", 2)
            client.hand_in(TEXT, b"a@site.example")
        client.ask(b"RSET\r\n")
        for _ in range(2):  # nothing tells these two apart, and nothing says that they are one
            client.hand_in(TEXT, b"a@site.example")
    assert len(served.kept("site.example")) == 4


@pytest.mark.parametrize("spilled", [False, True])
def test_a_route_that_refuses_something_does_not_keep_the_others_from_it(spool, spilled):
    (spool / "out/other.example/limits").write_bytes(names.Limits(nul="refuse").to_bytes())
    make_route(spool, "small.example")
    (spool / "out/small.example/limits").write_bytes(names.Limits(max_size=1_200_000 if spilled else 20).to_bytes())
    text = b"\0" + TEXT + (b"x" * 98 + b"\r\n") * (15_000 if spilled else 1)
    with Served(spool) as served:
        said = served.client().hand_in(text, b"a@site.example", b"a@other.example", b"a@small.example")
        assert [one[:9] for one in said] == [b"250 2.0.0", b"554 5.6.0", b"552 5.3.4"]
    assert served.kept("site.example")[0].endswith(text.replace(b"\0", b"") + b".\r\n")
    assert served.kept("other.example") == served.kept("small.example") == served.left() == []


def test_a_classic_route_gets_no_parameters_and_an_odd_spelling_of_the_null_sender_is_one(spool):
    limits = names.Limits(dialect="classic", null_sender="bounce@client.example")
    (spool / "out/site.example/limits").write_bytes(limits.to_bytes())
    with Served(spool) as served:
        client = served.client()
        client.ask(b"MAIL FROM:<bounce@client.example> SIZE=3\r\nRCPT TO:<a@site.example> NOTIFY=NEVER\r\nDATA\r\n", 3)
        client.ask(b".\r\n")
    assert served.kept("site.example") == [b"MAIL FROM:<>\r\nRCPT TO:<a@site.example>\r\nDATA\r\n.\r\n"]


def test_a_utf8_address_travels_as_one_also_where_the_mta_did_not_say_so(spool):
    make_route(spool, "xn--mller-kva.example")
    with Served(spool) as served:
        assert served.client().hand_in(TEXT, "jörg@müller.example".encode())[0].startswith(b"250")
    assert served.kept("xn--mller-kva.example")[0].startswith(b"MAIL FROM:<s@client.example> SMTPUTF8\r\n")


def test_chunks_are_taken_without_dots_and_a_missing_last_line_end_is_added(spool):
    with Served(spool) as served:
        client = served.client()
        said = client.ask(
            b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\nBDAT 5\r\n.one\nBDAT 0\r\nBDAT 3 LAST\r\ntwo", 5
        )
        assert [one[:3] for one in said] == [b"250"] * 5
    assert served.kept("site.example")[0].endswith(b"DATA\r\n..one\r\ntwo\r\n.\r\n")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_message_goes_to_the_disk_while_it_comes_and_out_as_it_came(spool, chunked):
    body = b"".join(b".%06d" % number + b"y" * 90 + b"\r\n" for number in range(30_000))
    stuffed = body.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1)
    with Served(spool) as served:
        client = served.client()
        client.ask(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\nRCPT TO:<b@other.example>\r\n", 3)
        if chunked:
            client.send(b"BDAT %d LAST\r\n" % len(body) + body)
        else:
            client.ask(b"DATA\r\n")
            client.send(stuffed + b".\r\n")
        said = [client.reply(), client.reply()]
        assert [one[:3] for one in said] == [b"250"] * 2
        assert said[0].split()[-1].decode() == next((spool / "out/site.example/new").iterdir()).name.split(".")[0]
    for route in ("site.example", "other.example"):
        assert served.kept(route)[0].endswith(b"DATA\r\n" + stuffed + b".\r\n")
    assert served.left() == []


# --- groups ---------------------------------------------------------------------------------------------------------


def test_messages_that_come_while_a_commit_runs_share_the_next_one(spool):
    writer = HeldWriter(GroupWriter(str(spool)))
    with Served(spool, writer=writer) as served:
        clients = [served.client() for _ in range(6)]
        for client in clients:
            client.ask(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\nDATA\r\n", 3)
        clients[0].send(TEXT + b".\r\n")
        assert writer.begun.acquire(timeout=20)
        for client in clients[1:]:
            client.send(TEXT + b".\r\n")
        until(lambda: len(served.intake._waiting) == 5)
        writer.go.release()
        assert clients[0].reply().startswith(b"250")
        assert writer.begun.acquire(timeout=20)
        writer.go.release()
        assert all(client.reply().startswith(b"250") for client in clients[1:])
    assert writer.groups == [1, 5]
    assert len(served.kept("site.example")) == 6


def test_nobody_is_told_yes_when_the_commit_failed_and_the_session_goes_on(spool):
    writer = HeldWriter(GroupWriter(str(spool)))
    writer.error = OSError(errno.EIO, "Input/output error")
    for _ in range(2):
        writer.go.release()
    with Served(spool, writer=writer) as served:
        client = served.client()
        assert (
            client.hand_in(TEXT, b"a@site.example", b"b@other.example")
            == [b"451 4.3.0 it cannot be kept now: Input/output error\r\n"] * 2
        )
        writer.error = None
        assert client.hand_in(TEXT, b"a@site.example")[0].startswith(b"250")
    assert len(served.kept("site.example")) == 1


def test_a_disk_that_hangs_is_told_before_the_mta_gives_up_and_nothing_of_it_comes_up_later(spool):
    writer = HeldWriter(GroupWriter(str(spool)))
    with Served(spool, writer=writer, patience=Patience(disk=0.2)) as served:
        client, other, third = served.client(), served.client(), served.client()
        client.ask(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\nDATA\r\n", 3)
        third.ask(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\nDATA\r\n", 3)
        client.send(TEXT + b".\r\n")
        assert writer.begun.acquire(timeout=20)
        third.send(TEXT + b".\r\n")
        assert client.reply() == third.reply() == b"451 4.3.0 the disk does not answer\r\n"
        assert other.ask(b"MAIL FROM:<s@x>\r\n")[0].startswith(b"421 4.3.0")
        assert other.ended()
        writer.go.release()
        until(lambda: served.told and "answers again" in served.told[-1])
        writer.go.release()
        assert client.hand_in(TEXT, b"b@other.example")[0].startswith(b"250")
    assert served.kept("site.example") == []
    assert len(served.kept("other.example")) == 1


def test_a_route_below_its_reserve_is_told_so_and_the_others_are_not_kept_from_theirs(spool):
    (spool / "out/other.example/limits").write_bytes(names.Limits(min_free=1 << 59).to_bytes())
    with Served(spool) as served:
        client = served.client()
        said = client.ask(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@other.example>\r\nRCPT TO:<a@site.example>\r\n", 3)
        assert [one[:9] for one in said[1:]] == [b"452 4.3.1", b"250 2.1.5"]


def test_no_mail_is_begun_when_no_route_has_room(spool):
    for route in ("site.example", "other.example"):
        (spool / f"out/{route}/limits").write_bytes(names.Limits(min_free=1 << 59).to_bytes())
    with Served(spool) as served:
        served.intake.desk._has = lambda octets, inodes: octets == 0
        client = served.client()
        assert client.ask(b"MAIL FROM:<s@x>\r\n")[0].startswith(b"421 4.3.1")
        assert client.ended()


# --- the end --------------------------------------------------------------------------------------------------------


def test_at_the_end_what_is_complete_is_answered_and_what_is_not_is_left_with_the_mta(spool):
    writer = HeldWriter(GroupWriter(str(spool)))
    served = Served(spool, writer=writer)
    with served:
        complete, unfinished, idle = served.client(), served.client(), served.client()
        for client in (complete, unfinished):
            client.ask(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\nDATA\r\n", 3)
        complete.send(TEXT + b".\r\n")
        unfinished.send(TEXT)
        assert writer.begun.acquire(timeout=20)
        ending = threading.Thread(target=served.stop)
        ending.start()
        assert idle.reply() == unfinished.reply() == b"421 4.3.2 hub.example going down\r\n"
        writer.go.release()
        assert complete.reply().startswith(b"250")
        assert complete.reply().startswith(b"421")
        ending.join(30)
    assert len(served.kept("site.example")) == 1


def test_what_an_earlier_server_left_in_groups_is_in_its_route_soon_after_the_start(spool):
    writer = HeldWriter(GroupWriter(str(spool)))
    writer.go.release()
    served = Served(spool, writer=writer)
    held = None
    with served:
        (spool / "groups").mkdir(exist_ok=True)
        held = durable.lock(str(spool / "groups" / "drain.lock"))
        assert served.client().hand_in(TEXT, b"a@site.example")[0].startswith(b"250")
        assert list((spool / "out/site.example/new").iterdir()) == []
        durable.unlock(held)
        until(lambda: list((spool / "out/site.example/new").iterdir()))


def test_only_so_many_are_served_and_the_next_is_told_to_come_again(spool, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.intake.server.SESSIONS", 1)
    with Served(spool, bounds=Bounds()) as served:
        first = served.client()
        with pytest.raises(AssertionError):
            served.client()
        first.close()


def test_mail_comes_over_tcp_as_well(spool):
    with Served(spool, tcp=True) as served:
        client = Client(("127.0.0.1", served.port))
        assert client.reply() == b"220 hub.example LMTP\r\n"
        client.hello()
        assert client.hand_in(TEXT, b"a@site.example")[0].startswith(b"250")
        assert client.ask(b"QUIT\r\n") == [b"221 2.0.0 goodbye\r\n"]
        assert client.ended()
        client.close()
    assert len(served.kept("site.example")) == 1
