"""The reader of system call logs notices each kind of haste, and lets a patient program pass."""

from __future__ import annotations

from dataclasses import replace

from support.order import violations
from support.strace import Call

HOME = "/tmp/h"
CREATE = ("openat", 'AT_FDCWD, "/tmp/h/tmp/x", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</tmp/h/tmp/x>')
WRITE = ("write", '3</tmp/h/tmp/x>, "abc", 3) = 3')
SYNC = ("fsync", "3</tmp/h/tmp/x>) = 0")
RENAME = ("rename", '"/tmp/h/tmp/x", "/tmp/h/new/x") = 0')
SYNC_DIRECTORY = ("fsync", "4</tmp/h/new>) = 0")
EXIT = ("exit_group", "0) = ?")
MARK = ("openat", 'AT_FDCWD, "/tmp/h/sealed/k", O_WRONLY|O_CREAT, 0600) = 5</tmp/h/sealed/k>')
SYNC_MARKS = ("fsync", "6</tmp/h/sealed>) = 0")
UNLINK = ("unlink", '"/tmp/h/new/x") = 0')
DONE = ("rename", '"/tmp/h/lists/1.list", "/tmp/h/lists/1.done") = 0')
SYNC_LISTS = ("fsync", "7</tmp/h/lists>) = 0")


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
    assert "/tmp/h/new/x" in found(CREATE, WRITE, SYNC, RENAME, EXIT)


def test_a_member_removed_before_its_marker_is_durable() -> None:
    assert "the removal of /tmp/h/new/x" in found(MARK, UNLINK, SYNC_DIRECTORY, SYNC_MARKS)
    assert found(MARK, SYNC_MARKS, UNLINK, SYNC_DIRECTORY) == ""


def test_a_list_marked_done_before_the_removals_are_durable() -> None:
    assert "removals" in found(UNLINK, DONE, SYNC_DIRECTORY)
    assert found(UNLINK, SYNC_DIRECTORY, DONE, SYNC_LISTS, EXIT) == ""


def test_a_failed_fsync_makes_nothing_durable() -> None:
    assert "not durable" in found(CREATE, WRITE, ("fsync", "3</tmp/h/tmp/x>) = -1 EIO"), RENAME)


def test_names_in_an_open_directory_are_followed() -> None:
    make = ("openat", '5</tmp/h/medium/r>, ".b.part", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</tmp/h/medium/r/.b.part>')
    name = ("renameat", '5</tmp/h/medium/r>, ".b.part", 5</tmp/h/medium/r>, "b") = 0')
    assert "/tmp/h/medium/r/b" in found(make, name, EXIT)
    assert found(make, name, ("fsync", "5</tmp/h/medium/r>) = 0"), EXIT) == ""


def test_what_a_killed_process_left_is_not_durable_for_the_next() -> None:
    killed = log(CREATE, WRITE, SYNC, RENAME)
    receipt = ("rename", '"/tmp/h/medium/.a", "/tmp/h/medium/a.ack") = 0')
    look = ("newfstatat", 'AT_FDCWD, "/tmp/h/new/x", {}, 0) = 0')
    both = {}
    for name, calls in {
        "hasty": [look, receipt],
        "patient": [look, SYNC_DIRECTORY, receipt],
        "blind": [receipt],
    }.items():
        both[name] = list(violations([*killed, *(replace(call, pid=2) for call in log(*calls))], HOME))
    assert both == {
        "hasty": ["/tmp/h/medium/a.ack: the name /tmp/h/new/x is not durable yet"],
        "patient": [],
        "blind": [],
    }


GROUP = "/tmp/h/groups/0123456789abcdef01234567"
APPEND = (
    ("openat", f'AT_FDCWD, "{GROUP}", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3<{GROUP}>'),
    ("fsync", "4</tmp/h/groups>) = 0"),
    ("writev", f'3<{GROUP}>, [{{iov_base="x", iov_len=1}}], 1) = 1'),
    ("fsync", f"3<{GROUP}>) = 0"),
)
YES = ("sendto", '6<socket:[1]>, "250 2.0.0 <u@x> kept as 6e"..., 77, 0, NULL, 0) = 77')
POUR = "/tmp/h/groups/pour/12"
DRAIN = (
    ("rename", f'"{GROUP}", "{GROUP}.full") = 0'),
    ("mkdir", f'"{POUR}", 0700) = 0'),
    ("openat", f'7<{POUR}>, "a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 8<{POUR}/a>'),
    ("write", f'8<{POUR}/a>, "x", 1) = 1'),
    ("renameat", f'7<{POUR}>, "a", 9</tmp/h/out/r>, "new/a") = 0'),
    ("syncfs", "10</tmp/h>) = 0"),
    ("unlink", f'"{GROUP}.full") = 0'),
)


def test_a_yes_before_the_group_or_its_name_is_durable() -> None:
    assert found(*APPEND, YES) == ""
    assert "content" in found(*APPEND[:3], YES)
    assert "the name" in found(APPEND[0], *APPEND[2:], YES)


def test_a_group_that_goes_before_its_messages_are_durable() -> None:
    assert found(*APPEND, YES, *DRAIN, ("fsync", "4</tmp/h/groups>) = 0"), EXIT) == ""
    assert "/tmp/h/out/r/new/a" in found(*APPEND, YES, *DRAIN[:-2], DRAIN[-1])


def test_a_message_that_arrives_before_the_ledger_says_so_durably() -> None:
    note = ("pwrite64", '3</tmp/h/site/ledger.db-wal>, "x", 1, 0) = 1')
    deliver = ("rename", '"/tmp/h/mail/tmp/m", "/tmp/h/mail/new/m") = 0')
    assert "ledger.db-wal is not durable" in found(note, deliver)
    assert found(note, ("fdatasync", "3</tmp/h/site/ledger.db-wal>) = 0"), deliver) == ""
