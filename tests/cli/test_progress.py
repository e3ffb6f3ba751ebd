"""The bar: it may say nothing that is not so, and must be gone before the next line."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from bsmtp_batch.cli import moving
from bsmtp_batch.cli.progress import Bar
from bsmtp_batch.courier.bounds import UNWATCHED

BATCH = SimpleNamespace(name="example.org.00000001.20261122T053300Z.hub.bsmtp", size=50_000_000)


class Screen:
    """A terminal of so many columns, and the pictures that were drawn on it."""

    def __init__(self, width):
        self.now = 0.0
        self.file = io.StringIO()
        self.bar = Bar(Console(force_terminal=True, file=self.file, width=width), clock=lambda: self.now)

    def pictures(self):
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue())
        return [line.rstrip() for line in plain.replace("\r", "\n").splitlines() if line.strip()]


def test_it_shows_which_batch_how_much_of_it_how_fast_and_how_long_still():
    screen = Screen(120)

    screen.bar.begin(BATCH, 2, 5)
    for _ in range(4):
        screen.now += 1
        screen.bar.moved(5_000_000)
    screen.bar.end()

    last = screen.pictures()[-1]
    assert last.startswith(f"2/5 {BATCH.name} ")
    assert last.endswith("20.0/50.0 MB 5.0 MB/s 00:06")


def test_it_is_taken_away_and_the_next_one_starts_anew():
    screen = Screen(100)

    screen.bar.begin(BATCH, 1, 2)
    screen.now += 1
    screen.bar.moved(BATCH.size)
    screen.bar.end()
    first = screen.file.getvalue()
    screen.bar.begin(SimpleNamespace(name="b", size=10), 2, 2)
    screen.bar.end()

    assert first.endswith("\x1b[2K"), "the line is empty again"
    assert "2/2 b" in screen.pictures()[-1]
    assert "0/10 bytes" in screen.pictures()[-1]


def test_a_narrow_terminal_gets_one_short_line():
    screen = Screen(80)

    screen.bar.begin(BATCH, 2, 5)
    screen.now += 1
    screen.bar.moved(5_000_000)
    screen.bar.end()

    assert {len(line) for line in screen.pictures()} == {80}


def test_it_draws_now_and_then_and_not_for_every_octet():
    screen = Screen(100)
    screen.bar.begin(BATCH, 1, 1)
    before = len(screen.pictures())

    for _ in range(1000):
        screen.bar.moved(1)

    assert len(screen.pictures()) == before


def test_what_a_batch_is_called_is_no_markup():
    screen = Screen(100)

    screen.bar.begin(SimpleNamespace(name="[red]x[/red]", size=0), 1, 1)
    screen.bar.moved(0)
    screen.bar.end()

    assert "[red]x[/red]" in screen.pictures()[-1]


def test_octets_after_the_end_are_no_failure():
    screen = Screen(100)

    screen.bar.moved(5)
    screen.bar.end()

    assert screen.pictures() == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "json", "bar"), [(Terminal, False, True), (Terminal, True, False)])
def test_a_bar_is_for_people_at_a_terminal_and_for_nobody_else(monkeypatch, stream, json, bar):
    monkeypatch.setattr(sys, "stderr", stream())

    assert isinstance(moving.watching(json=json), Bar) == bar


def test_a_log_gets_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    assert moving.watching(json=False) is UNWATCHED
