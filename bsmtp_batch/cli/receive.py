"""``bsmtp-batch receive``: the far end of a push or pull, on standard input and output."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bsmtp_batch.cli import common

CODES = {
    64: "the origin is no name, or the other side said something that is not of the protocol",
    65: "a batch or a receipt was refused; the rest was done",
    75: "the contact broke off, or something is left for later",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "receive",
        help="Speak with the far side of a push or pull: list, get, put and ack, for ORIGIN and nobody else.",
        epilog=common.epilog('command="bsmtp-batch receive site.example",restrict ssh-ed25519 AAAA... site', CODES),
    )(command)


def command(
    origin: Annotated[
        str, typer.Argument(metavar="ORIGIN", help="Who is at the other end: its batches go to in/ORIGIN.")
    ],
    dry_run: common.DryRun = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Serve one contact. It may have the batches of the route ORIGIN and of the routes of ``[peer.ORIGIN]``."""
    from bsmtp_batch.ledger import Ledger
    from bsmtp_batch.receive import Receiver
    from bsmtp_batch.spool.inbox import Inbox
    from bsmtp_batch.spool.routes import make_spool, proper_name
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    store = Spool(settings.node.spool)
    common.become_owner(store.path)
    proper = proper_name(origin)
    peer = settings.peer(proper)
    there = store.routes()
    routes = [name for name in dict.fromkeys([proper, *(peer.routes if peer else [])]) if name in there]
    if dry_run:
        common.complain(f"would store in {Inbox(store.path, proper).path} and give: {', '.join(routes) or 'nothing'}")
        return 0
    make_spool(store.path)
    with Ledger(store.ledger) as ledger:
        receiver = Receiver(
            Inbox(store.path, proper),
            store.chosen(routes) if routes else [],
            ledger,
            reading=sys.stdin.buffer,
            writing=sys.stdout.buffer,
            tell=lambda line: common.complain(common.printable(line)),
        )
        return receiver.serve().code
