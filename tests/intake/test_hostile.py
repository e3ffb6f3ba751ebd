"""Clients that mean harm, or are broken: a clear reply or a closed line, nothing stored, nobody else held up."""

from __future__ import annotations

import socket

import pytest
from support.fragments import make_route
from support.lmtp import Served, until

from bsmtp_batch.intake.desk import Bounds
from bsmtp_batch.intake.line import Patience
from bsmtp_batch.spool import names

TEXT = b"Subject: x\r\n\r\nx\r\n"
ENVELOPE = b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\n"


@pytest.fixture
def spool(tmp_path):
    make_route(tmp_path, "site.example")
    return tmp_path


def assert_others_are_served(served):
    other = served.client()
    assert other.hand_in(TEXT, b"other@site.example")[0].startswith(b"250")
    other.close()


def assert_nothing_kept(served, besides=0):
    served.stop()
    kept = served.kept("site.example")
    assert [one for one in kept if b"<other@" not in one] == []
    assert len(kept) == besides
    assert served.left() == []


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("opening", [b"DATA\r\n", b"BDAT 9000000 LAST\r\n"])
def test_a_client_that_stops_in_the_middle_leaves_nothing(spool, size, opening):
    with Served(spool) as served:
        client = served.client()
        client.ask(ENVELOPE, 2)
        client.send(opening + b"x" * size)
        until(lambda: served.intake.held or served.left())
        assert_others_are_served(served)
        client.close()
        until(lambda: not served.left())
        until(lambda: served.intake.held == 0)
        assert_nothing_kept(served, 1)


def test_a_client_that_says_nothing_is_sent_away(spool):
    with Served(spool, patience=Patience(idle=0.1)) as served:
        client = served.client(hello=False)
        assert client.reply() == b"421 4.3.2 hub.example it took too long\r\n"
        assert client.ended()


def test_a_text_that_never_ends_is_given_up_when_the_time_of_its_route_is_over(spool):
    (spool / "out/site.example/limits").write_bytes(names.Limits(deadline=1).to_bytes())
    with Served(spool) as served:
        client = served.client()
        client.ask(ENVELOPE + b"DATA\r\n", 3)
        client.socket.settimeout(0.05)
        said = b""
        for _ in range(200):
            client.send(b"x\r\n")
            try:
                said = client.socket.recv(1000)
                break
            except TimeoutError:
                pass
        assert said == b"421 4.3.2 hub.example it took too long\r\n"
        assert_nothing_kept(served)


def test_a_message_announced_too_large_is_refused_at_once_and_one_that_is_so_at_its_dot(spool):
    with Served(spool, bounds=Bounds(octets=2_000_000)) as served:
        client = served.client(hello=False)
        assert b"SIZE 2000000\r\n" in client.hello()
        assert client.ask(b"MAIL FROM:<s@x> SIZE=2000000000\r\n")[0].startswith(b"552 5.3.4")
        client.ask(ENVELOPE + b"DATA\r\n", 3)
        for _ in range(300):
            client.send((b"x" * 98 + b"\r\n") * 200)
        assert_others_are_served(served)
        until(lambda: not served.left())
        assert client.ask(b".\r\n")[0].startswith(b"552 5.3.4")
        assert client.hand_in(TEXT, b"other@site.example")[0].startswith(b"250")
        assert_nothing_kept(served, 2)


def test_more_recipients_than_fit_are_told_so_and_the_first_thousand_are_kept(spool):
    with Served(spool) as served:
        client = served.client()
        client.send(b"MAIL FROM:<other@site.example>\r\n")
        said = [client.reply()]
        for hundred in range(100):  # nothing is read of a client that does not read us
            said += client.ask(b"".join(b"RCPT TO:<%d.%d@site.example>\r\n" % (hundred, n) for n in range(100)), 100)
        assert [one[:3] for one in said] == [b"250"] * 1001 + [b"452"] * 9000
        assert_others_are_served(served)
        said = client.ask(b"DATA\r\n") + client.ask(TEXT + b".\r\n", 1000)
        assert all(one.startswith(b"250 2.0.0") for one in said[1:])
    assert sorted(one.count(b"\r\nRCPT") for one in served.kept("site.example")) == [1, 1000]


def test_a_flood_of_commands_holds_nobody_up(spool):
    with Served(spool) as served:
        flood = served.client()
        flood.socket.setblocking(False)
        sent = 0
        try:
            while sent < 4_000_000:
                sent += flood.socket.send(b"RCPT TO:<a@site.example>\r\n" * 2000)
        except BlockingIOError:
            pass
        assert_others_are_served(served)


def test_a_client_that_never_reads_is_not_read_either(spool):
    with Served(spool, bounds=Bounds(idle=1 << 40)) as served:
        client = served.client()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                client.send(b"NOOP\r\n" * 10_000)
        assert_others_are_served(served)


