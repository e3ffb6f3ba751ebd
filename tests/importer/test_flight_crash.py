"""An importer killed at any octet it writes that matters, while the next message is begun with the dot of the last."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from support.importing import Letter, arrive, ledger, letters, run
from support.smtp_sink import RecordingServer

from bsmtp_batch.edge.sockets import SocketChannel
from bsmtp_batch.importer import one
from bsmtp_batch.ledger import Ledger, store
from bsmtp_batch.replay import source

DOUBT = re.compile(r"message (\d+) was in doubt")
MAIL = [
    letters(1)[0],
    Letter(to=(b"c@s.e", b"d@s.e"), content=b"Subject: 2\r\n\r\n" + b"..dots\r\n" * 30),
    *letters(4)[2:],
]


def mortal(point: int) -> None:
    """Let this process die at that moment of an import: around a commit, and in the middle of what it sends."""
    left = [point]
    commit, write, offer = Ledger.step, SocketChannel.send, SocketChannel.offer
    pwrite, fdatasync, unlink = os.pwrite, os.fdatasync, os.unlink

    def moment():
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)

    def step(self, *arguments):
        moment()
        commit(self, *arguments)
        moment()

    def send(self, data, seconds):
        text, dot, behind = bytes(data).rpartition(b"\r\n.\r\n")
        cuts = [len(data) // 2, len(data)]
        if dot:
            cuts = [len(text), len(text) + len(dot), len(data) - len(behind) // 2, len(data)]
        at = 0
        moment()
        for cut in cuts:
            write(self, data[at:cut], seconds)
            at = cut
            moment()

    def offering(self, data):
        text, dot, _ = bytes(data).rpartition(b"\r\n.\r\n")
        at = 0
        moment()
        for cut in (len(text), len(text) + len(dot), len(data)) if dot else (len(data),):
            assert offer(self, data[at:cut]) == cut - at, "these fit"
            at = cut
            moment()
        return len(data)

    def around(call):
        def dying(*arguments):
            moment()
            result = call(*arguments)
            moment()
            return result

        return dying

    Ledger.step, SocketChannel.send, SocketChannel.offer = step, send, offering
    os.pwrite, os.fdatasync, os.unlink = around(pwrite), around(fdatasync), around(unlink)


class Doomed:
    """A process, begun before any thread is, that imports ``spool`` when it is told where to."""

    def __init__(self, spool, point, connections=1):
        read, self._say = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                mortal(point)
                run(spool, os.read(read, 100).decode(), connections=connections)
            finally:
                os._exit(0)
        os.close(read)

    def died(self, url):
        os.write(self._say, url.encode())
        os.close(self._say)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]) == 9


@pytest.mark.timeout(120)
def test_killed_at_any_write_one_message_at_most_comes_twice_and_is_named(tmp_path):
    wanted = Counter(one.content for one in MAIL)
    doubled_in_all = 0
    for point in range(1, 200):
        spool = tmp_path / f"spool{point}"
        arrive(spool, MAIL)
        doomed = Doomed(spool, point)
        with RecordingServer() as server:
            died = doomed.died(server.url)
            server.settle()
            with ledger(spool) as book:
                assert len(book.in_doubt()) <= 1
            again = run(spool, server.url)
        got = Counter(message.content for message in server.messages)
        named = [int(which) for trouble in again.troubles for which in DOUBT.findall(trouble)]
        doubled = list((got - wanted).elements())
        assert wanted - got == Counter(), point
        assert len(doubled) <= 1, point
        assert len(named) <= 1, point
        assert all(content == MAIL[named[0] - 1].content for content in doubled), point
        doubled_in_all += len(doubled)
        if not died:
            assert again.lines == []
            assert point > 8 * len(MAIL)
            assert doubled_in_all >= len(MAIL)
            return
    raise AssertionError("the list of moments does not end")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("hurried", [False, True])
def test_killed_with_several_connections_one_message_of_each_at_most_comes_twice_and_is_named(
    tmp_path, monkeypatch, hurried
):
    monkeypatch.setattr(source, "WORTH", 1)
    monkeypatch.setattr(one, "MANY", 1 if hurried else 100)
    monkeypatch.setattr(store, "AWHILE", 0.05)
    found, connections, doubled_in_all, most = letters(14), 3, 0, 0
    wanted = Counter(one.content for one in found)
    for point in range(1 + hurried, 400, 4):
        spool = tmp_path / f"spool{point}"
        arrive(spool, found)
        doomed = Doomed(spool, point, connections)
        with RecordingServer() as server:
            died = doomed.died(server.url)
            server.settle()
            with ledger(spool) as book:
                doubt = {number for _, number in book.in_doubt()}
            again = run(spool, server.url, connections=connections)
        got = Counter(message.content for message in server.messages)
        named = {int(which) for trouble in again.troubles for which in DOUBT.findall(trouble)}
        doubled = list((got - wanted).elements())
        assert wanted - got == Counter(), point
        assert named == doubt, point
        assert len(named) <= connections, point
        assert set(doubled) <= {found[number - 1].content for number in named}, point
        doubled_in_all += len(doubled)
        most = max(most, len(named))
        if not died:
            assert again.lines == []
            assert most == connections
            assert doubled_in_all >= len(found)
            return
    raise AssertionError("the list of moments does not end")
