"""``bsmtp-batch receive``: the far end of a push or pull, on standard input and output."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings
    from bsmtp_batch.spool.inbox import Inbox
    from bsmtp_batch.spool.store import Route

CODES = {
    64: "the origin is no name, or the other side said something that is not of the protocol",
    65: "a batch or a receipt was refused; the rest was done",
    75: "the contact broke off, or something is left for later",
}
SILENCE = 600.0
"""Seconds without a word from the other side after which it has gone: as long as it is thought to be there, nobody
else can have what it holds. A dead line is found out sooner by sshd (contrib/ssh)."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "receive",
        help="Be the far end of a push or pull, for ORIGIN and nobody else: the forced command of its ssh key.",
        epilog=common.epilog('restrict,command="bsmtp-batch receive site.example" ssh-ed25519 AAAA... site', CODES),
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
    from bsmtp_batch.receive.door import CONVERSATION
    from bsmtp_batch.receive.quick import pass_through
    from bsmtp_batch.spool.inbox import Inbox
    from bsmtp_batch.spool.routes import make_spool, proper_name
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    store = Spool(settings.node.spool)
    common.become_owner(store.path)
    proper = proper_name(origin)
    peer = settings.peer(proper)
    there = store.routes()
    names = [name for name in dict.fromkeys([proper, *(peer.routes if peer else [])]) if name in there]
    inbox, routes = Inbox(store.path, proper), store.chosen(names) if names else []
    if dry_run:
        common.complain(f"would store in {inbox.path} and give: {', '.join(names) or 'nothing'}")
        return 0
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if asked not in CONVERSATION:
        return pass_through(asked, store.path, proper)
    make_spool(store.path)
    return _converse(settings, inbox, routes, store.ledger)


def _converse(settings: Settings, inbox: Inbox, routes: list[Route], path: str) -> int:
    from bsmtp_batch.cli.trust import trust_of
    from bsmtp_batch.edge.log import tell
    from bsmtp_batch.edge.process import LONGEST, Timed
    from bsmtp_batch.ledger import Ledger
    from bsmtp_batch.receive.session import Receiver

    reading = io.BufferedReader(Timed(0, SILENCE, LONGEST))
    with Ledger(path) as ledger:
        receiver = Receiver(
            inbox,
            routes,
            ledger,
            reading=cast("BinaryIO", reading),
            writing=sys.stdout.buffer,
            tell=tell,
            trust=trust_of(settings, settings.peer(inbox.origin)),
        )
        return receiver.serve().code
