"""Which batch is which: nothing is skipped because something else has the same octets, and nothing comes twice."""

from __future__ import annotations

import hashlib

import pytest
from support.importing import arrive, batch, ledger, letters, manifest, run
from support.sink import DROP, EndOfData, Sink

from bsmtp_batch.ledger import Outcome, Settled
from bsmtp_batch.ledger.rows import DONE, PENDING

MAIL = letters(3)
SHA = hashlib.sha256(batch(MAIL)).hexdigest()


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def bare(tmp_path):
    path = tmp_path / "copy.bsmtp"
    path.write_bytes(batch(MAIL))
    return path


def known_by_its_sum(spool, messages, *, state, name):
    """What a version that knew batches by their sums alone left behind."""
    spool.mkdir(exist_ok=True)
    with ledger(spool) as book:
        delivered = (Outcome(0, b"c@site.example", "delivered", "250 ok", 1),)
        book.step(SHA, [Settled(number, b"a@hub.example", DONE, 1, delivered) for number in messages])
        book.note_batch("in", "hub.example", name, 1, SHA, 3, 3, 100, state)


def name_of(sequence):
    return manifest(batch(MAIL), MAIL, sequence=sequence).name


def test_two_batches_with_the_same_octets_are_both_delivered(spool):
    arrive(spool, MAIL, sequence=1)
    arrive(spool, MAIL, sequence=2)
    with Sink() as sink:
        first = run(spool, sink.url)
    assert first.outcomes == ["delivered"] * 6
    assert len(sink.taken) == 6


def test_two_batches_with_the_same_octets_are_both_in_a_maildir(spool, tmp_path):
    arrive(spool, MAIL, sequence=1)
    arrive(spool, MAIL, sequence=2)
    run(spool, f"maildir:{tmp_path}/M")
    assert len(list((tmp_path / "M" / "new").iterdir())) == 6


def test_the_same_batch_brought_again_is_skipped(spool):
    with Sink() as sink:
        for outcome in ("delivered", "skipped", "skipped"):
            arrive(spool, MAIL)
            assert run(spool, sink.url).outcomes == [outcome] * 3
    assert len(sink.taken) == 3


def test_a_bare_copy_of_a_batch_that_arrived_is_skipped(spool, bare):
    arrive(spool, MAIL)
    with Sink() as sink:
        run(spool, sink.url)
        assert run(spool, sink.url, bare).outcomes == ["skipped"] * 3
    assert len(sink.taken) == 3


def test_a_bare_file_is_known_by_its_octets_whatever_it_is_called(spool, bare):
    with Sink() as sink:
        run(spool, sink.url, bare)
        other = bare.rename(bare.with_name("other.bsmtp"))
        assert run(spool, sink.url, other).outcomes == ["skipped"] * 3
    assert len(sink.taken) == 3


def test_an_interrupted_batch_goes_on_where_it_was_and_its_double_begins_anew(spool):
    arrive(spool, MAIL, sequence=1)
    arrive(spool, MAIL, sequence=2)
    lost = [False]

    def answer(asked):
        if isinstance(asked.request, EndOfData) and asked.messages == 2 and not lost[0]:
            lost[0] = True
            return DROP
        return None

    with Sink(answer) as sink:
        run(spool, sink.url)
        run(spool, sink.url)
    texts = [one.content for one in sink.taken]
    assert [texts.count(one.content) for one in MAIL] == [2, 3, 2]


def test_a_batch_that_an_older_version_has_imported_is_skipped_and_its_double_is_not(spool):
    known_by_its_sum(spool, (1, 2, 3), state="done", name=name_of(1))
    with Sink() as sink:
        arrive(spool, MAIL, sequence=1)
        assert run(spool, sink.url).outcomes == ["skipped"] * 3
        arrive(spool, MAIL, sequence=2)
        assert run(spool, sink.url).outcomes == ["delivered"] * 3
        arrive(spool, MAIL, sequence=2)
        assert run(spool, sink.url).outcomes == ["skipped"] * 3


@pytest.mark.parametrize("state", ["work", "new"])
def test_a_batch_that_an_older_version_was_stopped_in_goes_on(spool, state):
    known_by_its_sum(spool, (1,), state=state, name=name_of(1))
    arrive(spool, MAIL, sequence=1)
    with Sink() as sink:
        assert run(spool, sink.url).outcomes == ["skipped", "delivered", "delivered"]
    assert len(sink.taken) == 2


def test_what_is_forgotten_is_forgotten_whatever_it_was_known_by(spool):
    known_by_its_sum(spool, (1, 2, 3), state="done", name=name_of(1))
    with Sink() as sink:
        for sequence in (2, 3):
            arrive(spool, MAIL, sequence=sequence)
        run(spool, sink.url)
    with ledger(spool) as book:
        book.step("open.bsmtp " + SHA, [Settled(1, b"a@hub.example", PENDING, 1)])
        assert book.forget(book._now() + 10) == 3 * 6 + 3
        assert not book.knows(SHA)
        assert not book.knows(f"{name_of(2)} {SHA}")
        assert book.knows("open.bsmtp " + SHA)
