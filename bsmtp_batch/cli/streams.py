"""Standard output and error that may fail without stopping the work: a log on a full disk, a reader that went away.

Mail is sealed, moved and imported whether or not anybody can be told; that nobody could be is part of the exit code.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class Patient:
    """Stands for the stream ``inner``; after the first ``failure`` nothing more is written to it."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write ``text``, or nothing."""
        try:
            return self._inner.write(text)
        except OSError as error:
            self._fail(error)
            return len(text)

    def flush(self) -> None:
        """Write what was held back."""
        try:
            self._inner.flush()
        except OSError as error:
            self._fail(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _fail(self, error: OSError) -> None:
        self.failure = self.failure or error
        try:  # what the stream still holds must go somewhere when the interpreter ends
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._inner.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass  # a stream of a test, with no descriptor


@contextmanager
def patient() -> Iterator[Patient]:
    """Put patient streams in the place of both; gives the one for standard output."""
    _occupy()
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # it was closed: nothing to read
    before = sys.stdout, sys.stderr
    out, err = (Patient(stream or _nowhere()) for stream in cast("tuple[TextIO | None, TextIO | None]", before))
    sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", (out, err))
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _occupy() -> None:
    """Open what the caller closed: otherwise the next file, a batch perhaps, would be standard output to a child."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
