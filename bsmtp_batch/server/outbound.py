"""What waits for an account, over the line that it turned round (RFC 2645 section 5.3): once, or while it stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bsmtp_batch.dispatch import OpenLine, Terms, Watcher, dispatch_route
from bsmtp_batch.edge.sockets import Channel
from bsmtp_batch.errors import Problem
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay.contract import Job, NextJob, Result, Unreachable, nothing_next
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.spool import listing, names
from bsmtp_batch.spool.locks import Busy
from bsmtp_batch.spool.store import Route
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Protocol, Session

LOOK = 0.1
"""Seconds between two looks for new mail while a line stays open."""
ALIVE = 60.0
"""Seconds without mail after which the other side is asked whether it is there."""
RETRY = 300.0
"""Seconds after which what was put off on such a line is tried again."""
STALE = 180.0
"""Seconds without an octet in either direction after which a line is taken for dead when its customer calls again."""
YIELD = 10.0
"""Seconds in which a line that only waits has to make way for a new one of its account."""

FOREIGN = Reply(450, b"4.7.1", b"not every domain named is yours")
BUSY = Reply(451, b"4.3.2", b"another session of yours is at work")
FAULT = Reply(451, b"4.3.0", b"your mail cannot be looked at now")
NOTHING = Reply(453, b"4.0.0", b"you have no mail")


@dataclass(frozen=True)
class Means:
    """What it takes to send: ``rights`` gives for each account its routes and the domains of each, ``seal`` seals what
    waits in a route (raises ``Problem``), ``terms`` and ``watcher`` are for dispatch, ``open_ledger`` opens the ledger
    for the thread that calls it. ``now`` is a clock that only goes forward."""

    node: str
    rights: Callable[[str], Mapping[str, frozenset[str]]]
    route: Callable[[str], Route]
    seal: Callable[[Route], None]
    terms: Terms
    watcher: Watcher
    open_ledger: Callable[[], Ledger]
    tell: Callable[[str], None]
    now: Callable[[], float] = time.monotonic


class Waiting:
    """The way to what waits for each account; one session of an account at a time. Used by several threads."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._lock = threading.Lock()
        self._active: dict[str, Held] = {}

    def hold(self, account: str, domains: tuple[bytes, ...], *, stay: bool) -> Held | Reply:
        """See :class:`~bsmtp_batch.server.contract.Outbound`."""
        rights = self._means.rights(account)
        wanted = {domain.decode("ascii").lower() for domain in domains}
        if not rights or not wanted <= frozenset().union(*rights.values()):
            return FOREIGN
        chosen = [name for name, theirs in rights.items() if not wanted or wanted & theirs]
        held = Held(self, account, [self._means.route(name) for name in chosen], self._means, stay=stay)
        if not self._enter(held):
            return BUSY
        try:
            found: Held | Reply = held if held.any() or stay else NOTHING
        except Busy:
            found = BUSY
        except (Problem, OSError) as error:
            self._means.tell(f"odmr {account}: {error}")
            found = FAULT
        if found is not held:
            held.close()
        return found

    def _enter(self, held: Held) -> bool:
        """Be the one session of the account; an older one that only waits for mail, or on whose line nothing has moved
        for a while, has to go: whose line has died without a word would be locked out by his own ghost."""
        with self._lock:
            older = self._active.get(held.account)
        if older is not None and not (older.yields and older.make_way()):
            return False
        with self._lock:
            return self._active.setdefault(held.account, held) is held

    def leave(self, held: Held) -> None:
        """The session of ``held`` is over."""
        with self._lock:
            if self._active.get(held.account) is held:
                del self._active[held.account]


