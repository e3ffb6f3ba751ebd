"""What a row of the benchmark is: programs that take turns, what is measured of each, and what it is held to."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.place import Place

Sample = dict[str, float]
"""One run of one program: what was measured, by name."""
Variants = dict[str, "Callable[[], Sample] | Missing"]
"""The programs of a row in the order of their turns; in place of one that cannot be had, why."""


class Missing(Exception):
    """A peer, or what a row needs, is not on this machine and could not be fetched; the text says why."""


@dataclass(frozen=True)
class Goal:
    """``measure`` of the program ``ours`` is held to ``limit`` times that of ``base``, or to ``limit`` units."""

    ours: str
    measure: str
    limit: float
    base: str = ""
    most: bool = False
    unit: str = "x"

    @property
    def text(self) -> str:
        """The goal as the table shows it."""
        word = "at most" if self.most else "at least"
        return f"{word} {self.limit:g} {f'x {self.base}' if self.base else self.unit}"

    def met(self, value: float) -> bool:
        """Whether ``value`` is at the limit or beyond it, as it is shown."""
        return round(value, 2) <= self.limit if self.most else round(value, 2) >= self.limit


@dataclass(frozen=True)
class Row:
    """One comparison. ``variants`` sets it up in a place of its own and gives what takes turns, ``rounds`` times.

    The first round is thrown away where ``warm``; ``what`` says for the table what is measured.
    """

    key: str
    title: str
    what: str
    variants: Callable[[Place], AbstractContextManager[Variants]]
    goals: tuple[Goal, ...]
    rounds: int = 5
    warm: bool = True


@dataclass
class Judged:
    """A goal and what came of it; ``value`` is None where it was not measured, and ``why`` says so."""

    title: str
    goal: Goal
    value: float | None = None
    why: str = ""

    @property
    def good(self) -> bool:
        return self.value is not None and self.goal.met(self.value)


@dataclass
class Measured:
    """What the rounds of a row gave: the samples of each program, and the reasons why there are none."""

    row: Row
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def median(self, variant: str, measure: str) -> float:
        """The median of one figure over all rounds."""
        return statistics.median(sample[measure] for sample in self.samples[variant])

    def judge(self) -> list[Judged]:
        """Each goal of the row with what was measured."""
        return [self._judge(goal) for goal in self.row.goals]

    def _judge(self, goal: Goal) -> Judged:
        judged = Judged(self.row.title, goal)
        for name in (goal.ours, goal.base):
            if name and not self.samples.get(name):
                judged.why = self.missing.get(name) or self.missing.get("", "not measured")
                return judged
        ours = [sample[goal.measure] for sample in self.samples[goal.ours]]
        if goal.base:
            base = [sample[goal.measure] for sample in self.samples[goal.base]]
            judged.value = statistics.median(a / b for a, b in zip(ours, base, strict=False))
        else:
            judged.value = statistics.median(ours)
        return judged


def measure(row: Row, place: Place, *, rounds: int) -> Measured:
    """Run ``row``: every program once per round, in turn."""
    measured = Measured(row)
    try:
        with row.variants(place) as variants:
            for name, run in variants.items():
                if isinstance(run, Missing):
                    measured.missing[name] = str(run)
            for number in range(-1 if row.warm and rounds > 1 else 0, rounds):
                for name, run in variants.items():
                    if isinstance(run, Missing):
                        continue
                    sample = run()
                    if number >= 0:
                        measured.samples.setdefault(name, []).append(sample)
    except Missing as why:
        measured.missing[""] = str(why)
    return measured
