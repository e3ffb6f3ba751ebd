"""``bsmtp-batch import``: hand batches to the mail server of this site."""

from __future__ import annotations

from typing import Annotated

import typer

from bsmtp_batch.cli import common
from bsmtp_batch.cli.importing import MOST, Wishes, carry_out

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE|DIR|-]...",
        help="Batch files, directories of them, '-' for standard input; default: what has arrived in the spool.",
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        help="smtp://host:port, lmtp://host:port, lmtp:///path/socket, sendmail:/path or maildir:/path;"
        " default: [import] to.",
    ),
]
LocalDomain = Annotated[
    list[str] | None,
    typer.Option(
        "--local-domain",
        metavar="DOMAIN",
        help="Take recipients in this domain (repeatable), beside those of [import] local_domains.",
    ),
]
Forced = Annotated[
    str,
    typer.Option(
        "--force",
        metavar="WHAT",
        help="Hand in once more: 'unknown' what is in doubt, 'failed' what was refused, 'all' everything.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Answer the question that --force=all asks with yes.")]
Salvage = Annotated[
    bool, typer.Option("--salvage", help="Take the complete messages of a damaged file that has no manifest.")
]
Connections = Annotated[
    int | None,
    typer.Option(
        "--connections",
        metavar="N",
        min=1,
        max=MOST,
        help="The most connections to the server at once, one for eight messages; with 1 they arrive in their order."
        " Default: [import] connections, or 8 (1 for sendmail: and maildir:).",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {
        0: "everything was handed in, was handed in before, or there was nothing to do",
        65: "a file or a message was set aside in bad/, with the reason beside it; the rest was handed in",
        75: "something is left for later (the target is away, or answered 4xx): run the same command again",
    }
    app.command(
        "import",
        help="Hand the batches that have arrived, or those named, to the mail server of this site.",
        epilog=common.epilog("bsmtp-batch import --to smtp://127.0.0.1:25", codes),
    )(command)


def command(
    files: Files = None,
    *,
    to: To = "",
    local_domain: LocalDomain = None,
    force: Forced = "",
    yes: Yes = False,
    salvage: Salvage = False,
    connections: Connections = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Import; the exit code says whether anything is left, or was set aside."""
    return carry_out(
        Wishes(
            files=tuple(files or ()),
            to=to,
            local_domain=tuple(local_domain or ()),
            force=force,
            yes=yes,
            salvage=salvage,
            connections=connections,
            dry_run=dry_run,
            json=json,
            config=config,
            spool=spool,
        )
    )
