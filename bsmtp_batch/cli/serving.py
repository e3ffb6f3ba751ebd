"""What ``serve`` is made of: from the settings to ports, accounts, the way to their mail, pushes it may start."""

from __future__ import annotations

import secrets
import threading
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

from bsmtp_batch.accounts.backoff import Backoff
from bsmtp_batch.accounts.gate import Gate
from bsmtp_batch.accounts.work import Work
from bsmtp_batch.cli import sending
from bsmtp_batch.cli.hours import closes
from bsmtp_batch.cli.logins import verifier_of
from bsmtp_batch.config_values import seconds
from bsmtp_batch.dispatch import Event, Terms
from bsmtp_batch.edge.listening import Socket, listening, without_detail
from bsmtp_batch.edge.log import tell
from bsmtp_batch.edge.serving_tls import server_context
from bsmtp_batch.errors import Later, Problem, Setting
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.reception.contract import Limits
from bsmtp_batch.reception.store import Store
from bsmtp_batch.server.contract import Hub
from bsmtp_batch.server.daemon import Port
from bsmtp_batch.server.line import Listener
from bsmtp_batch.server.outbound import Means, Waiting
from bsmtp_batch.server.schedule import Entry, Schedule
from bsmtp_batch.server.triggers import Pushes, PushTriggers
from bsmtp_batch.spool import listing, names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Route, Spool

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from bsmtp_batch.config import Settings
    from bsmtp_batch.reception.contract import Sink
    from bsmtp_batch.replay.journal import Line


class Serving:
    """Binds the ports and reads the certificates when it is made, and nothing else: that may have to be done as root.

    Raises :class:`~bsmtp_batch.errors.Problem`.
    """

    def __init__(self, settings: Settings, movers: Executor) -> None:
        self._settings = settings
        self._spool = Spool(settings.node.spool)
        self._movers = movers
        self._ending = threading.Event()
        self._tls = _context(settings)
        self._clear = [_bound(where) for where in settings.serve.odmr]
        self._secure = [_bound(where) for where in settings.serve.odmr_tls]
        self._triggers = PushTriggers(self._pushes(), movers)

    @property
    def where(self) -> str:
        """The addresses, in words."""
        names = [one.getsockname()[:2] for one in (*self._clear, *self._secure)]
        return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in names)

    def tell(self, line: str) -> None:
        """A line for the log."""
        tell(line)

    def end(self) -> None:
        """Have pushes end with the message under way; those that wait for their turn are not begun."""
        self._ending.set()

    def ports(self) -> list[Port]:
        """What to serve; to be called in the event loop."""
        hub, gate = self._hub(), Gate(Backoff(time.monotonic), Work())
        clear, secure = Listener(hub, gate, self._tls), Listener(hub, gate, self._tls, implicit=True)
        return [Port(one, clear) for one in self._clear] + [Port(one, secure) for one in self._secure]

    def _hub(self) -> Hub:
        settings = self._settings
        return Hub(
            name=settings.node.name,
            accounts=verifier_of(settings),
            outbound=Waiting(self._means()),
            triggers=self._triggers,
            sink=self._sink,
            nonce=lambda: secrets.token_urlsafe(24).encode(),
            tell=self.tell,
            starttls=self._tls is not None,
            clear=settings.serve.passwords_in_clear,
            etrn=bool(settings.serve.etrn_from or self._peers()),
            limits=Limits(octets=settings.serve.max_size),
        )

    # --- mail in both directions --------------------------------------------------------------------------------

    def _sink(self, account: str) -> Sink:
        """What a customer hands in arrives like a batch of his: in ``in/`` under the name of his first route."""
        routes = self._settings.accounts[account].routes
        origin = routes[0] if routes else "local"
        return Store(Inbox(self._spool.path, origin), self._settings.node.name, self._ledger, tell=self.tell)

    def _ledger(self) -> Ledger:
        return Ledger(self._spool.ledger)

    def _means(self) -> Means:
        settings = self._settings
        return Means(
            node=settings.node.name,
            rights=self._rights,
            route=lambda name: Route(self._spool.path, name),
            seal=self._seal,
            terms=Terms(settings.node.name, sending.notices(settings)),
            watcher=_Watcher(),
            open_ledger=self._ledger,
            tell=self.tell,
        )

    def _rights(self, account: str) -> Mapping[str, frozenset[str]]:
        found = self._settings.accounts.get(account)
        there = set(self._spool.routes())
        return {name: self._domains(name) for name in (found.routes if found else []) if name in there}

    def _domains(self, route: str) -> frozenset[str]:
        return frozenset({route, *self._settings.route(route).domains})

    def _seal(self, route: Route) -> None:
        from bsmtp_batch.cli.seal import events

        for event in events(self._settings, route, None):
            if not hasattr(event, "sha256"):
                self.tell(f"seal {route.name}: {event}")

    def schedule(self) -> Schedule:
        """The pushes that nobody asks for."""
        return Schedule(
            [
                Entry(name, tuple(peer.routes), _every(peer.schedule), _open(peer.window))
                for name, peer in self._settings.peers.items()
                if peer.schedule and peer.url.startswith("smtp:")
            ],
            fresh=lambda name: self._holds(name, names.NEW),
            sealed=lambda name: self._holds(name, names.READY),
            start=lambda peer, routes: self._triggers.start(peer, routes, pause=1.0),
        )

    def _holds(self, route: str, directory: str) -> bool:
        entries = listing.entries(Route(self._spool.path, route).at(directory), lenient=True)
        return any(isinstance(entry, listing.Entry) for entry in entries)

    # --- pushes -------------------------------------------------------------------------------------------------

    def _peers(self) -> dict[str, str]:
        """For each route the peer with a server of its own."""
        found: dict[str, str] = {}
        for name, peer in self._settings.peers.items():
            if peer.url.startswith("smtp:"):
                found |= {route: name for route in peer.routes if route not in found}
        return found

    def _pushes(self) -> Pushes:
        settings = self._settings
        return Pushes(
            domains=lambda: {name: self._domains(name) for name in self._spool.routes()},
            peers=self._peers(),
            rights=self._rights,
            networks=tuple(map(ip_network, settings.serve.etrn_from)),
            knocks={address: name for name, peer in settings.peers.items() for address in peer.knocks},
            run=self._push,
        )

    def _push(self, name: str, routes: tuple[str, ...]) -> None:
        if self._ending.is_set():
            return
        peer = self._settings.peers[name]
        try:
            target = sending.server(peer, self._settings.node.name)
            chosen = [Route(self._spool.path, route) for route in routes]
            for route in chosen:
                self._seal(route)
            terms = Terms(
                self._settings.node.name,
                sending.notices(self._settings),
                peer.max_bytes or None,
                ended=self._ending.is_set,
            )
            from bsmtp_batch.dispatch import dispatch_routes

            with self._ledger() as ledger:
                dispatch_routes(chosen, target, ledger=ledger, terms=terms, watcher=_Watcher())
        except (Problem, OSError) as error:
            self.tell(f"push {name}: {error}")


