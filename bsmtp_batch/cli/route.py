"""``bsmtp-batch route add|list|remove|key``: the directories under which mail waits for one customer, and its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common, route_key

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings
    from bsmtp_batch.spool.names import Limits

Names = Annotated[
    list[str], typer.Argument(metavar="ROUTE...", help="Domains as they stand in DNS, such as example.org.")
]


def register(app: typer.Typer) -> None:
    """Add the command and its subcommands to ``app``."""
    route = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Make, list and remove routes; give a key to one."
    )
    codes = {64: "the name is no route, or the route holds mail and cannot be removed"}
    route.command(
        "add",
        help="Make the directories of a route and write its limits; a route that is there gets its limits anew.",
        epilog=common.epilog("bsmtp-batch route add example.org", codes),
    )(add)
    route.command("list", help="List the routes.", epilog=common.epilog("bsmtp-batch route list --json"))(list_)
    route.command(
        "remove",
        help="Remove a route in which no mail waits; its acknowledged batches go, too.",
        epilog=common.epilog("bsmtp-batch route remove example.org", codes),
    )(remove)
    route_key.register(route)
    app.add_typer(route, name="route", epilog=common.epilog("bsmtp-batch route add example.org", codes))


def add(routes: Names, dry_run: common.DryRun = False, config: common.Config = None, spool: common.Spool = None) -> int:
    """Make the routes named."""
    from bsmtp_batch.spool import routes as making
    from bsmtp_batch.spool.store import Route

    settings = common.settings(config, spool)
    directory = settings.node.spool
    proper = [making.proper_name(name) for name in routes]
    common.become_owner(directory)
    for name in proper:
        if dry_run:
            typer.echo(f"would make {Route(directory, name).path}")
            continue
        made = making.add(directory, name, _limits(settings, name), reserve_size=settings.node.reserve)
        typer.echo(f"route {made.name}: {made.path} is ready for mail")
    _warn(directory)
    return 0


def list_(json: common.Json = False, config: common.Config = None, spool: common.Spool = None) -> int:
    """List the routes with what they hold."""
    from bsmtp_batch.cli.words import count, size
    from bsmtp_batch.spool import routes as making
    from bsmtp_batch.spool.store import Spool

    store = Spool(common.settings(config, spool).node.spool)
    for route in store.chosen([]):
        found = making.holding(route)
        if json:
            row = {"route": route.name, "path": route.path, "messages": found.fragments, "batches": found.batches}
            common.print_json([row | {"set_aside": found.set_aside, "octets": found.octets}])
        else:
            what = f"{count(found.fragments, 'message')} waiting, {count(found.batches, 'batch', 'batches')} ready"
            typer.echo(f"{route.name}: {what}, {found.set_aside} set aside, {size(found.octets)}")
    return 0


def remove(
    routes: Names, dry_run: common.DryRun = False, config: common.Config = None, spool: common.Spool = None
) -> int:
    """Remove the routes named, if no mail waits in them."""
    from bsmtp_batch.errors import Problem
    from bsmtp_batch.spool import routes as making
    from bsmtp_batch.spool.store import Spool

    store = Spool(common.settings(config, spool).node.spool)
    common.become_owner(store.path)
    chosen, code = store.chosen(routes), 0
    for route in chosen:
        try:
            if dry_run:
                making.refuse_while_holding(route)
                typer.echo(f"would remove {route.path}")
            else:
                making.remove(route)
                typer.echo(f"route {route.name}: removed")
        except Problem as problem:
            common.complain(f"bsmtp-batch: {problem}")
            code = problem.code
    return code


def _limits(settings: Settings, name: str) -> Limits:
    from bsmtp_batch.spool.names import Limits

    found = settings.route(name)
    return Limits(
        max_size=found.max_size,
        min_free=found.min_free,
        min_inodes=found.min_inodes,
        nul=found.nul,
        dialect=found.dialect,
        deadline=found.deadline,
        null_sender=found.null_sender,
    )


def _warn(directory: str) -> None:
    """Say on standard error what would break the spool's promises, without refusing it: tests and trials run
    anywhere."""
    import os

    from bsmtp_batch.spool import routes as making

    kind = making.file_system(directory)
    if kind:
        common.complain(
            f"bsmtp-batch: warning: {directory} is on {kind}, where mail may not survive a crash or locks may not hold."
            " Next: put the spool on a local disk (ext4, XFS, Btrfs)"
        )
    if os.path.isdir(directory) and os.stat(directory).st_uid == 0:
        common.complain(
            f"bsmtp-batch: warning: {directory} belongs to root, and an MTA hands mail in as another user."
            f" Next: chown -R that user {directory}"
        )
