"""An importer that is killed: nothing lost, one message at most in doubt, and its name in the ledger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from support.importing import Letter, arrive, batch, ledger, letters, names, run
from support.sink import EndOfData, Hold, RcptTo, Sink

from bsmtp_batch.errors import Later
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.wire.events import Reply

COMMAND = [sys.executable, "-m", "bsmtp_batch", "import"]


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


def start(spool, url, *arguments):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--spool", str(spool), "--to", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killed_between_the_dot_and_its_reply(spool):
    hold = Hold()
    arrive(spool, letters(4))
    with Sink(lambda asked: hold if isinstance(asked.request, EndOfData) and asked.messages == 3 else None) as sink:
        child = start(spool, sink.url)
        assert hold.reached.wait(30)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        hold.go_on.set()

        with ledger(spool) as book:
            assert [message for _, message in book.in_doubt()] == [3]
            [sha256] = {batch for batch, _ in book.in_doubt()}
            assert [fate.state for fate in book.fates(sha256).values()] == ["done", "done", "finishing"]

        sink.answer = lambda asked: None
        after = run(spool, sink.url)

    assert after.said("message 3 was in doubt")
    assert after.outcomes == ["skipped", "skipped", "delivered", "delivered"]
    texts = [one.content for one in sink.taken]
    assert [texts.count(one.content) for one in letters(4)] == [1, 1, 2, 1]
    assert len(names(spool / "in" / "hub.example" / "done")) == 2


def test_killed_while_naming_recipients_doubts_nothing_but_what_was_not_written_yet(spool):
    hold = Hold()
    arrive(spool, letters(3))
    with Sink(lambda asked: hold if isinstance(asked.request, RcptTo) and asked.messages == 2 else None) as sink:
        child = start(spool, sink.url)
        assert hold.reached.wait(30)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        hold.go_on.set()
        with ledger(spool) as book:
            assert [message for _, message in book.in_doubt()] == [2]
        sink.answer = lambda asked: None
        run(spool, sink.url)

    texts = [one.content for one in sink.taken]
    assert [texts.count(one.content) for one in letters(3)] == [1, 2, 1]


def test_a_second_process_says_so_and_ends(spool):
    hold = Hold()
    path = arrive(spool, letters(1))
    with Sink(lambda asked: hold if isinstance(asked.request, EndOfData) else None) as sink:
        first = start(spool, sink.url)
        assert hold.reached.wait(30)
        second = start(spool, sink.url)
        said = second.communicate()[0]
        hold.go_on.set()
        first.communicate()

    assert second.returncode == 75
    assert "another import of this batch is at work" in said
    assert path.name in said
    assert first.returncode == 75
    assert len(sink.taken) == 1


def test_four_importers_at_once_deliver_once(spool):
    arrive(spool, letters(3))
    with Sink() as sink:
        children = [start(spool, sink.url) for _ in range(4)]
        codes = [child.wait() for child in children]
        for child in children:
            child.stdout.close()

    assert set(codes) <= {0, 75}
    assert 0 in codes
    assert len(sink.taken) == 3


DYING = """
import os, sys
from bsmtp_batch.spool import durable
from bsmtp_batch.ledger import Ledger

left = [int(sys.argv[1])]
def dying(original):
    def call(*arguments, **more):
        for moment in "before", "after":
            if moment == "after":
                result = original(*arguments, **more)
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
        return result
    return call
