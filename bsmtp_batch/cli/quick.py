"""``import`` without the library that reads command lines, and what that loads: it takes a third of the memory that an
import of any size gets by with, and more time than a thousand messages.

Whatever is unusual about the arguments is left to that library, which then says what is wrong with them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from bsmtp_batch.cli.exits import heard, told
from bsmtp_batch.cli.importing import MOST, Wishes, carry_out

WORDS = {"--to": "to", "--force": "force", "--config": "config", "--spool": "spool"}
"""Options with a value, and the names of these among the :class:`Wishes`."""
FLAGS = {"--yes": "yes", "--salvage": "salvage", "--dry-run": "dry_run", "--json": "json"}
ENVIRONMENT = {"config": "BSMTP_BATCH_CONFIG", "spool": "BSMTP_BATCH_SPOOL"}
"""What stands for an option that is not given."""


def import_(arguments: list[str]) -> int | None:
    """Carry out ``import`` with ``arguments`` and return its exit code; None where the ordinary way has to be taken."""
    wishes = understood(arguments)
    return None if wishes is None else heard(lambda: _carried_out(wishes))


def _carried_out(wishes: Wishes) -> int:
    try:
        return carry_out(wishes)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - as in app.py, everything becomes an exit code
        return told(error)


def understood(arguments: list[str]) -> Wishes | None:
    """What ``arguments`` ask for; None for anything but files and options that are known."""
    words, files, domains = list(arguments), [], []
    values: dict[str, Any] = {name: os.environ.get(variable) or None for name, variable in ENVIRONMENT.items()}
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "-" or not word.startswith("-"):
            files.append(word)
            continue
        if word in FLAGS:
            values[FLAGS[word]] = True
            continue
        if not equals:
            value = words.pop(0) if words else "-"
        if value.startswith("-"):
            return None
        if name == "--local-domain":
            domains.append(value)
        elif name == "--connections" and value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= MOST:
            values["connections"] = int(value[:9])
        elif name in WORDS:
            values[WORDS[name]] = value
        else:
            return None
    return replace(Wishes(**values), files=tuple(files), local_domain=tuple(domains))
