"""``bsmtp-batch demo``: the whole road on one machine."""

from __future__ import annotations

from typing import Annotated

import typer

from bsmtp_batch.cli import common


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {
        0: "every message arrived byte for byte, once",
        65: "a sum does not agree: please report it, with the folder",
        75: "a stage could not do its work here (is the disk full?); the message says which",
    }
    app.command(
        "demo",
        help="Show the whole road on this machine: a hub, two sites, awkward messages, a transfer that is killed.\n\n"
        "Needs no root, no mail server and no network; takes a few seconds. Everything happens in one folder, which is"
        " kept to look at.",
        epilog=common.epilog("bsmtp-batch demo --dir /tmp/look", codes),
    )(command)


def command(
    folder: Annotated[
        str | None,
        typer.Option("--dir", metavar="DIR", help="Where it happens: a new or empty folder; default: one in /tmp."),
    ] = None,
    json: common.Json = False,
) -> int:
    """Run the demonstration; 0 only when all sums agree."""
    from bsmtp_batch.demo import main

    return main.run(folder, as_json=json)