durable.rename_durably = dying(durable.rename_durably)
durable.sync_close = dying(durable.sync_close)
Ledger.step = dying(Ledger.step)
Ledger.note_batch = dying(Ledger.note_batch)
sys.argv[1:2] = []
from bsmtp_batch.cli.app import run
os._exit(run(sys.argv[1:]))
"""


def test_a_maildir_import_killed_anywhere_has_each_message_once_in_the_end(tmp_path):
    found = [*letters(2), Letter(to=(b"c@site.example", b"x@evil.example"))]
    for point in range(1, 200):
        spool = tmp_path / f"spool{point}"
        inbox = tmp_path / f"M{point}"
        arrive(spool, found)
        arguments = ["import", "--spool", str(spool), "--to", f"maildir:{inbox}", "--local-domain", "site.example"]
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            sys.argv = ["-c", str(point), *arguments]
            exec(compile(DYING, "dying", "exec"), {"__name__": "__main__"})
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        run(spool, f"maildir:{inbox}", domains=["site.example"])

        texts = sorted(path.read_bytes() for path in (inbox / "new").iterdir())
        assert texts == sorted(one.content.replace(b"\r\n", b"\n") for one in found), point
        assert len(names(spool / "in" / "hub.example" / "done")) == 2, point
        assert len(names(spool / "in" / "hub.example" / "bad")) == 2, point
        if not killed:
            assert point > 20
            return
    raise AssertionError("the list of moments does not end")


def test_a_message_a_reader_has_moved_is_not_delivered_again(spool, tmp_path):
    arrive(spool, letters(2))
    inbox = tmp_path / "M"
    run(spool, f"maildir:{inbox}")
    [first, _] = sorted((inbox / "new").iterdir())
    first.rename(inbox / "cur" / f"{first.name}:2,S")
    (spool / "ledger.db").unlink()  # all that is known is gone: the worst case of a crash
    (spool / "in" / "hub.example" / "done").rename(spool / "in" / "hub.example" / "work.old")
    arrive(spool, letters(2))
    run(spool, f"maildir:{inbox}")

    assert len(names(inbox / "new")) == len(names(inbox / "cur")) == 1


def test_a_ledger_that_fails_at_the_dot_keeps_the_message_back(spool, tmp_path, monkeypatch):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(3)))
    original = Ledger.step
    steps = []

    def failing(self, sha256, news):
        steps.append(1)
        if len(steps) == 2:
            raise Later("the ledger is full", safe="nothing lost", next="make room")
        original(self, sha256, news)

    with Sink() as sink:
        monkeypatch.setattr(Ledger, "step", failing)
        first = run(spool, sink.url, path)
        assert len(sink.taken) == 1
        monkeypatch.undo()
        with ledger(spool) as book:
            assert book.in_doubt() == []  # what was answered could still be written
        second = run(spool, sink.url, path)

    assert first.code == 75
    assert first.said("the ledger is full")
    assert second.outcomes == ["skipped", "delivered", "delivered"]
    assert [one.content for one in sink.taken] == [one.content for one in letters(3)]


def test_an_interrupt_at_the_keyboard_keeps_what_was_answered(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(3)))
    hold = Hold()
    with Sink(lambda asked: hold if isinstance(asked.request, EndOfData) and asked.messages == 2 else None) as sink:
        child = start(spool, sink.url, path)
        assert hold.reached.wait(30)
        child.send_signal(signal.SIGINT)
        said = child.communicate()[0]
        hold.go_on.set()
        with ledger(spool) as book:
            assert [message for _, message in book.in_doubt()] == [2]

    assert child.returncode == 75, said


def test_a_sink_that_never_answers_is_waited_for_no_longer_than_allowed(spool, tmp_path):
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(1)))
    hold = Hold()
    with Sink(lambda asked: hold if isinstance(asked.request, EndOfData) else None) as sink:
        result = run(spool, sink.url, path, patience=0.0005)
        hold.go_on.set()

    assert (result.code, result.outcomes) == (75, ["deferred"])
    assert "no answer within the time allowed" in result.lines[0].reply


def test_a_disk_full_for_the_set_aside_message_loses_nothing(spool, tmp_path, monkeypatch):
    from bsmtp_batch.spool import durable

    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch([Letter(to=(b"x@evil.example",)), Letter()]))

    def full(*_):
        raise OSError(28, "No space left on device")

    with Sink() as sink:
        with monkeypatch.context() as patch:
            patch.setattr(durable, "write_all", full)
            first = run(spool, sink.url, path, domains=["site.example"])
        assert (first.code, sink.taken) == (75, [])
        assert first.said("No space left")
        second = run(spool, sink.url, path, domains=["site.example"])

    assert second.outcomes == ["quarantined", "delivered"]


def test_a_full_disk_in_the_maildir_is_not_the_messages_fault(spool, tmp_path, monkeypatch):
    from bsmtp_batch.spool import durable

    arrive(spool, letters(1))
    original = durable.sync_close

    def full(fd):
        os.close(fd)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_close", full)
        first = run(spool, f"maildir:{tmp_path}/M")
    assert (first.code, first.outcomes) == (75, ["deferred"])
    assert names(tmp_path / "M" / "tmp") == []
    assert durable.sync_close is original
    assert run(spool, f"maildir:{tmp_path}/M").outcomes == ["delivered"]


def test_a_refusal_while_another_thread_watches_is_told_in_order(spool, tmp_path):
    """Lines come after their commit and in the order of the batch, whatever the server does in between."""
    path = tmp_path / "x.bsmtp"
    path.write_bytes(batch(letters(5)))
    gate = threading.Event()

    def answer(asked):
        if isinstance(asked.request, EndOfData) and asked.messages == 3:
            gate.set()
            return Reply(554, b"5.7.1", b"no")
        return None

    with Sink(answer) as sink:
        result = run(spool, sink.url, path)

    assert gate.is_set()
    assert [line.message for line in result.lines] == [1, 2, 3, 4, 5]
    assert result.outcomes == ["delivered", "delivered", "bounced", "delivered", "delivered"]