class Held:
    """See :class:`~bsmtp_batch.server.contract.Turn`."""

    def __init__(self, waiting: Waiting, account: str, routes: Sequence[Route], means: Means, *, stay: bool) -> None:
        self.account = account
        self.idle = False
        """Whether nothing is being sent: the line is only kept open."""
        self._waiting = waiting
        self._routes = routes
        self._means = means
        self._stay = stay
        self._channel: _Watched | None = None
        self._batches = self._octets = 0
        self._seen: frozenset[str] = frozenset()
        """What lay there when it was last tried to send it: only what is not among it is news."""
        self._over = False
        """Whether the line is not to stay any longer."""
        self._gone = threading.Event()

    def any(self) -> bool:
        """Seal what waits; whether there is anything to send. Raises ``Problem``, ``OSError``."""
        found = False
        for route in self._routes:
            with route.contact():
                pass  # raises Busy where another contact has this mail in hand
            self._seal(route)
            found = bool(route.sealed()) or found
        return found

    def send(self, channel: Channel, session: Session) -> None:
        """See :class:`~bsmtp_batch.server.contract.Turn`."""
        self._channel = channel = _Watched(channel, self._means.now)
        connection = SmtpConnection(channel, Protocol.SMTP, session=session)
        started, before = time.time(), self._means.now()
        result = "ok"
        try:
            with self._means.open_ledger() as ledger:
                try:
                    connection.greet(self._means.node)
                    lent = _Lent(connection)
                    self._seen = frozenset().union(*(_files(route, names.READY) for route in self._routes))
                    result = self._all(lent, ledger)
                    if self._stay and not lent.lost:
                        self._keep(lent, ledger)
                except Unreachable as unreachable:
                    result = str(unreachable)
                finally:
                    ledger.record_contact(
                        f"odmr:{self.account}", "push", started, time.time(), self._batches, self._octets, result
                    )
        except (Problem, OSError) as problem:
            result = str(problem)
        finally:
            connection.close()
            spent = self._means.now() - before
            self._means.tell(
                f"odmr {self.account}: {self._batches} batches, {self._octets} octets in {spent:.0f} s: {result}"
            )

    def end(self) -> None:
        """See :class:`~bsmtp_batch.server.contract.Turn`."""
        self._over = True

    @property
    def yields(self) -> bool:
        """Whether it would be no loss to end this line."""
        channel = self._channel
        return self.idle or (channel is not None and self._means.now() - channel.moved >= STALE)

    def make_way(self) -> bool:
        """End the line, on which nothing goes on; whether it has ended."""
        self.end()
        if self._channel is not None:
            self._channel.close()
        return self._gone.wait(YIELD)

    def close(self) -> None:
        """See :class:`~bsmtp_batch.server.contract.Turn`."""
        self._waiting.leave(self)
        self._gone.set()

    def _all(self, lent: _Lent, ledger: Ledger) -> str:
        """Send what is sealed; what was in the way."""
        result = "ok"
        for route in self._routes:
            if lent.lost:
                break
            target = OpenLine(lent, f"odmr:{self.account}")
            means = self._means
            found = dispatch_route(route, target, ledger=ledger, terms=means.terms, watcher=means.watcher)
            self._batches, self._octets = self._batches + found.batches, self._octets + found.octets
            result = found.result if result == "ok" else result
        return lent.lost or result

    def _keep(self, lent: _Lent, ledger: Ledger) -> None:
        """Send what comes, as soon as it is there, until the line ends."""
        heard = tried = self._means.now()
        while not lent.lost and not self._over:
            self.idle = True
            now = self._means.now()
            if self._waiting_files() - self._seen or now - tried >= RETRY:
                self.idle = False
                self._sealed_all()
                self._all(lent, ledger)
                heard = tried = self._means.now()
            elif now - heard >= ALIVE:
                lent.still_there()
                heard = self._means.now()
            if not lent.lost:
                self._rest(lent)

    def _sealed_all(self) -> None:
        """Seal what has come in, and take note of what is there before any of it is sent.

        Before, and not behind: what others seal while mail is sent, and what comes in behind a look, is still news.
        What nothing can be done about, such as a file that is no message, is none at the next look.
        """
        seen: set[str] = set()
        for route in self._routes:
            there = _files(route, names.NEW)
            if self._seal(route):
                seen |= there
        self._seen = frozenset(seen).union(*(_files(route, names.READY) for route in self._routes))

    def _rest(self, lent: _Lent) -> None:
        """Wait a moment, and hear when the other side ends the line meanwhile: it has nothing else to say."""
        assert self._channel is not None
        try:
            self._channel.receive(LOOK)
            lent.lost = "the customer ended the connection"
        except TimeoutError:
            pass
        except OSError as error:
            lent.lost = f"the connection was lost: {error}"

    def _waiting_files(self) -> frozenset[str]:
        """Mail that has come in, and batches that wait, whoever has sealed them."""
        return frozenset().union(
            *(_files(route, directory) for route in self._routes for directory in (names.NEW, names.READY))
        )

    def _seal(self, route: Route) -> bool:
        """Whether it was for us to do."""
        try:
            self._means.seal(route)
        except Busy:
            return False  # whoever is at it seals the same mail
        return True


def _files(route: Route, directory: str) -> frozenset[str]:
    """The paths of what lies in ``directory``."""
    return frozenset(found.path for found in listing.entries(route.at(directory), lenient=True))


class _Watched:
    """A :class:`~bsmtp_batch.edge.sockets.Channel` that remembers when something ``moved`` on it last."""

    def __init__(self, channel: Channel, now: Callable[[], float]) -> None:
        self._channel = channel
        self._now = now
        self.moved = now()

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """See ``Channel``."""
        self._channel.send(data, seconds)
        self.moved = self._now()

    def receive(self, seconds: float) -> bytes:
        """See ``Channel``."""
        data = self._channel.receive(seconds)
        self.moved = self._now()
        return data

    def close(self) -> None:
        """See ``Channel``."""
        self._channel.close()


class _Lent:
    """A connection that is used again after whoever used it has closed it; ``lost`` says why it is of no more use."""

    def __init__(self, connection: SmtpConnection) -> None:
        self._connection = connection
        self.lost = ""

    def carry(self, job: Job, before_dot: Callable[[], None], next_job: NextJob = nothing_next) -> Result:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        result = self._connection.carry(job, before_dot, next_job)
        self.lost = self.lost or result.ended
        return result

    def still_there(self) -> bool:
        """See :class:`~bsmtp_batch.replay.smtp.SmtpConnection`."""
        if not self._connection.still_there():
            self.lost = self.lost or "it does not answer any more"
        return not self.lost

    def close(self) -> None:
        """Not yet."""
