"""A hub with sealed mail for one customer, and dispatches of it: what the tests of dispatch share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from support.fragments import make_route, put
from support.importing import Letter

from bsmtp_batch.batch.writer import END, transaction
from bsmtp_batch.dispatch import CustomerServer, Event, Security, Summary, Terms, dispatch_route, dispatch_routes
from bsmtp_batch.dispatch.address import parse
from bsmtp_batch.edge.mx import Names, NoExchanger
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay import address, targets
from bsmtp_batch.replay.journal import Line
from bsmtp_batch.seal import Caps, Sealed, seal_route
from bsmtp_batch.spool.store import Route
from bsmtp_batch.wire.dots import stuff

NODE = "hub.example"
ROUTE = "site.example"


@dataclass
class Zone:
    """A scripted :class:`~bsmtp_batch.edge.mx.Names`: ``mx`` by domain (an exception is raised), ``hosts`` by name."""

    mx: dict[str, list[tuple[int, str]] | NoExchanger] = field(default_factory=dict)
    hosts: dict[str, list[str]] = field(default_factory=dict)
    mine: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def exchangers(self, domain: str) -> list[tuple[int, str]]:
        self.asked.append(domain)
        found = self.mx.get(domain, [])
        if isinstance(found, NoExchanger):
            raise found
        return list(found)

    def addresses(self, host: str) -> list[str]:
        if host.replace(".", "").isdigit():
            return [host]
        if host not in self.hosts:
            raise OSError(-2, "Name or service not known")
        return self.hosts[host]

    def ours(self, address: str) -> bool:
        return address in self.mine


@dataclass
class Told:
    """A watcher that remembers, and what the dispatch came to."""

    events: list[Event] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def line(self, line: Line) -> None:
        self.lines.append(line)

    @property
    def code(self) -> int:
        return self.summary.code

    @property
    def outcomes(self) -> list[str]:
        return [line.outcome for line in self.lines]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def said(self, text: str) -> bool:
        return any(text in event.note for event in self.events)


class Hub:
    """The spool ``base`` with a route."""

    def __init__(self, base: Path, name: str = ROUTE) -> None:
        self.spool = base
        self.route: Route = make_route(base, name)
        self._handed = 0

    def seal(self, letters: Iterable[Letter], *, count: int = 10_000) -> list[str]:
        """Hand ``letters`` in and seal them into batches of ``count``; the names of the batches."""
        now = 1_700_000_000
        for one in letters:
            self._handed += 1
            data = transaction(one.mail, one.rcpts) + stuff(one.content) + END
            path = self.route.at("new", put(self.route, data, queue_id=f"Q{self._handed}"))
            os.utime(path, (now + self._handed, now + self._handed))
        events = seal_route(self.route, node="hub", caps=Caps(messages=count), reserve_size=0)
        return [event.name for event in events if isinstance(event, Sealed)]

    def ledger(self) -> Ledger:
        return Ledger(f"{self.spool}/ledger.db")

    def ready(self) -> list[str]:
        return self._batches("ready")

    def kept(self) -> list[str]:
        return self._batches("kept")

    def dead(self) -> list[str]:
        return sorted(path.name for path in Path(self.route.at("dead")).iterdir())

    def _batches(self, directory: str) -> list[str]:
        return sorted(path.name for path in Path(self.route.at(directory)).glob("*.bsmtp"))

    def terms(self, notices: str = "", **more) -> Terms:
        target = targets.target_of(address.parse(notices), node=NODE, patience=0.1) if notices else None
        return Terms(NODE, target, **more)

    def send(
        self, target: object, *, notices: str = "", more=None, names: Names | None = None, security=None, **terms
    ) -> Told:
        """One dispatch to ``target``, a URL or a target."""
        told = Told()
        if isinstance(target, str):
            target = server(target, names=names, security=security or Security())
        with self.ledger() as ledger:
            arguments = {"ledger": ledger, "terms": self.terms(notices, **terms), "watcher": told}
            if more is not None:
                told.summary = dispatch_route(self.route, target, more=more, **arguments)
            else:
                told.summary = dispatch_routes([self.route], target, **arguments)
        return told


def server(
    url: str, *, names: Names | None = None, security: Security | None = None, patience: float = 0.1
) -> CustomerServer:
    return CustomerServer(parse(url), security or Security(), node=NODE, names=names, patience=patience)


def boxed(url: str) -> str:
    """``url`` with its host in brackets: the server itself."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition(":")
    return f"{scheme}://[{host}]:{port}"
