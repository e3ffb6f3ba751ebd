"""``bsmtp-batch push``: hand sealed batches over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bsmtp_batch.cli import common, moving

if TYPE_CHECKING:
    from bsmtp_batch.config import Peer as Section
    from bsmtp_batch.config import Settings
    from bsmtp_batch.courier.contact import Terms
    from bsmtp_batch.courier.contract import Courier
    from bsmtp_batch.spool.store import Route, Spool

CODES = {
    0: "done, also when there was nothing to do or the peer is outside its window",
    65: "a batch, a receipt or (smtp://) a message was refused and set aside; the rest was handed over",
    75: "something is left for later, or the far end is away: run the same command again",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "push",
        help="Hand sealed batches over and take the receipts for earlier ones; to smtp://, send what is in them.",
        epilog=common.epilog("bsmtp-batch push dir:/media/stick example.org", CODES),
    )(command)


def command(
    peer: moving.Peer = None,
    routes: moving.Routes = None,
    *,
    identity: moving.Identity = None,
    known_hosts: moving.KnownHosts = None,
    max_bytes: moving.MaxBytes = None,
    window: moving.Window = None,
    tls: moving.Tls = None,
    ca_file: moving.CaFile = None,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Push to each peer."""

    def contact(store: Spool, courier: Courier, theirs: list[str], terms: Terms) -> list[int]:
        from bsmtp_batch.courier.contact import push
        from bsmtp_batch.ledger import Ledger

        common.need_spool(store.path)
        chosen = store.chosen(routes) if routes else _those_there(store, theirs)
        if dry_run:
            _preview(chosen, courier.peer, json=json)
        elif chosen:
            with Ledger(store.ledger) as ledger:
                return moving.tell(
                    push(chosen, courier, ledger, terms=terms, watch=moving.watching(json=json)), json=json
                )
        return []

    def direct(store: Spool, settings: Settings, _: str, section: Section, terms: Terms) -> list[int]:
        from bsmtp_batch.cli import sending

        common.need_spool(store.path)
        target = sending.server(section, settings.node.name)
        chosen = store.chosen(routes) if routes else _those_there(store, sending.their_routes(section))
        if dry_run:
            _preview(chosen, target.name, json=json)
            return []
        return sending.send(store, settings, chosen, target, terms, json=json)

    flags = moving.Flags(identity, known_hosts, max_bytes, window, tls, ca_file)
    return moving.with_each("push", peer, flags, contact, mail={"smtp": direct}, config=config, spool=spool, json=json)


def _those_there(store: Spool, theirs: list[str]) -> list[Route]:
    """The routes of a peer that exist here (all when it names none): it may also list those that only come from it."""
    there = store.routes()
    return store.chosen([name for name in (theirs or there) if name in there]) if there else []


def _preview(routes: list[Route], peer: str, *, json: bool) -> None:
    from bsmtp_batch.cli.words import count, size
    from bsmtp_batch.handover.outgoing import ready
    from bsmtp_batch.handover.parcel import Parcel

    for route in routes:
        for one in ready(route):
            if not isinstance(one, Parcel):
                common.complain(f"push {route.name}: {one.reason}")
            elif json:
                row = {"route": route.name, "name": one.name, "messages": one.manifest.messages, "octets": one.size}
                common.print_json([row])
            else:
                what = f"{count(one.manifest.messages, 'message')}, {size(one.size)}"
                typer.echo(f"would push {route.name}: batch {one.name} ({what}) to {peer}")
