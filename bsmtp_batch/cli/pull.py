"""``bsmtp-batch pull``: take the batches that wait elsewhere for us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common, moving

if TYPE_CHECKING:
    from bsmtp_batch.config import Peer as Section
    from bsmtp_batch.config import Settings
    from bsmtp_batch.courier.contact import Terms
    from bsmtp_batch.courier.contract import Courier
    from bsmtp_batch.spool.store import Spool

Asked = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ROUTE|DOMAIN]...",
        help="Default: the peer's routes, or all there are; with odmr:// its domains, or all the account may have.",
    ),
]
Stay = Annotated[
    bool,
    typer.Option(
        "--stay",
        help="With odmr://: keep the line open, import each message as it comes, connect again when it is lost; until"
        " SIGTERM.",
    ),
]
Direct = Annotated[
    bool,
    typer.Option(
        "--direct",
        help="With odmr://: hand each message to the mail server here, and let the provider hear its answer.",
    ),
]
To = Annotated[
    str,
    typer.Option("--to", metavar="URL", help="With --direct or --stay: where to hand mail in; default: [import] to."),
]
ReceiveOnly = Annotated[
    bool, typer.Option("--receive-only", help="With odmr://: hand none of our own mail in (the peer's routes).")
]

CODES = {
    0: "done, also when there was nothing to do or the peer is outside its window",
    65: "a batch or a receipt was refused; the rest was taken",
    75: "something is left for later (half copied, no room), or the far end is away: run the same command again",
    78: "a setting has to be changed, here or at the odmr:// provider's (no such domain, login or service)",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "pull",
        help="Take the batches that wait for us, acknowledge them, and take the receipts for our own; from odmr://,"
        " have our mail sent over a connection that we make.",
        epilog=common.epilog("bsmtp-batch pull dir:/media/stick", CODES),
    )(command)


def command(
    peer: moving.Peer = None,
    routes: Asked = None,
    *,
    identity: moving.Identity = None,
    known_hosts: moving.KnownHosts = None,
    max_bytes: moving.MaxBytes = None,
    window: moving.Window = None,
    tls: moving.Tls = None,
    ca_file: moving.CaFile = None,
    secret_file: moving.SecretFile = None,
    direct: Direct = False,
    to: To = "",
    stay: Stay = False,
    receive_only: ReceiveOnly = False,
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

        if stay or direct or to or receive_only:
            raise _not_here()
        wanted = moving.proper(routes or theirs) or None
        if dry_run:
            return [_preview(courier, wanted, json=json)]
        make_spool(store.path)
        with Ledger(store.ledger) as ledger:
            return moving.tell(
                pull(store, wanted, courier, ledger, terms=terms, watch=moving.watching(json=json)), json=json
            )

    def odmr(store: Spool, settings: Settings, name: str, section: Section, terms: Terms) -> list[int]:
        from bsmtp_batch.cli.collecting import Collecting, Wishes

        wishes = Wishes(tuple(routes or ()), stay, direct, to, receive_only, dry_run, json)
        return Collecting(store, settings, name, section, terms=terms, wishes=wishes).run()

    if (stay or to) and peer is None:
        raise _alone("--stay" if stay else "--to")
    flags = moving.Flags(identity, known_hosts, max_bytes, window, tls, ca_file, secret_file)
    return moving.with_each("pull", peer, flags, contact, mail={"odmr": odmr}, config=config, spool=spool, json=json)


def _alone(flag: str) -> Exception:
    from bsmtp_batch.errors import Usage

    return Usage(f"{flag} is for one peer", safe="Nothing was moved", next="name the peer, or its odmr:// address")


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


def _not_here() -> Exception:
    from bsmtp_batch.errors import Usage

    return Usage(
        "--stay, --direct, --to and --receive-only are for a provider that sends messages",
        safe="Nothing was moved",
        next="leave them out, or pull from an odmr:// peer",
    )
