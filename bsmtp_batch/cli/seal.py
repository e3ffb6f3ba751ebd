"""``bsmtp-batch seal``: turn what waits into batches."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bsmtp_batch.config import Settings
    from bsmtp_batch.ledger import Ledger
    from bsmtp_batch.seal import Event
    from bsmtp_batch.spool.store import Route, Spool


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {
        65: "a damaged message was set aside in dead/, with the reason beside it; the rest was sealed",
        75: "another sealer is at work, or the disk or the signing key refused: what was not sealed waits as before",
    }
    app.command(
        "seal",
        help="Seal what waits now into batches, whatever its age; --due only what is old, large or many enough.",
        epilog=common.epilog("bsmtp-batch seal example.org", codes),
    )(command)


def command(
    routes: Annotated[list[str] | None, typer.Argument(metavar="[ROUTE]...", help="Default: every route.")] = None,
    *,
    due: Annotated[
        bool, typer.Option("--due", help="Only routes over their seal_age, seal_size or seal_count; for timers.")
    ] = False,
    dry_run: common.DryRun = False,
    json: common.Json = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Seal each route; a route that makes trouble does not keep the others from being sealed."""
    from bsmtp_batch.cli.draining import drained
    from bsmtp_batch.cli.words import worst
    from bsmtp_batch.errors import Problem
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    store = Spool(settings.node.spool)
    common.need_spool(store.path)
    common.become_owner(store.path)
    codes = [0 if dry_run or drained(store.path, who="seal") else 75]
    chosen = [r for r in store.chosen(routes or []) if not due or _due(settings, r)]
    if dry_run:
        return _preview(chosen, json=json)
    with ExitStack() as stack:
        ledger = _ledger(store, stack, codes) if chosen else None
        for route in chosen:
            try:
                for event in events(settings, route, ledger):
                    codes.append(_tell(event, json=json))
            except Problem as problem:
                common.complain(f"seal {route.name}: {problem}")
                codes.append(problem.code)
    return worst(*codes)


def events(settings: Settings, route: Route, ledger: Ledger | None) -> Iterator[Event]:
    """Seal what waits in ``route`` as the settings say."""
    from bsmtp_batch.edge.signing import Signer
    from bsmtp_batch.seal import Caps, seal_route

    wanted = settings.route(route.name)
    key = settings.node.signing_key
    return seal_route(
        route,
        node=settings.node.name,
        caps=Caps(wanted.seal_size, wanted.seal_count),
        classic=wanted.dialect == "classic",
        reserve_size=settings.node.reserve,
        ledger=ledger,
        sign=Signer(key).sign if key else None,
    )


def _due(settings: Settings, route: Route) -> bool:
    from bsmtp_batch.seal import is_due, waiting

    wanted = settings.route(route.name)
    return is_due(
        waiting(route),
        age=wanted.seal_age,
        octets=wanted.seal_size,
        messages=wanted.seal_count,
        now=time.time(),
    )


def _ledger(store: Spool, stack: ExitStack, codes: list[int]) -> Ledger | None:
    """The ledger; sealing goes on without one, and says so."""
    from bsmtp_batch.errors import Problem
    from bsmtp_batch.ledger import Ledger

    try:
        return stack.enter_context(Ledger(store.ledger))
    except Problem as problem:
        common.complain(f"seal: {problem}")
        codes.append(problem.code)
        return None


def _preview(routes: list[Route], *, json: bool) -> int:
    from bsmtp_batch.cli.words import count, size
    from bsmtp_batch.seal import waiting
    from bsmtp_batch.spool.groups import look

    grouped = look(routes[0].spool).routes if routes else {}
    for route in routes:
        found = waiting(route, grouped.get(route.name, []))
        if json:
            common.print_json([{"route": route.name, "messages": found.messages, "octets": found.octets}])
        elif found.messages:
            typer.echo(f"would seal {route.name}: {count(found.messages, 'message')}, {size(found.octets)}")
    return 0


def _tell(event: Event, *, json: bool) -> int:
    """Tell of ``event``; the exit code it asks for."""
    from bsmtp_batch.cli.words import count, size
    from bsmtp_batch.seal import Left, Recovered, Sealed, SetAside

    if isinstance(event, Sealed):
        line = f"batch {event.name}, {count(event.messages, 'message')}, {size(event.octets)}"
        if json:
            common.print_json([asdict(event)])
        else:
            typer.echo(f"seal {event.route}: {line}")
        return 0
    if isinstance(event, Recovered):
        common.complain(f"seal {event.route}: recovered: {event.what}")
        return 0
    if isinstance(event, SetAside):
        common.complain(f"seal {event.route}: set aside {event.path}: {event.reason}")
        return 65
    assert isinstance(event, Left)
    common.complain(f"seal {event.route}: left for later: {event.reason}")
    return 75
