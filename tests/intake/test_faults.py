"""Faults of the disk and of ours: they cost whoever met them his connection at most, and nobody an answer."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from support.fragments import make_route
from support.lmtp import Client, HeldWriter, Served, until

from bsmtp_batch.edge.reactor import Reactor
from bsmtp_batch.intake.line import Patience
from bsmtp_batch.intake.spill import Spill
from bsmtp_batch.spool.groups import GroupWriter

TEXT = b"Subject: x\r\n\r\nx\r\n"
ENVELOPE = b"MAIL FROM:<s@x>\r\nRCPT TO:<a@site.example>\r\n"


@pytest.fixture
def spool(tmp_path):
    make_route(tmp_path, "site.example")
    return tmp_path


def test_a_spool_that_cannot_be_looked_at_is_told_and_not_met_with_silence(spool, monkeypatch):
    def refuse(path):
        raise OSError(errno.EIO, "Input/output error", path)

    with Served(spool) as served:
        before, behind = served.client(), served.client()
        before.ask(b"MAIL FROM:<s@x>\r\n")
        monkeypatch.setattr(served.intake.desk, "_looked", float("-inf"))
        monkeypatch.setattr("bsmtp_batch.intake.desk.os.statvfs", refuse)
        assert before.ask(b"RCPT TO:<a@site.example>\r\n")[0].startswith(b"451 4.3.0")
        assert behind.ask(b"MAIL FROM:<s@x>\r\n")[0].startswith(b"421 4.3.0")
        assert behind.ended()


def test_a_fault_behind_the_dot_of_one_client_takes_no_answer_from_another(spool, monkeypatch):
    writer = HeldWriter(GroupWriter(str(spool)))
    with Served(spool, writer=writer) as served:
        first, faulty, last = clients = [served.client() for _ in range(3)]
        for client in clients:
            client.ask(ENVELOPE + b"DATA\r\n", 3)
        first.send(TEXT + b".\r\n")
        assert writer.begun.acquire(timeout=20)
        faulty.send(TEXT + b".\r\nMAIL FROM:<s@x>\r\n")
        until(lambda: len(served.intake._waiting) == 1)
        last.send(TEXT + b".\r\n")
        until(lambda: len(served.intake._waiting) == 2)
        monkeypatch.setattr(served.intake.desk, "no_mail_now", lambda: 1 // 0)
        for _ in range(2):
            writer.go.release()
        assert first.reply().startswith(b"250")
        assert last.reply().startswith(b"250")
        assert faulty.ended()
    assert any("ZeroDivisionError" in one for one in served.told)


def test_a_fault_amid_many_commands_ends_one_connection_and_not_the_server(spool, monkeypatch):
    with Served(spool) as served:
        faulty, other = served.client(), served.client()
        monkeypatch.setattr(served.intake.desk, "no_mail_now", lambda: 1 // 0)
        faulty.send(b"NOOP\r\n" * 300 + b"MAIL FROM:<s@x>\r\n")
        until(lambda: served.told)
        monkeypatch.undo()
        assert other.hand_in(TEXT, b"a@site.example")[0].startswith(b"250")


def test_what_others_asked_of_the_reactor_is_done_although_one_thing_failed():
    done, failed = [], []
    reactor = Reactor(turned=lambda: None, each_second=lambda: None, broken=failed.append)
    for what in (lambda: 1 // 0, lambda: done.append(1), reactor.stop):
        reactor.call(what)
    reactor.run()
    reactor.close()
    assert done == [1]
    assert [type(one) for one in failed] == [ZeroDivisionError]


def test_a_signal_that_comes_while_the_reactor_is_called_does_not_hold_it_up_for_ever(monkeypatch):
    reactor = Reactor(turned=lambda: None, each_second=lambda: None, broken=lambda _: None)
    write, done = os.eventfd_write, []

    def interrupted(fd, value):
        monkeypatch.setattr(os, "eventfd_write", write)
        reactor.call(reactor.stop)  # as the handler of SIGTERM does it, in the same thread
        write(fd, value)

    def run():
        reactor.call(lambda: done.append(1))
        reactor.run()
        reactor.close()
        reactor.call(lambda: done.append(2))

    monkeypatch.setattr(os, "eventfd_write", interrupted)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert done == [1]


def test_where_many_hold_half_a_message_memory_holds_little_of_each(spool, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.intake.line.ALTOGETHER", 0)
    with Served(spool) as served:
        client = served.client()
        client.ask(ENVELOPE + b"DATA\r\n", 3)
        client.send(b"Subject: x\r\n" + b"x\r\n" * 150_000)
        until(lambda: served.left() and os.path.getsize(served.left()[0]) > 200_000)
        assert served.intake.held < 400_000
        assert client.ask(b".\r\n")[0].startswith(b"250")


def test_a_message_whose_header_comes_in_small_pieces_is_known_when_it_comes_again(spool, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.intake.line.IN_MEMORY", 0)
    said = []
    with Served(spool) as served:
        for width in (3, 100):
            client = served.client()
            (line,) = served.intake._lines
            client.ask(ENVELOPE + b"DATA\r\n", 3)
            text = b"Received: from a by b with ESMTP\r\n\tid 4Abc12Xyz; now\r\n\r\nx\r\n"
            for at in range(0, len(text), width):
                piece = text[at : at + width]
                client.send(piece)
                came = min(at + width, len(text)) - 4  # the last few may be the beginning of the dot line
                until(lambda talk=line._conversation, came=came: talk.message and talk.message.came >= came)
            said += client.ask(b".\r\n")
            client.close()
            until(lambda: not served.intake._lines)
    assert said[0] == said[1]
    assert len(served.kept("site.example")) == 1


def test_a_large_message_that_was_given_up_is_answered_also_while_the_disk_still_hangs(spool, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    write = Spill.write

    def hang(self, pieces):
        begun.set()
        assert go.wait(30)
        write(self, pieces)

    monkeypatch.setattr(Spill, "write", hang)
    with Served(spool, patience=Patience(disk=0.1)) as served:
        client = served.client()
        client.ask(ENVELOPE + b"DATA\r\n", 3)
        client.send(b"x" * 98 + b"\r\n")
        for _ in range(20):
            client.send((b"x" * 98 + b"\r\n") * 1000)
        assert begun.wait(20)
        client.send(b".\r\n")
        assert client.reply() == b"451 4.3.0 the disk does not answer\r\n"
        go.set()
        until(lambda: not served.left())
    assert served.kept("site.example") == []


def test_those_who_are_sent_away_do_not_take_the_descriptors_of_those_who_are_served(spool, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.intake.server.SESSIONS", 1)
    monkeypatch.setattr("bsmtp_batch.intake.server.LEAVING", 2)
    with Served(spool) as served:
        first = served.client()
        path = str(spool / "lmtp")
        others = [Client(path) for _ in range(10)]
        assert [other.reply()[:3] for other in others] == [b"421"] * 2 + [b""] * 8
        until(lambda: served.intake.reactor.connections <= 3)
        assert first.hand_in(TEXT, b"a@site.example")[0].startswith(b"250")
        for other in others:
            other.close()


def test_without_threads_a_large_message_is_told_to_come_again_and_the_end_comes_in_order(spool, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with Served(spool) as served:
        client, other = served.client(), served.client()
        client.ask(ENVELOPE + b"DATA\r\n", 3)
        monkeypatch.setattr("bsmtp_batch.intake.pool.threading.Thread.start", refuse)
        client.send((b"x" * 98 + b"\r\n") * 15_000 + b".\r\n")
        assert client.reply().startswith(b"451 4.3.0")
        assert other.hand_in(TEXT, b"a@site.example")[0].startswith(b"250")
        monkeypatch.undo()
        assert client.hand_in((b"x" * 98 + b"\r\n") * 15_000, b"a@site.example")[0].startswith(b"250")
    assert served.left() == []
    assert len(served.kept("site.example")) == 2


def test_a_commit_is_bounded_by_what_is_written_and_not_by_what_came(spool, monkeypatch):
    make_route(spool, "other.example")
    monkeypatch.setattr("bsmtp_batch.intake.server.GROUP", 1500)
    writer = HeldWriter(GroupWriter(str(spool)))
    with Served(spool, writer=writer) as served:
        clients = [served.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.ask(ENVELOPE + b"RCPT TO:<b@other.example>\r\nDATA\r\n", 4)
            client.send(b"x" * 500 + b"\r\n.\r\n")
            if number == 0:
                assert writer.begun.acquire(timeout=20)
        until(lambda: len(served.intake._waiting) == 2)
        for client in clients:
            writer.go.release()
            assert client.reply().startswith(b"250")
    assert writer.groups == [2, 2, 2]
