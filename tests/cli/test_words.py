from __future__ import annotations

import pytest

from bsmtp_batch.cli.words import age, count, moment, size, worst


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (34_000, "34 kB"), (999_999, "1.0 MB"), (2_500_000_000, "2.5 GB")],
)
def test_sizes(octets, text):
    assert size(octets) == text


def test_ages_and_moments():
    assert age(None, 0) == "-"
    assert [age(0, s) for s in (5, 119, 600, 10_000, 500_000)] == ["5 s", "119 s", "10 min", "3 h", "6 d"]
    assert age(10, 0) == "0 s"
    assert moment(None) is None
    assert moment(0) == "1970-01-01T00:00:00Z"


def test_counts():
    assert (count(1, "message"), count(2, "message"), count(0, "batch", "batches")) == (
        "1 message",
        "2 messages",
        "0 batches",
    )


def test_what_is_left_for_later_outranks_what_was_set_aside():
    assert worst(0, 65, 75, 64) == 75
    assert worst(0, 65) == 65
    assert worst(75, 78) == 78
    assert worst() == 0
