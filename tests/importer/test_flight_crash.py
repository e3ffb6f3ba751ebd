"""An importer killed at any octet it writes that matters, while the next message is begun with the dot of the last."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter

import pytest
from support.importing import Letter, arrive, ledger, letters, run
from support.smtp_sink import RecordingServer

import bsmtp_batch.cli.app  # noqa: F401 - here once, and not in each process that is to die

DYING = """
import os, sys
from bsmtp_batch.edge.sockets import SocketChannel
from bsmtp_batch.ledger import Ledger

left = [int(sys.argv[1])]
def moment():
    left[0] -= 1
    if left[0] == 0:
        os._exit(9)

def step(self, *arguments, original=Ledger.step):
    moment()
    original(self, *arguments)
    moment()

def send(self, data, seconds, original=SocketChannel.send):
    data = bytes(data)
    text, dot, behind = data.rpartition(b"\\r\\n.\\r\\n")
    cuts = [len(data) // 2, len(data)]
    if dot:
        cuts = [len(text), len(text) + len(dot), len(data) - len(behind) // 2, len(data)]
    moment()
    at = 0
    for cut in cuts:
        original(self, data[at:cut], seconds)
        at = cut
        moment()

Ledger.step, SocketChannel.send = step, send
sys.argv[1:2] = []
from bsmtp_batch.cli.app import run
os._exit(run(sys.argv[1:]))
"""
DOUBT = re.compile(r"message (\d+) was in doubt")
MAIL = [
    *letters(2),
    Letter(to=(b"c@s.e", b"d@s.e"), content=b"Subject: 2\r\n\r\n" + b"..dots\r\n" * 30),
    *letters(5)[3:],
]


def killed(point, *arguments):
    """Whether an import dies at that moment."""
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.argv = ["-c", str(point), "import", *arguments]
        exec(compile(DYING, "dying", "exec"), {"__name__": "__main__"})
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.timeout(120)
def test_killed_at_any_write_one_message_at_most_comes_twice_and_is_named(tmp_path):
    wanted = Counter(one.content for one in MAIL)
    doubled_in_all = 0
    for point in range(1, 200):
        spool = tmp_path / f"spool{point}"
        arrive(spool, MAIL)
        with RecordingServer() as server:
            died = killed(point, "--spool", str(spool), "--to", server.url)
            server.settle()
            with ledger(spool) as book:
                assert len(book.in_doubt()) <= 1
            again = run(spool, server.url)
            third = run(spool, server.url)
        got = Counter(message.content for message in server.messages)
        named = [int(which) for trouble in again.troubles for which in DOUBT.findall(trouble)]
        doubled = list((got - wanted).elements())
        assert wanted - got == Counter(), point
        assert len(doubled) <= 1, point
        assert len(named) <= 1, point
        assert all(content == MAIL[named[0] - 1].content for content in doubled), point
        assert third.lines == [], point
        doubled_in_all += len(doubled)
        if not died:
            assert point > 5 * len(MAIL)
            assert doubled_in_all >= len(MAIL)
            return
    raise AssertionError("the list of moments does not end")
