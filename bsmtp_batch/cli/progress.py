"""A bar for each batch that is under way, for people at a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from bsmtp_batch.handover.parcel import Parcel

EVERY = 0.1
"""Seconds between two pictures."""


class Bar:
    """Watches a contact (:class:`~bsmtp_batch.courier.bounds.Watch`): draws on ``console`` which batch of how many is
    under way, its name, octets of their total, rate and time left. When the batch has ended, the bar is gone."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def begin(self, parcel: Parcel, number: int, of: int) -> None:
        """Show an empty bar."""
        self._progress = Progress(
            TextColumn("{task.fields[place]}", markup=False),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=12),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            auto_refresh=False,  # no thread: drawing is done when something has been moved
            transient=True,
            expand=True,
            redirect_stdout=False,  # nothing else is printed while a batch is under way
            redirect_stderr=False,
            get_time=self._clock,
        )
        self._task = self._progress.add_task(parcel.name, total=parcel.size, place=f"{number}/{of}")
        self._progress.start()
        self._shown = self._clock()

    def moved(self, octets: int) -> None:
        """Move the bar; draw it now and then."""
        if self._progress is None or self._task is None:
            return
        self._progress.advance(self._task, octets)
        if self._clock() - self._shown >= EVERY:
            self._progress.refresh()
            self._shown = self._clock()

    def end(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None