@pytest.mark.parametrize("line", [b"A" * 100_000, b"MAIL FROM:<" + b"x" * 3000 + b">", b"\0\r\x80"])
def test_a_command_that_is_none_is_refused_and_the_session_goes_on(spool, line):
    with Served(spool) as served:
        client = served.client()
        assert client.ask(line + b"\r\n")[0][:1] == b"5"
        assert client.hand_in(TEXT, b"other@site.example")[0].startswith(b"250")
        assert_nothing_kept(served, 1)


def test_a_command_without_end_is_not_collected(spool):
    with Served(spool) as served:
        client = served.client()
        for _ in range(300):
            client.send(b"x" * 10_000)
        assert_others_are_served(served)
        assert client.ask(b"\r\n")[0].startswith(b"500 5.5.2")


def test_a_text_line_without_end_is_kept_whole(spool):
    with Served(spool) as served:
        assert served.client().hand_in(b"y" * 2_500_000 + b"\r\n", b"a@site.example")[0].startswith(b"250")
    assert served.kept("site.example")[0].endswith(b"DATA\r\n" + b"y" * 2_500_000 + b"\r\n.\r\n")


@pytest.mark.parametrize(
    ("said", "replies"),
    [
        (b"BDAT 4 LAST\r\nabcd", [b"503"]),
        (b"MAIL FROM:<s@x>\r\nBDAT 4 LAST\r\nabcdNOOP\r\n", [b"250", b"503", b"250"]),
        (ENVELOPE + b"BDAT 4\r\nabcdDATA\r\n", [b"250", b"250", b"250", b"503"]),
        (ENVELOPE + b"BDAT 4\r\nabcdMAIL FROM:<x@y>\r\nRSET\r\n", [b"250", b"250", b"250", b"503", b"250"]),
        (ENVELOPE + b"BDAT x LAST\r\n", [b"250", b"250", b"501"]),
        (b"MAIL FROM:<s@x>\r\nDATA\r\n", [b"250", b"503"]),
        (b"DATA\r\n", [b"503"]),
        (b"EHLO me\r\n", [b"500"]),
        (b"HELO me\r\n", [b"500"]),
        (b"STARTTLS\r\n", [b"502"]),
        (b"AUTH PLAIN\r\n", [b"502"]),
        (b"ATRN\r\n", [b"502"]),
        (b"ETRN x\r\n", [b"502"]),
        (b"VRFY x\r\nEXPN x\r\nHELP\r\n", [b"252", b"502", b"214"]),
        (ENVELOPE + b"XFORWARD IDENT=x\r\n", [b"250", b"250", b"503"]),
    ],
)
def test_what_is_out_of_order_is_said_to_be_and_stores_nothing(spool, said, replies):
    with Served(spool) as served:
        assert [one[:3] for one in served.client().ask(said, len(replies))] == replies
        assert_nothing_kept(served)


def test_a_chunk_whose_size_cannot_be_read_ends_the_line(spool):
    with Served(spool) as served:
        client = served.client()
        client.ask(ENVELOPE + b"BDAT -1 LAST\r\nQUIT\r\n", 3)
        assert client.ended()


def test_a_dot_that_only_looks_like_one_ends_nothing(spool):
    smuggled = b"a\n.\nb\r\n.\nc\n.\r\nd\r\n.\r\r\ne\r\n\0.\r\nMAIL FROM:<evil@x>\r\n"
    with Served(spool) as served:
        assert len(served.client().hand_in(smuggled, b"a@site.example")) == 1
    (kept,) = served.kept("site.example")
    assert kept.endswith(
        b"DATA\r\na\r\n..\r\nb\r\n..\r\nc\r\n..\r\nd\r\n.. \r\ne\r\n..\r\nMAIL FROM:<evil@x>\r\n.\r\n"
    ) or (kept.count(b"\r\n.\r\n") == 1)


def test_twenty_faults_end_the_line_and_so_does_talk_without_mail(spool):
    with Served(spool, bounds=Bounds(idle=30)) as served:
        client = served.client()
        said = client.ask(b"FOO\r\n" * 20, 20)
        assert said[-1].startswith(b"421")
        assert client.ended()
        client = served.client()
        said = client.ask(b"NOOP\r\n" * 30, 30)
        assert said[-1].startswith(b"421 4.7.0")
        assert client.ended()


def test_a_client_that_hangs_up_before_the_answer_has_its_mail_kept_and_harms_nobody(spool):
    with Served(spool) as served:
        for _ in range(5):
            client = served.client()
            client.ask(ENVELOPE + b"DATA\r\n", 3)
            client.send(TEXT + b".\r\n")
            client.socket.shutdown(socket.SHUT_RDWR)
            client.close()
        assert_others_are_served(served)
    assert len(served.kept("site.example")) == 6
