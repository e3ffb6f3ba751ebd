from __future__ import annotations

import os
import threading

import pytest

from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.locks import Busy, written_by_nobody

NAME = "site.example.00000001.20261122T053300Z.hub.bsmtp"


@pytest.fixture
def part(tmp_path):
    inbox = Inbox(str(tmp_path), "hub")
    inbox.make()
    with open(inbox.part(NAME), "wb") as file:
        file.write(b"octets")
    return inbox


def test_a_part_that_a_left_over_program_may_still_change_is_not_settled(part):
    """Its digest would be that of this moment, and the batch in new/ something else a moment later."""
    fd = os.open(part.part(NAME), os.O_RDONLY)
    with open(part.part(NAME), "ab"), pytest.raises(Busy, match="still writes"):
        written_by_nobody(fd, path="it", seconds=0)
    written_by_nobody(fd, path="it", seconds=0)
    os.close(fd)


def test_a_program_that_is_about_to_close_its_file_is_waited_for(part):
    writer = open(part.part(NAME), "ab")  # noqa: SIM115 - closed by the other thread
    ending = threading.Timer(0.1, writer.close)
    ending.start()

    assert part.settle_part(NAME)[0] == 6
    assert writer.closed
    ending.join()


def test_a_file_system_that_knows_no_leases_is_believed(part, monkeypatch):
    import fcntl

    monkeypatch.delattr(fcntl, "F_SETLEASE")
    with open(part.part(NAME), "ab"):
        assert part.settle_part(NAME)[0] == 6
