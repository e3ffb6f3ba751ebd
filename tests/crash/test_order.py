"""The reader of system call logs notices each kind of haste, and lets a patient program pass."""

from __future__ import annotations

from support.order import violations
from support.strace import Call

HOME = "/h"
CREATE = ("openat", 'AT_FDCWD, "/h/tmp/x", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</h/tmp/x>')
WRITE = ("write", '3</h/tmp/x>, "abc", 3) = 3')
SYNC = ("fsync", "3</h/tmp/x>) = 0")
RENAME = ("rename", '"/h/tmp/x", "/h/new/x") = 0')
SYNC_DIRECTORY = ("fsync", "4</h/new>) = 0")
EXIT = ("exit_group", "0) = ?")
MARK = ("openat", 'AT_FDCWD, "/h/sealed/k", O_WRONLY|O_CREAT, 0600) = 5</h/sealed/k>')
SYNC_MARKS = ("fsync", "6</h/sealed>) = 0")
UNLINK = ("unlink", '"/h/new/x") = 0')
DONE = ("rename", '"/h/lists/1.list", "/h/lists/1.done") = 0')
SYNC_LISTS = ("fsync", "7</h/lists>) = 0")


def log(*calls: tuple[str, str]) -> list[Call]:
    return [
        Call(1, name, n, text, text.rpartition("= ")[2].split()[0].partition("<")[0], False)
        for n, (name, text) in enumerate(calls)
    ]


def found(*calls: tuple[str, str]) -> str:
    return "; ".join(violations(log(*calls), HOME))


def test_a_patient_hand_in_passes() -> None:
    assert found(CREATE, WRITE, SYNC, RENAME, SYNC_DIRECTORY, EXIT) == ""


def test_a_rename_before_the_content_is_durable() -> None:
    assert "content is not durable" in found(CREATE, WRITE, RENAME, SYNC_DIRECTORY, EXIT)


def test_success_before_the_name_is_durable() -> None:
    assert "/h/new/x" in found(CREATE, WRITE, SYNC, RENAME, EXIT)


def test_a_member_removed_before_its_marker_is_durable() -> None:
    assert "the removal of /h/new/x" in found(MARK, UNLINK, SYNC_DIRECTORY, SYNC_MARKS)
    assert found(MARK, SYNC_MARKS, UNLINK, SYNC_DIRECTORY) == ""


def test_a_list_marked_done_before_the_removals_are_durable() -> None:
    assert "removals" in found(UNLINK, DONE, SYNC_DIRECTORY)
    assert found(UNLINK, SYNC_DIRECTORY, DONE, SYNC_LISTS, EXIT) == ""


def test_a_failed_fsync_makes_nothing_durable() -> None:
    assert "not durable" in found(CREATE, WRITE, ("fsync", "3</h/tmp/x>) = -1 EIO"), RENAME)


def test_names_in_an_open_directory_are_followed() -> None:
    make = ("openat", '5</h/medium/r>, ".b.part", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</h/medium/r/.b.part>')
    name = ("renameat", '5</h/medium/r>, ".b.part", 5</h/medium/r>, "b") = 0')
    assert "/h/medium/r/b" in found(make, name, EXIT)
    assert found(make, name, ("fsync", "5</h/medium/r>) = 0"), EXIT) == ""


def test_what_a_killed_process_left_is_not_durable_for_the_next() -> None:
    assert "/h/new/x" in found(CREATE, WRITE, SYNC, RENAME, UNLINK)
