"""``bsmtp-batch check``: everything that is wrong with the settings, and what they do not guarantee."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.cli.findings import Finding

CODES = {
    0: "the settings can be used; there may be warnings",
    78: "the settings, or a file or program they need, cannot be used",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "check",
        help="Say everything that is wrong with the settings, each with its place and what to do, and warn of what is"
        " not guaranteed with them. It changes nothing and reaches nobody.",
        epilog=common.epilog("bsmtp-batch check --config /etc/bsmtp-batch/bsmtp-batch.toml", CODES),
    )(command)


def command(json: common.Json = False, config: common.Config = None, spool: common.Spool = None) -> int:
    """Look at the settings, and at what they name, as the user who owns the spool would find it."""
    from bsmtp_batch.cli.findings import of
    from bsmtp_batch.config_basics import file_of
    from bsmtp_batch.config_place import place_of
    from bsmtp_batch.errors import Faults

    path = file_of(config)
    try:
        settings = common.settings(config, spool)
    except Faults as problem:
        for place, sentence in problem.faults:
            _tell("error", place, sentence, "", json=json)
        return problem.code
    text = ""
    if path is not None:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    common.become_owner(settings.node.spool)
    errors = 0
    found: list[Finding] = sorted(of(settings), key=lambda f: (not f.error, place_of(text, f.setting)))
    for one in found:
        line, column = place_of(text, one.setting)
        place = f"{path}:{line}:{column}" if path else "no settings file"
        name = ".".join(one.setting)
        _tell("error" if one.error else "warning", place, f"{name}: {one.what}", one.remedy, json=json)
        errors += one.error
    if not found and not json:
        typer.echo(
            common.printable(f"check: nothing to complain about in {path or 'the settings, which are defaults'}")
        )
    return 78 if errors else 0


def _tell(level: str, place: str, what: str, remedy: str, *, json: bool) -> None:
    if json:
        common.print_json([{"level": level, "place": place, "what": what, "next": remedy}])
    else:
        typer.echo(common.printable(f"{level}: {place}: {what}" + (f". Next: {remedy}" if remedy else "")))
