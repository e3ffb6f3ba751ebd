"""Results beside the database: durable when they are said to be, in the database in the end, never older than it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.errors import Later
from bsmtp_batch.ledger import Ledger, Outcome, Settled, results
from bsmtp_batch.ledger.results import PAGE, SIZE, Full, Results, everything, left_behind, read

BATCH, OTHER = "ab" * 32, "a.b.00000001.20261122T053300Z.hub.example.bsmtp " + "cd" * 32


def done(number, reply="250 ok", recipients=1):
    outcomes = tuple(Outcome(n, b"r\xff@x.example", "delivered", reply, 1) for n in range(recipients))
    return Settled(number, b"s\xe4@x.example", "done", 1, outcomes)


def mark(number):
    return Settled(number, b"s\xe4@x.example", "finishing", 1)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ledger.db")


def states(path, batch=BATCH, **more):
    with Ledger(path, **more) as ledger:
        return {number: fate.state for number, fate in ledger.fates(batch).items()}


def leave(path, steps, *, damage=lambda name: None):
    """A process that makes ``steps`` in a hurry and dies."""
    code = (
        "import os, sys\n"
        "from bsmtp_batch.ledger import Ledger, Settled\n"
        "from tests_of_results import done, mark\n"
        f"with Ledger({path!r}) as l, l.hurried():\n"
        f"    for batch, news in {steps}: l.step(batch, news)\n"
        "    os._exit(9)\n"
    )
    code = code.replace("from tests_of_results import done, mark", source())
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    [name] = [name for name in os.listdir(path + results.DIRECTORY) if name != results.LOCK]
    damage(f"{path}{results.DIRECTORY}/{name}")


def source():
    return (
        "from bsmtp_batch.ledger import Outcome\n"
        "def done(n): return Settled(n, b's', 'done', 1, (Outcome(0, b'r', 'delivered', '250', 1),))\n"
        "def mark(n): return Settled(n, b's', 'finishing', 1)\n"
    )


STEPS = f"[({BATCH!r}, [mark(1)]), ({BATCH!r}, [done(1), mark(2)]), ({BATCH!r}, [done(2), mark(3)])]"


def test_what_a_killed_process_had_made_durable_is_known_to_the_next(path):
    leave(path, STEPS)
    assert states(path) == {1: "done", 2: "done", 3: "finishing"}
    assert os.listdir(path + results.DIRECTORY) == [results.LOCK]


def test_whoever_only_looks_sees_it_and_changes_nothing(path):
    leave(path, STEPS)
    before = sorted(os.listdir(path + results.DIRECTORY))
    assert states(path, read_only=True) == {1: "done", 2: "done", 3: "finishing"}
    assert sorted(os.listdir(path + results.DIRECTORY)) == before


def test_a_ledger_that_was_open_before_knows_it_too(path):
    with Ledger(path) as ledger:
        leave(path, STEPS)
        assert ledger.in_doubt() == [(BATCH, 3)]
        assert ledger.knows(BATCH)


@pytest.mark.parametrize("cut", [PAGE * 2, PAGE * 2 + 10, PAGE * 2 + 60])
def test_a_torn_record_is_none_and_those_before_it_hold(path, cut):
    def damage(name):
        with open(name, "r+b") as file:
            file.seek(cut)
            file.write(b"\0" * 4096)

    leave(path, STEPS, damage=damage)
    assert states(path) == {1: "done", 2: "finishing"}


def test_a_process_that_is_alive_keeps_its_own(path):
    with Ledger(path) as ledger, Ledger(path) as other, ledger.hurried():
        ledger.step(BATCH, [mark(1)])
        assert other.fates(BATCH) == {}
        assert len(everything(path + results.DIRECTORY)) == 1
        assert {n: f.state for n, f in ledger.fates(BATCH).items()} == {1: "finishing"}
        ledger.step(BATCH, [done(1)])
    assert states(path) == {1: "done"}
    assert os.listdir(path + results.DIRECTORY) == [results.LOCK]


def test_everything_else_that_is_asked_or_written_counts_what_came_before(path):
    with Ledger(path) as ledger, ledger.hurried():
        ledger.step(BATCH, [done(1)])
        ledger.note_dsn(BATCH, 1, [0], "sent")
        assert ledger.fates(BATCH)[1].outcomes[0].dsn == "sent"
        ledger.step(BATCH, [done(2)])
        assert ledger.reopen(BATCH, ["delivered"]) == 2
    assert states(path) == {1: "pending", 2: "pending"}


def test_what_was_changed_since_is_not_changed_back(path):
    """The file is emptied, durably, when its records are in the database: read again they would undo what followed."""
    with Ledger(path) as ledger, ledger.hurried():
        ledger.step(BATCH, [done(1)])
        ledger.reopen(BATCH, ["delivered"])
        assert everything(path + results.DIRECTORY) == []
    assert states(path) == {1: "pending"}


def test_more_than_the_file_holds_goes_through_it(path, monkeypatch):
    monkeypatch.setattr(results, "SIZE", 3 * PAGE)
    with Ledger(path) as ledger, ledger.hurried():
        for number in range(1, 30):
            ledger.step(BATCH, [done(number - 1), mark(number)] if number > 1 else [mark(number)])
        ledger.step(OTHER, [done(1, "250 " + "x" * 900, recipients=100)])
    assert states(path) == dict.fromkeys(range(1, 29), "done") | {29: "finishing"}
    with Ledger(path) as ledger:
        assert len(ledger.fates(OTHER)[1].outcomes) == 100


def test_a_record_that_cannot_be_made_durable_goes_to_the_database(path, monkeypatch):
    calls = []

    def failing(fd):
        calls.append(fd)
        raise OSError(5, "Input/output error")

    with Ledger(path) as ledger, ledger.hurried():
        ledger.step(BATCH, [done(1), mark(2)])
        monkeypatch.setattr(os, "fdatasync", failing)
        ledger.step(BATCH, [done(2), mark(3)])
        ledger.step(BATCH, [done(3), mark(4)])
        assert len(calls) == 1, "what failed once is not asked again"
        assert ledger._database.execute("SELECT count(*) FROM message").fetchone() == (4,)
        assert everything(path + results.DIRECTORY) == []
    assert states(path) == {1: "done", 2: "done", 3: "done", 4: "finishing"}


@pytest.mark.parametrize("before", [[], [[mark(1)], [done(1), mark(2)]]])
def test_what_the_database_has_taken_after_both_failed_is_not_undone_by_the_file(path, monkeypatch, before):
    def failing(*_):
        raise OSError(5, "Input/output error")

    with Ledger(path) as ledger:
        with ledger.hurried():
            for news in before:
                ledger.step(BATCH, news)
            with monkeypatch.context() as broken:
                broken.setattr(os, "fdatasync", failing)
                broken.setattr(ledger, "_write", failing)
                with pytest.raises(Later):
                    ledger.step(BATCH, [mark(3)])
            ledger.step(BATCH, [done(2)])
        assert everything(path + results.DIRECTORY) == []
    assert states(path) == ({1: "done", 2: "done"} if before else {2: "done"})


def test_a_database_that_fails_keeps_what_was_durable(path, monkeypatch):
    with Ledger(path) as ledger:
        with pytest.raises(Later), ledger.hurried():
            ledger.step(BATCH, [done(1), mark(2)])
            monkeypatch.setattr(ledger, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            ledger.fates(BATCH)
        monkeypatch.undo()
    assert states(path) == {1: "done", 2: "finishing"}


def test_where_no_file_can_be_made_the_database_serves(path, monkeypatch):
    def refusing(directory):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bsmtp_batch.ledger.store.Results", refusing)
    with Ledger(path) as ledger, ledger.hurried():
        ledger.step(BATCH, [done(1)])
        assert states(path) == {1: "done"}


def test_two_that_recover_at_once_both_know_it(path):
    leave(path, STEPS)
    code = (
        "import sys; from bsmtp_batch.ledger import Ledger\n"
        f"with Ledger({path!r}) as l: print(sorted(f.state for f in l.fates({BATCH!r}).values()))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {child.communicate()[0] for child in children} == {"['done', 'done', 'finishing']\n"}


def test_an_interrupted_recovery_leaves_it_for_the_next(path):
    leave(path, STEPS)
    with pytest.raises(RuntimeError), left_behind(path + results.DIRECTORY) as found:
        assert len(found) == 5
        raise RuntimeError
    assert states(path) == {1: "done", 2: "done", 3: "finishing"}


SETTLED = st.builds(
    Settled,
    st.integers(1, 9),
    st.binary(max_size=9),
    st.sampled_from(["pending", "finishing", "done"]),
    st.integers(0, 3),
    st.lists(
        st.builds(
            Outcome, st.integers(0, 3), st.binary(max_size=9), st.just("delivered"), st.text(max_size=9), st.just(1)
        ),
        max_size=2,
    ).map(tuple),
)
STORED = st.lists(st.tuples(st.sampled_from([BATCH, OTHER]), SETTLED), min_size=1, max_size=6)


@given(st.lists(STORED, max_size=4), st.integers(0, SIZE), st.binary(max_size=40))
def test_what_is_read_is_a_beginning_of_what_was_written(tmp_path_factory, records, at, rubbish):
    directory = str(tmp_path_factory.mktemp("r") / "ledger.db-results")
    mine = Results(directory)
    for record in records:
        mine.append(record)
    used, whole = mine._at, read(mine._fd)
    sort = lambda news: sorted(news, key=lambda one: one[0])  # noqa: E731 - a record keeps the order within a batch
    assert sort(whole) == sort([one for record in records for one in record])
    at = at % used if used else 0
    os.pwrite(mine._fd, rubbish, at)
    damaged = read(mine._fd)
    assert damaged == whole[: len(damaged)]
    mine.clear()
    assert read(mine._fd) == []
    mine.append([(BATCH, mark(1))])
    assert read(mine._fd) == [(BATCH, mark(1))], "an older record behind it is not read"
    mine.close(remove=True)


@pytest.mark.parametrize("size", range(1, 20))
def test_a_head_that_was_torn_is_no_record(tmp_path, size):
    """Behind its first octets stand the zeros from before, and they are the check of a record without content."""
    mine = Results(str(tmp_path / "ledger.db-results"))
    mine.append([(BATCH, mark(1))])
    head = os.pread(mine._fd, size, 0)
    mine.clear()
    os.pwrite(mine._fd, head, 0)
    assert read(mine._fd) == []
    mine.close(remove=True)


def test_a_record_that_is_too_large_is_told(tmp_path):
    mine = Results(str(tmp_path / "ledger.db-results"))
    with pytest.raises(Full):
        mine.append([(BATCH, done(1, "x" * SIZE))])
    mine.close(remove=True)
