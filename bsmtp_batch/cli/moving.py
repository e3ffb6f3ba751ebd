"""What ``push`` and ``pull`` have in common: whom to reach, and how to tell what happened."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bsmtp_batch.config import Settings
    from bsmtp_batch.courier.contact import Event
    from bsmtp_batch.courier.contract import Courier
    from bsmtp_batch.spool.store import Spool

    Contact = Callable[[Spool, Courier, list[str]], Iterable[int]]

Peer = Annotated[
    str | None,
    typer.Argument(
        metavar="[PEER|URL]", help="A [peer.NAME] of the settings, or dir:/path; default: every peer in turn."
    ),
]
Routes = Annotated[
    list[str] | None, typer.Argument(metavar="[ROUTE]...", help="Default: the peer's routes, or all there are.")
]


def with_each(peer: str | None, config: str | None, spool: str | None, contact: Contact) -> int:
    """Run ``contact`` (spool, courier, the peer's routes; gives exit codes) with each peer; the worst of its codes.

    Trouble with one peer does not keep the others waiting.
    """
    from bsmtp_batch.cli.words import worst
    from bsmtp_batch.courier.schemes import courier_for
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    store = Spool(settings.node.spool)
    common.become_owner(store.path)
    codes = [0]
    for url, theirs in peers(settings, peer):
        codes += contact(store, courier_for(url), theirs)
    return worst(*codes)


def peers(settings: Settings, wanted: str | None) -> Iterator[tuple[str, list[str]]]:
    """URL and routes of each peer to reach. Raises ``errors.Usage`` when there is none."""
    from bsmtp_batch.errors import Usage

    if wanted is None:
        if not settings.peers:
            raise Usage(
                "it is not said whom to reach, and the settings have no [peer.NAME]",
                safe="Nothing was moved",
                next="name a URL, such as dir:/media/stick, or add a peer to the settings",
            )
        for peer in settings.peers.values():
            yield peer.url, peer.routes
        return
    found = settings.peer(wanted)
    yield (found.url, found.routes) if found is not None else (wanted, [])


def proper(routes: Iterable[str]) -> list[str]:
    """Route names as a user wrote them, as they are. Raises ``errors.Usage``."""
    from bsmtp_batch.spool.routes import proper_name

    return [proper_name(name) for name in routes]


def tell(events: Iterator[Event], *, json: bool) -> list[int]:
    """Print each event as it happens; the exit codes they ask for, and that of the contact as a whole."""
    from bsmtp_batch.errors import Problem

    codes = []
    try:
        for event in events:
            codes.append(event.code)
            if json:
                row = asdict(event)
                common.print_json(
                    [{k: row[k] for k in ("verb", "kind", "party", "name", "messages", "octets", "note")}]
                )
            elif event.code:
                common.complain(_line(event))
            else:
                typer.echo(_line(event))
    except Problem as problem:
        common.complain(f"bsmtp-batch: {problem}")
        codes.append(problem.code)
    return codes


def _line(event: Event) -> str:
    from bsmtp_batch.cli.words import count, size

    parts = [f"{event.verb} {event.party}:" if event.party else f"{event.verb}:"]
    if event.name:
        parts.append(f"batch {event.name} {event.kind}")
        if event.messages:
            parts.append(f"({count(event.messages, 'message')}, {size(event.octets)})")
    else:
        parts.append(event.kind)
    text = " ".join(parts)
    return common.printable(f"{text}: {event.note}" if event.note else text)
