#!/usr/bin/env python3
"""A stand-in for ``sendmail``: with ``-bs`` it speaks SMTP on its standard input and output, and keeps what it takes.

Each message becomes a line in the file named in the environment of the test that copied it (see ``install``).
"""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path


def install(directory: Path) -> tuple[Path, Path]:
    """A program in ``directory`` that runs this with our interpreter, and the file that it writes."""
    taken = directory / "taken.jsonl"
    program = directory / "sendmail"
    root = Path(__file__).parents[1]
    package = Path(__file__).parents[2]
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={root}:{package} exec {sys.executable} -m support.smtp_child {taken} "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program, taken


def read(taken: Path) -> list[dict[str, object]]:
    """What the program took: mail, rcpts and content of each message."""
    rows = [json.loads(line) for line in taken.read_text().splitlines()] if taken.exists() else []
    return [row | {"content": base64.b64decode(row["content"])} for row in rows]


def main() -> None:
    from support.sink import Closing, Sink, Talk

    taken, *arguments = sys.argv[1:]
    if arguments != ["-bs"]:
        sys.exit("usage: sendmail -bs")
    sink = Sink()
    talk = Talk(sink, lambda data: os.write(1, data), 1)
    with suppress(Closing, BrokenPipeError):
        talk.begin()
        while data := os.read(0, 65536):
            talk.feed(data)
    with open(taken, "a", encoding="utf-8") as file:
        for one in sink.taken:
            row = {
                "mail": one.mail.path.decode(),
                "rcpts": [path.decode() for path in one.to],
                "content": base64.b64encode(one.content).decode(),
            }
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
