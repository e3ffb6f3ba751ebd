"""``bsmtp-batch pull``: take the batches that wait elsewhere for us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bsmtp_batch.cli import common, moving

if TYPE_CHECKING:
    from bsmtp_batch.courier.contact import Terms
    from bsmtp_batch.courier.contract import Courier
    from bsmtp_batch.spool.store import Spool

CODES = {
    0: "done, also when there was nothing to do or the peer is outside its window",
    65: "a batch or a receipt was refused; the rest was taken",
    75: "something is left for later (half copied, no room), or the far end is away: run the same command again",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "pull",
        help="Take the batches that wait for us, acknowledge them, and take the receipts for our own.",
        epilog=common.epilog("bsmtp-batch pull dir:/media/stick", CODES),
    )(command)


def command(
    peer: moving.Peer = None,
    routes: moving.Routes = None,
    *,
    identity: moving.Identity = None,
    known_hosts: moving.KnownHosts = None,
    max_bytes: moving.MaxBytes = None,
    window: moving.Window = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Pull from each peer."""

    def contact(store: Spool, courier: Courier, theirs: list[str], terms: Terms) -> list[int]:
        from bsmtp_batch.courier.contact import pull
        from bsmtp_batch.ledger import Ledger
        from bsmtp_batch.spool.routes import make_spool

        wanted = moving.proper(routes or theirs) or None
        if dry_run:
            return [_preview(courier, wanted, json=json)]
        make_spool(store.path)
        with Ledger(store.ledger) as ledger:
            return moving.tell(
                pull(store, wanted, courier, ledger, terms=terms, watch=moving.watching(json=json)), json=json
            )

    flags = moving.Flags(identity, known_hosts, max_bytes, window)
    return moving.with_each("pull", peer, flags, contact, config=config, spool=spool, json=json)


def _preview(courier: Courier, wanted: list[str] | None, *, json: bool) -> int:
    """Say what is offered; our own batches on a shared medium are among it."""
    from bsmtp_batch.cli.words import count, size
    from bsmtp_batch.courier.contract import Refusal

    code = 0
    with courier:
        for offer in courier.offers(wanted):
            if isinstance(offer, Refusal):
                common.complain(common.printable(f"pull: {offer.what}: {offer.reason}"))
                code = max(code, offer.code)
            elif json:
                row = {"route": offer.route, "name": offer.name, "messages": offer.manifest.messages}
                common.print_json([row | {"octets": offer.size}])
            else:
                what = f"{count(offer.manifest.messages, 'message')}, {size(offer.size)}"
                typer.echo(f"would pull {offer.route}: batch {offer.name} ({what}) from {courier.peer}")
    return code
