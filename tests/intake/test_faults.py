"""Faults of the disk and of ours: they cost whoever met them his connection at most, and nobody an answer."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from support.fragments import make_route
from support.lmtp import HeldWriter, Served, until

from bsmtp_batch.edge.reactor import Reactor
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