class _Watcher:
    """Tells the log what happens to batches; see :class:`~bsmtp_batch.dispatch.events.Watcher`."""

    def event(self, event: Event) -> None:
        """A line about a batch."""
        what = f" batch {event.name}" if event.name else ""
        tell(f"{event.verb} {event.party}:{what} {event.kind}: {event.note}".rstrip(": "))

    def line(self, line: Line) -> None:
        """Recipients are in the ledger."""


def _every(schedule: str) -> float:
    """Seconds; 0: at once."""
    found = 0 if schedule == "at once" else seconds(schedule)
    assert isinstance(found, int)
    return float(found)


def _open(window: str) -> Callable[[], bool]:
    return lambda: not window or closes(window, time.time()) is not None


def _context(settings: Settings) -> ssl.SSLContext | None:
    serve = settings.serve
    if not serve.certificate:
        return None
    try:
        return server_context(serve.certificate, serve.key, serve.client_ca)
    except OSError as error:
        raise Setting(
            f"the certificate {serve.certificate} (or its key, or client_ca) cannot be used: {error.strerror or error}",
            safe="Nothing was started",
            next="name PEM files in [serve] that belong together and that whoever starts `serve` may read",
        ) from error


def _bound(where: str) -> Socket:
    host, _, port = where.rpartition(":")
    try:
        return listening(host.strip("[]"), int(port))
    except OSError as error:
        raise Later(
            f"{where} cannot be listened on: {without_detail(error)}",
            safe="Nothing was started; mail waits in the spool",
            next="see who has the port (ss -ltnp); ports below 1024 need root or CAP_NET_BIND_SERVICE",
        ) from error
