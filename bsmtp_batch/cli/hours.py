"""Time windows of contacts, in local time."""

from __future__ import annotations

import time


def closes(window: str, now: float) -> float | None:
    """When ``window`` (``"02:00-05:00"``; it may go over midnight) ends that holds ``now``; None when none does.

    Both in seconds since 1970. On the day on which the clock is set, the window is as long as that day makes it.
    """
    begin, end = (_minutes(text) for text in window.split("-"))
    for day in (-1, 0):  # a window of yesterday may still be open
        opened = _moment(now, day, begin)
        closed = _moment(now, day + (end <= begin), end)
        if opened <= now < closed:
            return closed
    return None


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _moment(now: float, days: int, minutes: int) -> float:
    """What the clock on the wall calls so many minutes after midnight, so many days after the one of ``now``."""
    date = time.localtime(now)
    return time.mktime((date.tm_year, date.tm_mon, date.tm_mday + days, minutes // 60, minutes % 60, 0, 0, 0, -1))
