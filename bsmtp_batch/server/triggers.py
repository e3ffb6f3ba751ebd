"""Starting a push from outside: ETRN (RFC 1985), and a client that connects, moves no mail and says QUIT.

Neither ever sends anything to whoever asked: mail goes to the server that the settings name for its route. Who asks
learns nothing about domains that are not his.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from bsmtp_batch.server.contract import Client
from bsmtp_batch.wire.events import Reply

PAUSE = 10.0
"""Seconds between two pushes of one route that somebody outside started."""

STARTED = Reply(250, b"2.0.0", b"ok, your mail is on its way")
NOT_YOURS = Reply(459, b"4.7.1", b"that is not for you to ask")
NO_SERVER = Reply(458, b"4.3.0", b"it cannot be sent from here just now")

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True)
class Pushes:
    """What may be started.

    ``domains`` gives the domains of each route there is now; ``peers``: for each route the name of the peer with a
    server of its own, where it has one. ``rights`` gives the routes of an account. ``networks`` may ask for any route,
    ``knocks`` gives the peer whose mail a connection from an address starts. ``run`` pushes to a peer, given routes; it
    blocks, and never raises.
    """

    domains: Callable[[], Mapping[str, frozenset[str]]]
    peers: Mapping[str, str]
    rights: Callable[[str], Iterable[str]]
    networks: Networks
    knocks: Mapping[str, str]
    run: Callable[[str, tuple[str, ...]], None]


class PushTriggers:
    """See :class:`~bsmtp_batch.server.contract.Triggers`. ``executor`` runs the pushes."""

    def __init__(self, pushes: Pushes, executor: Executor, *, now: Callable[[], float] = time.monotonic) -> None:
        self._pushes = pushes
        self._executor = executor
        self._now = now
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._running: set[str] = set()

    def etrn(self, node: bytes, option: bytes, client: Client, account: str | None) -> Reply:
        """See ``Triggers``. ``@`` means the domain and those below it, ``#`` the name of a route."""
        if account is not None:
            allowed = set(self._pushes.rights(account))
        elif any(ip_address(client.address) in network for network in self._pushes.networks):
            allowed = set(self._pushes.domains())
        else:
            return NOT_YOURS
        chosen = [route for route in self._named(node.decode("ascii", "replace").lower(), option) if route in allowed]
        if not chosen:
            return NOT_YOURS
        reachable = [route for route in chosen if route in self._pushes.peers]
        if not reachable:
            return NO_SERVER
        for peer in dict.fromkeys(self._pushes.peers[route] for route in reachable):
            self.start(peer, tuple(route for route in reachable if self._pushes.peers[route] == peer))
        return STARTED

    def connected(self, client: Client) -> None:
        """See ``Triggers``."""
        peer = self._pushes.knocks.get(client.address)
        if peer is not None:
            self.start(peer, tuple(route for route, name in self._pushes.peers.items() if name == peer))

    def _named(self, name: str, option: bytes) -> list[str]:
        there = self._pushes.domains()
        if option == b"#":
            return [name] if name in there else []
        below = f".{name}" if option == b"@" else None
        return [
            route
            for route, domains in there.items()
            if name in domains or (below and any(domain.endswith(below) for domain in domains))
        ]

    def start(self, peer: str, routes: tuple[str, ...], *, pause: float = PAUSE) -> bool:
        """Have ``routes`` pushed to ``peer``, but for those with which that goes on or was done a moment ago, within
        ``pause`` seconds: anybody may knock as often as he likes. Whether any was begun.

        Each route counts for itself: a site with several asks for one after the other, in one session."""
        with self._lock:
            now = self._now()
            due = tuple(
                route
                for route in routes
                if route not in self._running and now - self._last.get(route, float("-inf")) >= pause
            )
            self._running.update(due)
            self._last.update(dict.fromkeys(due, now))
        if not due:
            return False
        try:
            self._executor.submit(self._run, peer, due)
        except RuntimeError:  # no thread can be had: the routes must not count as under way for ever
            self._ended(due)
            raise
        return True

    def _run(self, peer: str, routes: tuple[str, ...]) -> None:
        try:
            self._pushes.run(peer, routes)
        finally:
            self._ended(routes)

    def _ended(self, routes: tuple[str, ...]) -> None:
        with self._lock:
            self._running.difference_update(routes)
            self._last.update(dict.fromkeys(routes, self._now()))
