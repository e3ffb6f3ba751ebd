"""The ledger: what it remembers survives, and a ledger that cannot be used never costs a message."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bsmtp_batch.errors import Later, Setting
from bsmtp_batch.ledger import Ledger, Outcome, Settled, schema

SHA = "ab" * 32
OTHER = "cd" * 32


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ledger.db")


@pytest.fixture
def ledger(path):
    with Ledger(path) as opened:
        yield opened


def outcome(recipient=0, result="delivered", **more):
    return Outcome(recipient, b"r@x.example", result, more.pop("reply", "250 ok"), more.pop("attempt", 1), **more)


def settle(ledger, message, state, *outcomes, batch=SHA, attempts=1):
    ledger.step(batch, [Settled(message, b"s@x.example", state, attempts, outcomes)])


def test_a_mark_before_the_dot_is_there_for_the_next_process(path):
    with Ledger(path) as first:
        settle(first, 7, "finishing")

    with Ledger(path) as second:
        assert second.in_doubt() == [(SHA, 7)]
        assert second.fates(SHA)[7].state == "finishing"


def test_a_process_that_ends_without_closing_loses_no_committed_outcome(path):
    code = (
        "import os, sys; from bsmtp_batch.ledger import *; l = Ledger(sys.argv[1]);"
        "l.step('ab'*32, [Settled(1, b's', 'done', 1, (Outcome(0, b'r', 'delivered', '250', 1),))]); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9

    with Ledger(path) as after:
        assert after.fates(SHA)[1].outcomes[0].outcome == "delivered"


def test_outcomes_of_one_message_and_the_mark_of_the_next_are_one_step(ledger):
    settle(ledger, 1, "finishing")

    ledger.step(
        SHA,
        [Settled(1, b"s", "done", 1, (outcome(), outcome(1, "bounced", dsn="due"))), Settled(2, b"", "finishing", 1)],
    )

    fates = ledger.fates(SHA)
    assert fates[1].outcomes == {0: outcome(), 1: outcome(1, "bounced", dsn="due")}
    assert (fates[1].state, fates[2].state) == ("done", "finishing")


def test_a_step_that_fails_half_way_leaves_nothing_of_itself(ledger):
    def news():
        yield Settled(1, b"s", "done", 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.step(SHA, news())

    assert ledger.fates(SHA) == {}


def test_a_later_outcome_replaces_the_deferral(ledger):
    settle(ledger, 1, "pending", outcome(0, "deferred"))
    settle(ledger, 1, "done", outcome(0, attempt=2), attempts=2)

    fate = ledger.fates(SHA)[1]
    assert (fate.attempts, fate.outcomes[0].outcome, fate.outcomes[0].attempt) == (2, "delivered", 2)


def test_reopen_takes_up_only_what_was_asked_for(ledger):
    settle(ledger, 1, "done", outcome(0), outcome(1, "bounced"))
    settle(ledger, 2, "done", outcome(0))
    settle(ledger, 1, "done", outcome(0, "bounced"), batch=OTHER)

    assert ledger.reopen(SHA, ["bounced", "quarantined"]) == 1

    fates = ledger.fates(SHA)
    assert (fates[1].state, fates[2].state) == ("pending", "done")
    assert set(fates[1].outcomes) == {0}
    assert ledger.fates(OTHER)[1].state == "done"


def test_a_notice_once_sent_is_not_owed_again(ledger):
    settle(ledger, 1, "done", outcome(0, "bounced", dsn="due"), outcome(1, "bounced", dsn="due"))

    ledger.note_dsn(SHA, 1, [0], "sent")

    assert [o.dsn for o in ledger.fates(SHA)[1].outcomes.values()] == ["sent", "due"]


def test_what_was_set_aside_is_listed_with_its_reason(ledger):
    settle(
        ledger, 3, "done", outcome(0), outcome(1, "quarantined", reply="not local"), outcome(2, "bounced", dsn="kept")
    )

    assert [(s.message, s.reply) for s in ledger.set_aside()] == [(3, "not local"), (3, "250 ok")]


def test_the_last_contact_of_each_peer_and_direction_is_told(ledger):
    ledger.record_contact("stick", "push", 1.0, 2.0, 1, 10, "ok")
    ledger.record_contact("stick", "push", 3.0, 4.0, 0, 0, "not mounted")
    ledger.record_contact("stick", "pull", 1.5, 2.5, 2, 20, "ok")

    assert [(c.direction, c.ended, c.result) for c in ledger.last_contacts()] == [
        ("pull", 2.5, "ok"),
        ("push", 4.0, "not mounted"),
    ]


def test_a_batch_is_one_row_however_often_it_is_noted(ledger):
    for state in ("ready", "kept"):
        ledger.note_batch("out", "site.example", "n.bsmtp", 1, SHA, 2, 3, 99, state)
    ledger.note_batch("in", "hub", "n.bsmtp", 1, OTHER, 2, 3, 99, "bad", "cut off")

    assert [b.state for b in ledger.batches(direction="out")] == ["kept"]
    assert [b.reason for b in ledger.batches(party="hub", state="bad")] == ["cut off"]


def test_forgetting_spares_what_is_not_finished(path):
    clock = [100.0]
    with Ledger(path, now=lambda: clock[0]) as ledger:
        settle(ledger, 1, "done", outcome())
        settle(ledger, 1, "done", outcome(), batch=OTHER)
        settle(ledger, 2, "pending", outcome(0, "deferred"), batch=OTHER)
        settle(ledger, 1, "done", outcome(0, "bounced", dsn="due"), batch="ef" * 32)
        for sha in (SHA, OTHER):
            ledger.note_batch("in", "hub", sha[:4], 1, sha, 2, 2, 9, "done")
        ledger.record_contact("hub", "pull", 1.0, 50.0, 0, 0, "ok")

        assert ledger.forget(100.0) == 1  # the contact alone is older
        assert ledger.forget(101.0) == 3

        assert ledger.fates(SHA) == {}
        assert set(ledger.fates(OTHER)) == {1, 2}
        assert ledger.fates("ef" * 32)
        assert [b.sha256 for b in ledger.batches()] == [OTHER]


def test_a_corrupt_ledger_is_for_later_and_stays_untouched(path):
    before = b"this was a database once" * 100
    Path(path).write_bytes(before)

    with pytest.raises(Later, match="cannot be used"):
        Ledger(path)

    assert Path(path).read_bytes() == before


def test_a_ledger_damaged_while_in_use_is_for_later(path):
    with Ledger(path) as ledger:
        ledger._database.execute("DROP TABLE recipient")

        with pytest.raises(Later) as caught:
            settle(ledger, 1, "done", outcome())

        assert caught.value.code == 75


def test_a_directory_that_cannot_be_written_is_for_later(tmp_path):
    with pytest.raises(Later):
        Ledger(str(tmp_path / "missing" / "ledger.db"))


def test_a_ledger_of_a_newer_program_is_not_touched(path):
    Ledger(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    database.close()

    with pytest.raises(Setting, match="newer"):
        Ledger(path)


def test_an_empty_file_left_by_a_crash_becomes_a_ledger(path):
    Path(path).touch()

    with Ledger(path) as ledger:
        assert ledger.batches() == []


def test_the_ledger_is_readable_by_its_owner_only(path):
    previous = os.umask(0)
    try:
        with Ledger(path) as ledger:
            settle(ledger, 1, "finishing")
            for name in (path, path + "-wal"):
                assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    finally:
        os.umask(previous)


def test_every_version_is_recorded_with_its_day(path):
    Ledger(path).close()

    database = sqlite3.connect(path)
    assert [v for (v,) in database.execute("SELECT version FROM migration")] == list(range(1, schema.VERSION + 1))
    database.close()


def test_reading_only_makes_no_file(path):
    with Ledger(path, read_only=True) as ledger:
        assert ledger.last_contacts() == []

    assert not os.path.exists(path)


def test_reading_only_refuses_to_write(path):
    Ledger(path).close()

    with Ledger(path, read_only=True) as ledger, pytest.raises(Later):
        settle(ledger, 1, "done")


def test_reading_only_understands_an_older_ledger_without_changing_it(path):
    sqlite3.connect(path).close()

    with Ledger(path, read_only=True) as ledger:
        assert ledger.batches() == []

    assert os.path.getsize(path) == 0


def test_two_processes_at_once_wait_for_each_other(path):
    code = (
        "import sys; from bsmtp_batch.ledger import *\n"
        "with Ledger(sys.argv[1]) as l:\n"
        "    for n in range(40): l.step(sys.argv[2], [Settled(n, b's', 'done', 1)])\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, path, sha]) for sha in (SHA, OTHER)]

    assert [child.wait() for child in children] == [0, 0]
    with Ledger(path) as ledger:
        assert len(ledger.fates(SHA)) == len(ledger.fates(OTHER)) == 40


def test_commits_survive_a_power_cut(ledger):
    assert ledger._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_batch_that_was_left_half_imported_is_not_forgotten_however_long_the_target_is_away(path):
    """Messages that were never begun have no row: those that have one may all be done, and the batch is not."""
    clock = [100.0]
    with Ledger(path, now=lambda: clock[0]) as ledger:
        for sha, state in ((SHA, "work"), (OTHER, "new"), ("ef" * 32, None)):
            settle(ledger, 1, "done", outcome(), batch=sha)
            if state:
                ledger.note_batch("in", "hub", sha[:4], 1, sha, 2, 2, 9, state)

        ledger.forget(1e9)

        assert ledger.fates(SHA)
        assert ledger.fates(OTHER)
        assert ledger.fates("ef" * 32)
