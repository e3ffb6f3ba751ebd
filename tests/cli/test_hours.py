"""The window of a contact: one that is an hour off blocks the line it was to keep free."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.cli.hours import closes

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True, scope="module")
def berlin():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "end"),
    [
        ("02:00-05:00", "2026-11-22T02:00:00", "2026-11-22T05:00:00"),
        ("02:00-05:00", "2026-11-22T04:59:59", "2026-11-22T05:00:00"),
        ("02:00-05:00", "2026-11-22T05:00:00", None),
        ("02:00-05:00", "2026-11-22T01:59:59", None),
        ("22:30-06:00", "2026-11-22T22:30:00", "2026-11-23T06:00:00"),
        ("22:30-06:00", "2026-11-22T23:59:59", "2026-11-23T06:00:00"),
        ("22:30-06:00", "2026-11-23T00:00:00", "2026-11-23T06:00:00"),
        ("22:30-06:00", "2026-11-23T06:00:00", None),
        ("22:30-06:00", "2026-11-22T12:00:00", None),
        ("22:30-00:00", "2026-11-30T23:00:00", "2026-12-01T00:00:00"),
        ("12:01-12:00", "2026-11-22T12:00:30", None),
        ("23:00-04:00", "2026-10-24T23:30:00", "2026-10-25T04:00:00"),  # the clock goes back: an hour longer
        ("23:00-04:00", "2026-03-28T23:30:00", "2026-03-29T04:00:00"),  # and forward: an hour shorter
        ("01:00-01:30", "2026-12-31T01:15:00", "2026-12-31T01:30:00"),
    ],
)
def test_a_window_is_open_from_its_first_minute_to_its_last(window, now, end):
    assert closes(window, at(now)) == (None if end is None else at(end))


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(1_780_000_000, 1_780_000_000 + 30 * 86_400))
def test_it_agrees_with_the_clock_on_the_wall_on_days_of_24_hours(begin, end, now):
    if begin == end:
        return
    window = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    wall = datetime.fromtimestamp(now, BERLIN)
    minute = wall.hour * 60 + wall.minute
    inside = begin <= minute < end if begin < end else not end <= minute < begin

    found = closes(window, now)

    assert (found is not None) == inside
    if found is not None:
        assert 0 < found - now <= 86_400
        last = datetime.fromtimestamp(found, BERLIN)
        assert last.hour * 60 + last.minute == end
