from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.spool.sequences import Sequences


def seen(*numbers):
    found = Sequences()
    return found, [found.see("hub", "r.example", n) for n in numbers]


def test_numbers_in_order_are_no_news():
    found, remarks = seen(1, 2, 3)

    assert remarks == ["", "", ""]
    assert found.missing() == []


def test_a_gap_is_told_once_and_filled_later():
    found, remarks = seen(1, 4)
    assert "2 to 3" in remarks[1]
    assert "2 to 3" in found.missing()[0]

    assert "fills a gap" in found.see("hub", "r.example", 3)
    assert found.missing() == ["r.example from hub: 2 did not come"]
    found.see("hub", "r.example", 2)
    assert found.missing() == []


def test_a_number_that_comes_twice_is_a_replay():
    assert "replay" in seen(1, 2, 3, 2)[1][3]


def test_every_order_of_five_ends_without_a_gap_or_a_replay():
    for order in permutations(range(1, 6)):
        found, remarks = seen(*order)
        assert found.missing() == [], order
        assert not any("replay" in r for r in remarks), order


def test_routes_and_nodes_are_counted_apart():
    found, _ = seen(1)

    assert found.see("hub", "other.example", 7) == ""
    assert found.see("hub2", "r.example", 7) == ""


@given(st.lists(st.integers(1, 50), unique=True, min_size=1))
def test_what_is_missing_is_exactly_what_did_not_come(numbers):
    found, _ = seen(*numbers)
    again = Sequences.from_bytes(found.to_bytes())
    assert again.missing() == found.missing()

    for n in sorted(set(range(min(numbers), max(numbers))) - set(numbers)):
        assert "fills" in again.see("hub", "r.example", n)
    assert again.missing() == []


@given(st.binary())
def test_a_damaged_file_costs_only_what_was_noticed(data):
    Sequences.from_bytes(data).see("hub", "r.example", 3)


def test_a_number_that_was_not_made_behind_the_one_before_it_breaks_the_chain():
    found = Sequences()
    assert found.see("hub", "r.example", 1, digest="a" * 64) == ""
    again = Sequences.from_bytes(found.to_bytes())

    assert again.see("hub", "r.example", 2, digest="b" * 64, previous="a" * 64) == ""
    assert "chain: 3" in again.see("hub", "r.example", 3, digest="c" * 64, previous="f" * 64)
    assert again.see("hub", "r.example", 4, digest="d" * 64, previous="c" * 64) == "", "told once"


def test_a_chain_is_followed_over_no_gap():
    found = Sequences()
    found.see("hub", "r.example", 1, digest="a" * 64)

    assert "gap" in found.see("hub", "r.example", 3, digest="c" * 64, previous="b" * 64)
    assert "late" in found.see("hub", "r.example", 2, digest="b" * 64, previous="0" * 64)
    assert found.see("hub", "r.example", 4, digest="d" * 64, previous="c" * 64) == ""


def test_a_file_of_an_earlier_version_has_no_digests():
    found = Sequences.from_bytes(b"hub r.example 1 3 2-2\n")

    assert found.missing() == ["r.example from hub: 2 did not come"]
    assert found.see("hub", "r.example", 4, digest="d" * 64, previous="c" * 64) == ""
    assert "chain" in found.see("hub", "r.example", 5, digest="e" * 64, previous="c" * 64)


def test_only_what_no_later_batch_puts_right_is_remembered_and_not_for_ever():
    found = Sequences()
    for number in range(20):
        found.remember(f"replay: number {number}", "then")
        found.remember("gap: 1", "then")
        found.remember("", "then")

    assert Sequences.from_bytes(found.to_bytes()).remarks == [f"then replay: number {n}" for n in range(12, 20)]


def test_a_flood_of_names_does_not_wipe_what_was_noticed_before(tmp_path, monkeypatch):
    """Whoever brings the batches chooses the nodes and routes in them, and a replay would be told of no more."""
    from bsmtp_batch.spool import inbox as module

    monkeypatch.setattr(module, "_SEQUENCES_CAP", 400)
    inbox = module.Inbox(str(tmp_path), "hub")
    inbox.make()
    for number in (1, 1, 5):
        inbox.see("hub", "site.example", number)
    known = inbox.sequences()

    remarks = [inbox.see(f"n{number}", "site.example", 1) for number in range(100)]

    assert remarks[0] == ""
    assert remarks[-1].startswith("crowd: 1 of site.example from n99 is not kept in mind")
    found = inbox.sequences()
    assert found.missing() == known.missing() != []
    assert found.remarks == known.remarks != []
    assert inbox.see("hub", "site.example", 2).startswith("late")
