"""``bsmtp-batch import``: hand batches to the mail server of this site."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings
    from bsmtp_batch.importer.one import Force, Options, Tally
    from bsmtp_batch.importer.policy import Policy
    from bsmtp_batch.replay.contract import Target
    from bsmtp_batch.replay.journal import Line

ORDER = ("delivered", "pending", "deferred", "bounced", "quarantined", "skipped")
"""The outcomes, in the order in which a summary names them."""
FORCES = ("unknown", "failed", "all")

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
        max=100,
        help="Connections to the server at once; with 1 the messages arrive in their order."
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
    from dataclasses import replace

    from bsmtp_batch.errors import Usage
    from bsmtp_batch.importer import stage

    settings = common.settings(config, spool)
    if force and force not in FORCES:
        raise Usage(f"there is no --force={force}", safe="Nothing was sent", next=f"write one of: {', '.join(FORCES)}")
    watcher = Console(json=json, yes=yes)
    chosen: Force | None = force or None  # type: ignore[assignment]  # one of FORCES, as checked above
    options = options_of(settings, to=to, local_domains=local_domain or [], dry_run=dry_run, connections=connections)
    common.become_owner(settings.node.spool)
    return stage.run(files or [], replace(options, force=chosen, salvage=salvage), watcher)


def options_of(
    settings: Settings,
    *,
    to: str = "",
    local_domains: list[str] | None = None,
    dry_run: bool = False,
    connections: int | None = None,
) -> Options:
    """How the settings say to import; ``to`` and ``connections`` come before theirs, and ``local_domains`` are added.
    Raises ``errors.Usage``."""
    from bsmtp_batch.edge.signing import verifier
    from bsmtp_batch.importer.one import Options

    url = to or settings.imports.to
    return Options(
        spool=settings.node.spool,
        node=settings.node.name,
        policy=_policy([*settings.imports.local_domains, *(local_domains or [])]),
        target=target_of(url, settings.node.name, needed=not dry_run),
        bounce=settings.imports.on_reject == "bounce",
        dry_run=dry_run,
        connections=connections or settings.imports.connections or default_connections(url),
        verify=verifier(settings.node.allowed_signers) if settings.node.allowed_signers else None,
    )


def default_connections(url: str) -> int:
    """How many connections there may be to the target at ``url`` where nobody says."""
    return 8 if url.startswith(("smtp:", "lmtp:")) else 1


def _policy(domains: list[str]) -> Policy:
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.importer.policy import Policy

    try:
        return Policy(domains)
    except ValueError as error:
        raise Usage(str(error), safe="Nothing was sent", next="mend the domain") from error


def target_of(url: str, node: str, *, needed: bool) -> Target | None:
    """The target at ``url``; ``needed``: without one there is ``errors.Usage``."""
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.replay import address, targets

    if not url:
        if not needed:
            return None
        raise Usage(
            "it is not said where to hand the mail in",
            safe="Nothing was sent",
            next=f"add --to URL, or [import] to in the settings: {address.FORMS}",
        )
    try:
        return targets.target_of(address.parse(url), node=node)
    except address.BadUrl as error:
        raise Usage(str(error), safe="Nothing was sent", next=f"write the target as {address.FORMS}") from error


class Console:
    """Tells what happens: lines of JSON for programs, one line per batch for people, troubles on standard error."""

    def __init__(self, *, json: bool, yes: bool) -> None:
        self._json = json
        self._yes = yes

    def line(self, line: Line) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        if self._json:
            row: dict[str, Any] = {
                "message": line.message,
                "rcpt_to": line.rcpt_to.decode("utf-8", "backslashreplace"),
                "outcome": line.outcome,
                "reply": line.reply,
                "batch": line.batch,
            }
            common.print_json([row])

    def trouble(self, what: str) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        common.complain(f"import: {common.printable(what)}")

    def summary(self, tally: Tally) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        if not self._json:
            counts = [f"{tally.counts[outcome]} {outcome}" for outcome in ORDER if outcome in tally.counts]
            said = ", ".join(counts) or "nothing was handed in"
            typer.echo(f"{common.printable(tally.name)}: messages: {tally.messages}; recipients: {said}")

    def agrees(self, question: str) -> bool:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        return self._yes or (sys.stdin.isatty() and typer.confirm(question, err=True))
