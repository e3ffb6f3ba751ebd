"""What the demonstration puts on the screen: the progress bar, the tables and the quotations.

On a terminal there is colour and a bar that moves; into a pipe or a file goes plain text without a control character,
at most 80 columns wide but for the commands at the end, which must stay whole to be copied.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bsmtp_batch.cli.common import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

WIDTH = 80


class Screen:
    """One demonstration on one output. Used as a context manager: the bar stands below what is printed inside."""

    def __init__(self, steps: int, *, file: TextIO | None = None, quiet: bool = False) -> None:
        out = file or sys.stdout
        terminal = out.isatty()
        self._console = Console(
            file=out,
            width=None if terminal else WIDTH,
            force_terminal=terminal,  # whatever FORCE_COLOR says: a file gets no control characters
            highlight=False,
            quiet=quiet,
        )
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # the stages run inside have theirs read
            redirect_stderr=False,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=steps)

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def doing(self, what: str) -> None:
        """Name beside the bar what goes on now."""
        self._bar.update(self._task, description=f"{what:<24.24}")

    def advance(self) -> None:
        """One step of the bar."""
        self._bar.advance(self._task)

    def step(self, verb: str, text: str) -> None:
        """One line of the story: the stage and what it did."""
        self._console.print(f" [bold]{escape(verb):<8}[/bold] {escape(text)}", soft_wrap=True)

    def heading(self, text: str) -> None:
        """A line that opens a part, after an empty one."""
        self._console.print(f"\n[bold]{escape(text)}[/bold]", soft_wrap=True)

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[str]], *, numbers: Iterable[str] = ()) -> None:
        """A table; the columns named in ``numbers`` stand flush right."""
        right = set(numbers)
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        for name in columns:
            drawn.add_column(name, justify="right" if name in right else "left", no_wrap=True)
        for row in rows:
            drawn.add_row(*(escape(printable(cell)) for cell in row))
        self._console.print(drawn)

    def quotation(self, lines: Iterable[bytes]) -> None:
        """Lines of a file as they are, cut at the width, with anything but text made visible."""
        room = min(self._console.width, 100) - 4
        for line in lines:
            shown = printable(line)
            if len(shown) > room:
                shown = shown[: room - 4] + " ..."
            self._console.print(f"  | {escape(shown)}".rstrip(), soft_wrap=True)

    def verdict(self, text: str, *, good: bool) -> None:
        """The sentence everything was about."""
        colour = "green" if good else "red"
        self._console.print(f"\n[bold {colour}]{escape(text)}[/bold {colour}]")

    def command(self, why: str, line: str) -> None:
        """A command to copy, and what it shows."""
        self._console.print(f"  # {escape(why)}\n  {escape(line)}", soft_wrap=True)


def size(octets: int) -> str:
    """``octets`` with thousands set apart."""
    return f"{octets:,}"
