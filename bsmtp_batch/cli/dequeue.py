"""``bsmtp-batch dequeue``: ask a provider to begin sending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bsmtp_batch.config import Settings
    from bsmtp_batch.dequeue import Answer, Server
    from bsmtp_batch.ledger import Ledger

HostName = Annotated[str, typer.Argument(metavar="HOST", help="The provider's server: its name or address.")]
Port = Annotated[int, typer.Option("--port", "-p", metavar="PORT", min=1, max=65535, help="Its port.")]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        "-d",
        metavar="DOMAIN",
        help="Whose mail to ask for (repeatable): a domain, @domain for those below it too, or #queue;"
        " default: [import] local_domains, and without any the name of this node.",
    ),
]
NoTls = Annotated[bool, typer.Option("--no-tls", help="Do not encrypt, although the server offers it.")]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {
        0: "every domain was asked for, whatever the server said to it",
        75: "no connection, or it broke: run the same command again",
    }
    app.command(
        "dequeue",
        help="Ask a provider's server to begin sending what waits for us (ETRN), and leave.",
        epilog=common.epilog("bsmtp-batch dequeue mx.provider.example -d aurora.example", codes),
    )(command)


def command(
    host: HostName,
    port: Port = 25,
    domain: Domains = None,
    *,
    no_tls: NoTls = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Ask; the exit code says whether there was anybody to ask."""
    from bsmtp_batch import dequeue

    settings = common.settings(config, spool)
    server = _server(host, port, tls=not no_tls)
    domains = _wanted(settings, domain or [])
    if dry_run:
        return _preview(server, domains, json=json)
    with _ledger(settings.node.spool) as ledger:
        for answer in dequeue.ask(server, domains, node=settings.node.name, ledger=ledger):
            _tell(server, answer, json=json)
    return 0


def _ledger(spool: str) -> AbstractContextManager[Ledger | None]:
    """Where the contact is noted, for `status`. Asking needs no spool, and goes before keeping books about it."""
    from contextlib import nullcontext

    from bsmtp_batch.errors import Problem
    from bsmtp_batch.ledger import Ledger
    from bsmtp_batch.spool.listing import is_directory
    from bsmtp_batch.spool.store import Spool

    try:
        if is_directory(spool):
            common.become_owner(spool)
            return Ledger(Spool(spool).ledger)
    except (Problem, OSError) as error:
        common.complain(f"dequeue: the contact will not be in `status`: {error}")
    return nullcontext()


def _server(host: str, port: int, *, tls: bool) -> Server:
    from bsmtp_batch.dequeue import Server
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.replay import address

    written = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    try:
        found = address.parse(f"smtp://{written}:{port}")
    except address.BadUrl as error:
        raise Usage(
            f"{host!r} is not the name or address of a host",
            safe="Nobody was asked",
            next="write the name of the provider's server; its port goes behind -p",
        ) from error
    assert isinstance(found, address.Server)
    return Server(found.host, found.port, tls)


def _wanted(settings: Settings, named: list[str]) -> list[str]:
    """The domains to ask for. Raises ``errors.Usage``."""
    from bsmtp_batch.dequeue import request_for
    from bsmtp_batch.errors import Usage

    name = settings.node.name
    domains = named or settings.imports.local_domains or ([name] if "." in name else [])
    if not domains:
        raise Usage(
            "it is not said whose mail to ask for",
            safe="Nobody was asked",
            next="add -d DOMAIN, or [import] local_domains to the settings",
        )
    for domain in domains:
        try:
            request_for(domain)
        except ValueError as error:
            raise Usage(str(error), safe="Nobody was asked", next="mend the domain") from error
    return list(dict.fromkeys(domains))


def _preview(server: Server, domains: list[str], *, json: bool) -> int:
    for domain in domains:
        if json:
            common.print_json([{"domain": domain, "server": str(server)}])
        else:
            typer.echo(f"would ask {server} for the mail of {domain}")
    return 0


def _tell(server: Server, answer: Answer, *, json: bool) -> None:
    if json:
        common.print_json([{"domain": answer.domain, "outcome": answer.outcome, "reply": answer.reply}])
        return
    line = common.printable(f"dequeue {server}: {answer.domain}: {answer.told}")
    if answer.refused:
        common.complain(line)
    else:
        typer.echo(line)
