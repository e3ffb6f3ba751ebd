"""``bsmtp-batch expire``: remove what was acknowledged or imported long enough ago."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings
    from bsmtp_batch.expire import Overdue
    from bsmtp_batch.spool.store import Spool

    Step = Callable[[], Iterator[Overdue]]

FORGET = 2
"""What the ledger knows is forgotten after this many times the longest ``keep``: it has to outlast the far side's
copies."""
WORDS = {
    "kept": ("acknowledged batch", "acknowledged batches"),
    "done": ("imported file", "imported files"),
    "key": ("remembered key", "remembered keys"),
    "list": ("old list", "old lists"),
    "rubbish": ("rubbish file", "rubbish files"),
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {75: "a seal or a contact is at work, or the clock has jumped: run the same command again"}
    app.command(
        "expire",
        help="Remove acknowledged and imported batches whose time is over, and rubbish. Never mail that waits.",
        epilog=common.epilog("bsmtp-batch expire", codes),
    )(command)


def command(
    dry_run: common.DryRun = False, json: common.Json = False, config: common.Config = None, spool: common.Spool = None
) -> int:
    """Expire every route and origin; one that is busy does not keep the others."""
    import os
    from contextlib import nullcontext

    from bsmtp_batch.cli.draining import drained
    from bsmtp_batch.cli.words import worst
    from bsmtp_batch.expire import check_clock
    from bsmtp_batch.spool import reserve
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    store = Spool(settings.node.spool)
    if not os.path.isdir(store.path):
        return 0
    common.become_owner(store.path)
    codes = [0 if dry_run or drained(store.path, who="expire") else 75]
    with nullcontext() if dry_run else reserve.lent(store.path):  # a full disk has no room for a note about the clock
        if not dry_run:
            check_clock(store.path)
        codes += _expire(store, settings, dry_run=dry_run, json=json)
        if not dry_run:
            _forget(store, settings)
    return worst(*codes)


def _expire(store: Spool, settings: Settings, *, dry_run: bool, json: bool) -> list[int]:
    from bsmtp_batch.errors import Problem

    codes = []
    for party, step in _steps(store, settings, dry_run=dry_run):
        try:
            _tell(party, step(), dry_run=dry_run, json=json)
        except Problem as problem:
            common.complain(f"expire {party}: {problem}")
            codes.append(problem.code)
        except OSError as error:
            common.complain(f"expire {party}: {error.filename}: {error.strerror}. Next: look at the disk")
            codes.append(75)
    return codes


def _steps(store: Spool, settings: Settings, *, dry_run: bool) -> Iterator[tuple[str, Step]]:
    """What to do about each route and origin."""
    from functools import partial

    from bsmtp_batch import expire
    from bsmtp_batch.spool.inbox import Inbox

    now = time.time()
    of_route = expire.overdue_of_route if dry_run else expire.expire_route
    of_inbox = expire.overdue_of_inbox if dry_run else expire.expire_inbox
    for route in store.chosen([]):
        yield route.name, partial(of_route, route, keep=settings.route(route.name).keep, now=now)
    for origin in store.origins():
        yield origin, partial(of_inbox, Inbox(store.path, origin), keep=settings.imports.keep, now=now)


def _tell(party: str, found: Iterator[Overdue], *, dry_run: bool, json: bool) -> None:
    from bsmtp_batch.cli.words import count, size

    kinds: Counter[str] = Counter()
    octets = 0
    for one in found:
        kinds[one.kind] += 1
        octets += one.octets
        if json:
            common.print_json([asdict(one)])
    if kinds and not json:
        what = ", ".join(count(kinds[kind], *words) for kind, words in WORDS.items() if kinds[kind])
        typer.echo(f"{'would expire' if dry_run else 'expire'} {party}: {what}, {size(octets)}")


def _forget(store: Spool, settings: Settings) -> None:
    import os

    from bsmtp_batch.ledger import Ledger

    if os.path.exists(store.ledger):
        longest = max([settings.imports.keep, *(r.keep for r in settings.routes.values()), 14 * 86400])
        with Ledger(store.ledger) as ledger:
            ledger.forget(time.time() - FORGET * longest)
