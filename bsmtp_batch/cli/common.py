"""What every command shares: the two options that say where the spool is, output for people and for programs, help.

A command is one function in one file of this package. It takes its options through the annotated types below, raises
:class:`bsmtp_batch.errors.Problem` for whatever an operator has to know, and returns its exit code (``None`` is 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli.printing import complain as complain  # noqa: PLC0414 - commands find it here
from bsmtp_batch.cli.printing import print_json as print_json  # noqa: PLC0414 - as above
from bsmtp_batch.edge.log import printable as printable  # noqa: PLC0414 - as above
from bsmtp_batch.edge.user import become_owner as become_owner  # noqa: PLC0414 - as above

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings

Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="BSMTP_BATCH_CONFIG",
        help="Settings; without it /etc/bsmtp-batch/bsmtp-batch.toml where that exists.",
    ),
]
Spool = Annotated[
    str | None,
    typer.Option(
        "--spool",
        metavar="DIR",
        envvar="BSMTP_BATCH_SPOOL",
        help="The spool; enough by itself, no settings needed.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")]

EXIT_CODES = {
    0: "done, also when there was nothing to do",
    64: "the command line makes no sense",
    65: "something was set aside as bad; the rest was done",
    70: "a bug in bsmtp-batch; nothing is lost",
    75: "something is left for later: run the same command again",
    78: "the configuration, or the spool it names, cannot be used",
}


def epilog(example: str, codes: dict[int, str] | None = None) -> str:
    """The last part of a command's help: its exit codes and an example.

    ``codes`` are words that replace or add to the common table, for commands that mean something of their own.
    """
    table = "\n\n".join(f"  {code:>2}  {text}" for code, text in sorted((EXIT_CODES | (codes or {})).items()))
    return f"Exit codes:\n\n{table}\n\nExample:\n\n  {example}"


def settings(config: str | None, spool: str | None) -> Settings:
    """The validated settings that ``--config`` and ``--spool`` name (``errors.Setting`` when they cannot be used)."""
    from bsmtp_batch.config import load

    return load(config, spool=spool)


def need_spool(directory: str) -> None:
    """Raise ``errors.Setting`` where there is no spool: a misspelt name must not look like a spool without mail."""
    from bsmtp_batch.errors import Setting
    from bsmtp_batch.spool.listing import is_directory

    if not is_directory(directory):
        raise Setting(
            f"there is no spool at {directory}",
            safe="Nothing was changed",
            next="check --spool, BSMTP_BATCH_SPOOL and [node] spool; `bsmtp-batch route add ROUTE` makes a new spool",
        )
