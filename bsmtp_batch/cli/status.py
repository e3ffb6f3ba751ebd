"""``bsmtp-batch status``: what waits where, and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.ledger import Contact
    from bsmtp_batch.spool.store import Spool
    from bsmtp_batch.status import Aside, Begun, Heap, OriginStatus, RouteStatus


WIDTH = 140
"""Columns where there is no terminal to ask."""
WRONG = 78
"""The code of a contact of which nothing will come before somebody changes a setting."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "status",
        help="Show per route and origin what waits, the batches by state, what was set aside and why, and contacts.",
        epilog=common.epilog("bsmtp-batch status --json"),
    )(command)


def command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROUTE|ORIGIN]...", help="Default: all of them.")
    ] = None,
    json: common.Json = False,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Report; changes nothing and waits for nobody."""
    from bsmtp_batch.errors import Problem
    from bsmtp_batch.ledger import Ledger
    from bsmtp_batch.spool.groups import look
    from bsmtp_batch.spool.inbox import Inbox
    from bsmtp_batch.spool.store import Route, Spool
    from bsmtp_batch.status import begun, contacts, homeless, origin_status, route_status

    store = Spool(common.settings(config, spool).node.spool)
    common.need_spool(store.path)
    wanted = _wanted(store, names or [])
    grouped = look(store.path)
    routes = [route_status(Route(store.path, name), grouped) for name in store.routes() if name in wanted]
    origins = [origin_status(Inbox(store.path, name)) for name in store.origins() if name in wanted]
    known: list[Contact] = []
    parts: dict[str, list[Begun]] = {}
    try:
        known = contacts(store)
        with Ledger(store.ledger, read_only=True) as ledger:
            parts = {route.route: begun(Route(store.path, route.route), ledger) for route in routes}
    except Problem as problem:
        common.complain(f"status: {problem}")
    if json:
        common.print_json(_rows(store, routes, origins, known, parts, stuck=homeless(store, grouped)))
    else:
        _show(store, routes, origins, known)
        for aside in homeless(store, grouped):
            typer.echo(common.printable(f"stuck: {aside.path}: {aside.reason}"))
        for route in routes:
            for part in parts.get(route.route, []):
                typer.echo(common.printable(f"sent in part: {route.route}: {_in_part(part)}"))
    return 0


def _in_part(part: Begun) -> str:
    said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(part.counts.items())) or "none decided"
    doubt = f"; in doubt: message {', '.join(map(str, part.doubtful))}" if part.doubtful else ""
    return f"batch {part.name}: of {part.recipients} recipients {said}{doubt}{f': {part.reply}' if part.reply else ''}"


def _wanted(store: Spool, asked: list[str]) -> set[str]:
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.spool.routes import proper_name

    there = {*store.routes(), *store.origins()}
    wanted = {proper_name(name) for name in asked}
    if wanted - there:
        raise Usage(
            f"there is no route or origin {', '.join(sorted(wanted - there))} in {store.path}",
            safe="Nothing was changed",
            next="`bsmtp-batch status` without a name shows them all",
        )
    return wanted or there


def _rows(
    store: Spool,
    routes: list[RouteStatus],
    origins: list[OriginStatus],
    known: list[Contact],
    parts: dict[str, list[Begun]],
    *,
    stuck: list[Aside],
) -> Iterator[dict[str, Any]]:
    """One object per route, origin and peer, and one for the spool."""
    from dataclasses import asdict

    from bsmtp_batch.cli.words import moment
    from bsmtp_batch.status import reserve_size

    for route in routes:
        yield {
            "route": route.route,
            "waiting": _heap(route.waiting),
            "grouped": _heap(route.grouped),
            "unfinished": route.unfinished,
            "ready": _heap(route.ready),
            "kept": _heap(route.kept),
            "last_contact": moment(route.last_contact),
            "sent_in_part": [asdict(part) for part in parts.get(route.route, [])],
            "set_aside": _asides(route.aside),
            "odd": _asides(route.odd),
        }
    for origin in origins:
        yield {
            "origin": origin.origin,
            "new": _heap(origin.new),
            "work": _heap(origin.work),
            "done": _heap(origin.done),
            "missing": origin.missing,
            "remarks": origin.remarks,
            "set_aside": _asides(origin.aside),
            "odd": _asides(origin.odd),
        }
    for contact in known:
        yield {
            "peer": contact.peer,
            "direction": contact.direction,
            "started": moment(contact.started),
            "ended": moment(contact.ended),
            "batches": contact.batches,
            "octets": contact.octets,
            "result": contact.result,
            "code": contact.code,
        }
    yield {"spool": store.path, "reserve": reserve_size(store), "stuck": _asides(stuck)}


def _heap(heap: Heap) -> dict[str, Any]:
    from bsmtp_batch.cli.words import moment

    return {"files": heap.files, "messages": heap.messages, "octets": heap.octets, "oldest": moment(heap.oldest)}


def _asides(found: Iterable[Aside]) -> list[dict[str, Any]]:
    return [{"path": common.printable(a.path), "octets": a.octets, "reason": a.reason} for a in found]


def _show(store: Spool, routes: list[RouteStatus], origins: list[OriginStatus], known: list[Contact]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    now = time.time()
    if not routes and not origins:
        typer.echo(f"nothing in {store.path} yet. Next: bsmtp-batch route add example.org")
    if routes:
        console.print(_routes_table(routes, now))
    if origins:
        console.print(_origins_table(origins))
    if known:
        console.print(_contacts_table(known, now))
    for contact in known:
        if contact.result != "ok":
            typer.secho(
                common.printable(f"{contact.direction} {contact.peer}: {contact.result}"),
                fg="red" if contact.code == WRONG else None,
                bold=contact.code == WRONG,
            )
    asides = [("set aside", a) for r in routes for a in r.aside] + [("set aside", a) for o in origins for a in o.aside]
    odd = [("odd", a) for r in routes for a in r.odd] + [("odd", a) for o in origins for a in o.odd]
    for kind, aside in (*asides, *odd):
        typer.echo(common.printable(f"{kind}: {aside.path}: {aside.reason}"))
    for origin in origins:
        for sentence in origin.missing:
            typer.echo(common.printable(f"missing: {sentence}"))
        for sentence in origin.remarks:
            typer.echo(common.printable(f"noticed: {origin.origin}: {sentence}"))


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=place == 0)
    return table


def _routes_table(routes: list[RouteStatus], now: float) -> Any:
    from bsmtp_batch.cli.words import age, size

    table = _table("Routes", "route", "waiting", "oldest", "ready", "kept", "aside", "contact")
    for r in routes:
        ready = f"{r.ready.files} ({r.ready.messages} msg, {size(r.ready.octets)})" if r.ready.files else "0"
        table.add_row(
            r.route,
            _waiting(r),
            age(r.waiting.oldest, now),
            ready + (f" +{r.unfinished} unfinished" if r.unfinished else ""),
            str(r.kept.files),
            str(len(r.aside) + len(r.odd)),
            age(r.last_contact, now),
        )
    return table


def _waiting(route: RouteStatus) -> str:
    from bsmtp_batch.cli.words import size

    found = f"{route.waiting.messages} ({size(route.waiting.octets)})" if route.waiting.messages else "0"
    return found + (f", {route.grouped.messages} grouped" if route.grouped.messages else "")


def _origins_table(origins: list[OriginStatus]) -> Any:
    table = _table("Origins", "origin", "new", "messages", "work", "done", "bad", "gaps")
    for o in origins:
        cells = (o.new.files, o.new.messages, o.work.files, o.done.files, len(o.aside) + len(o.odd), len(o.missing))
        table.add_row(o.origin, *map(str, cells))
    return table


def _contacts_table(known: list[Contact], now: float) -> Any:
    from bsmtp_batch.cli.words import age, size

    table = _table("Last contacts", "peer", "direction", "ago", "batches", "size", "result")
    for c in known:
        result = "ok" if c.result == "ok" else "settings, see below" if c.code == WRONG else "see below"
        cells = (common.printable(c.peer), c.direction, age(c.ended, now), str(c.batches), size(c.octets), result)
        table.add_row(*cells, style="bold red" if c.code == WRONG else None)
    return table
