"""Output for people and for programs, without the library that reads command lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from bsmtp_batch.edge.log import printable


def print_json(rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line to standard output, in order, each as soon as it is known.

    Text stays readable; what a terminal might act on, and what no encoding has (octets of a file name that are no
    text), is written as JSON's own escapes.
    """
    for row in rows:
        line = json.dumps(row, ensure_ascii=False)
        if not line.isprintable():
            line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def complain(line: str) -> None:
    """Write one line (a help text: several) to standard error; whatever is in it cannot move a terminal's cursor."""
    sys.stderr.write("\n".join(map(printable, line.split("\n"))) + "\n")
