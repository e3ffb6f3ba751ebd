from __future__ import annotations

import os
import threading

import pytest

from bsmtp_batch.spool import locks
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


def test_a_program_that_opens_a_part_while_it_is_checked_cannot_change_what_was_checked(part, monkeypatch):
    """It was let in before the part was whole, and opens it when it has been told that it is."""
    late = []

    def check(fd, *, path, seconds=0.0):
        written_by_nobody(fd, path=path, seconds=seconds)
        late.append(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))

    monkeypatch.setattr(locks, "written_by_nobody", check)
    part.settle_part(NAME)
    path = part.publish(NAME, b"manifest")
    os.pwrite(late[0], b"other!", 0)
    os.close(late[0])

    with open(path, "rb") as file:
        assert file.read() == b"octets"


def test_a_part_that_was_being_checked_when_its_contact_was_killed_is_gone_on_with(part):
    part.settle_part(NAME)

    part.resume_part(NAME)
    part.resume_part(NAME)

    assert os.listdir(part.at("tmp")) == [NAME + ".part"]


def test_a_part_that_cannot_be_settled_is_still_a_part(part):
    os.unlink(part.part(NAME))
    os.symlink("/etc/passwd", part.part(NAME))

    with pytest.raises(OSError):
        part.settle_part(NAME)

    assert os.listdir(part.at("tmp")) == [NAME + ".part"]


def test_a_mode_that_the_other_side_chose_does_not_stay(part):
    os.chmod(part.part(NAME), 0o4555)

    part.settle_part(NAME)

    assert os.stat(part.publish(NAME, b"manifest")).st_mode & 0o7777 == 0o600
