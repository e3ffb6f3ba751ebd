"""``bsmtp-batch pull odmr://``: our mail is collected from a provider, message by message."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from bsmtp_batch.cli import common, sending
from bsmtp_batch.cli.importing import Console as ImportConsole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bsmtp_batch.config import Peer as Section
    from bsmtp_batch.config import Settings
    from bsmtp_batch.courier.contact import Terms
    from bsmtp_batch.importer.one import Options
    from bsmtp_batch.ledger import Ledger
    from bsmtp_batch.odmr import Event, Means, Provider, Stop
    from bsmtp_batch.odmr import Terms as Bound
    from bsmtp_batch.replay.contract import Connection, Target
    from bsmtp_batch.spool.store import Route, Spool

AGAIN = 60.0
"""Seconds after which a standing pull tries to import once more what its mail server did not take."""
LAST_IMPORT = 30.0
"""Seconds that the import at work has to come to its end when a standing pull is ended."""


@dataclass(frozen=True)
class Wishes:
    """What was said on the command line: whose mail (none: what the peer says), whether the line is to stay, whether
    messages go straight to the mail server ``to`` (``""``: [import] to), whether ours stays here."""

    domains: tuple[str, ...] = ()
    stay: bool = False
    direct: bool = False
    to: str = ""
    receive_only: bool = False
    dry_run: bool = False
    json: bool = False


class Collecting:
    """The contacts with one peer."""

    def __init__(
        self, store: Spool, settings: Settings, name: str, section: Section, *, terms: Terms, wishes: Wishes
    ) -> None:
        self._store = store
        self._settings = settings
        self._section = section
        self._terms = terms
        self._wishes = wishes
        self._provider = _provider(section, settings.node.name)
        self._origin = _origin(name, self._provider.place.host)

    def run(self) -> list[int]:
        """Make the contact, or with ``stay`` one after the other; the exit codes."""
        from bsmtp_batch.ledger import Ledger
        from bsmtp_batch.odmr import Stop, collect, stand
        from bsmtp_batch.spool.routes import make_spool

        wishes = self._wishes
        bound = self._bound()
        if wishes.dry_run:
            self._preview()
            return []
        make_spool(self._store.path)
        with ExitStack() as stack:
            ledger = stack.enter_context(Ledger(self._store.ledger))
            stop = Stop()
            means = self._means(stack, ledger, stop)
            if not wishes.stay:
                return [collect(self._provider, means(), bound).code]
            stack.enter_context(_heard(stop))
            stand(lambda: collect(self._provider, means(), bound), stop, tell=_complain)
        return [0]

    # -- what a contact is made of -------------------------------------------------------------------------------

    def _bound(self) -> Bound:
        from bsmtp_batch.errors import Usage
        from bsmtp_batch.odmr import Terms as Bound

        wishes, terms = self._wishes, self._terms
        if wishes.stay and (terms.until is not None or terms.max_octets is not None):
            raise Usage(
                "a window and max_bytes are for contacts that end, and a standing pull does not",
                safe="Nothing was moved",
                next="leave out --stay, or --window and --max-bytes (also in the peer's settings)",
            )
        domains = wishes.domains or tuple(self._section.domains)
        return Bound(
            self._settings.node.name,
            _domains(domains),
            wishes.stay,
            max_octets=terms.max_octets,
            until=terms.until,
        )

    def _means(self, stack: ExitStack, ledger: Ledger, stop: Stop) -> Callable[[], Means]:
        from bsmtp_batch.ledger import Ledger
        from bsmtp_batch.odmr import Means
        from bsmtp_batch.reception.store import Store
        from bsmtp_batch.spool.inbox import Inbox

        watcher = Console(json=self._wishes.json, stay=self._wishes.stay)
        inbox, path = Inbox(self._store.path, self._origin), self._store.ledger
        store = Store(inbox, self._settings.node.name, lambda: Ledger(path), tell=_complain)
        if self._wishes.direct:
            from bsmtp_batch.reception.direct import Direct

            direct = Direct(self._target(), store, directory=self._store.path, tell=_complain)
            stack.callback(direct.close)
            return lambda: Means(direct, ledger, watcher, direct.policy, self._up(ledger), stop=stop)
        arrived = stack.enter_context(self._importing()) if self._wishes.stay else _nothing
        return lambda: Means(store, ledger, watcher, None, self._up(ledger), arrived, stop)

    def _target(self) -> Target:
        from bsmtp_batch.cli.importing import target_of

        target = target_of(self._wishes.to or self._settings.imports.to, self._settings.node.name, needed=True)
        assert target is not None
        return target

    # -- our own mail --------------------------------------------------------------------------------------------

    def _ours(self) -> list[Route]:
        """The routes whose mail goes up and that have any."""
        if self._wishes.receive_only:
            return []
        there = self._store.routes()
        routes = self._store.chosen([name for name in self._section.routes if name in there]) if there else []
        return [route for route in routes if route.sealed()]

    def _up(self, ledger: Ledger) -> Callable[[Connection], int] | None:
        from bsmtp_batch.dispatch import OpenLine, dispatch_routes
        from bsmtp_batch.dispatch import Terms as Limits

        routes = self._ours()
        if not routes:
            return None
        terms = self._terms
        limits = Limits(self._settings.node.name, sending.notices(self._settings), terms.max_octets, terms.until)
        watcher = sending.Console(json=self._wishes.json)

        def up(connection: Connection) -> int:
            target = OpenLine(connection, self._provider.name)
            return dispatch_routes(routes, target, ledger=ledger, terms=limits, watcher=watcher).code

        return up

    # -- what was taken ------------------------------------------------------------------------------------------

    @contextmanager
    def _importing(self) -> Iterator[Callable[[], None]]:
        """Have an import at work while the context lasts: gives what to call when there is mail for it."""
        from bsmtp_batch.cli.importing import basics_from, options_of

        options = options_of(basics_from(self._settings), to=self._wishes.to)
        worker = Importer(lambda: _import(options, Arrivals(json=self._wishes.json, yes=False)))
        worker.start()
        try:
            yield worker.wake
        finally:
            worker.end()

    def _preview(self) -> None:
        from bsmtp_batch.cli.words import count

        whose = ", ".join(self._wishes.domains or self._section.domains) or "all that the account may have"
        name = self._provider.name
        routes = self._ours()
        if self._wishes.json:
            rows = [{"route": route.name, "name": one.name} for route in routes for one in route.sealed()]
            common.print_json([*rows, {"provider": name, "domains": whose}])
            return
        for route in routes:
            typer.echo(f"would hand in {route.name}: {count(len(route.sealed()), 'batch', 'batches')} to {name}")
        typer.echo(common.printable(f"would collect from {name}: {whose}; what waits there is not known before"))


class Importer(threading.Thread):
    """Calls ``work`` (it says whether something is left for later) whenever it was woken, and after a while when
    something was left. The line is answered meanwhile: a mail server that is slow is no reason to lose it."""

    def __init__(self, work: Callable[[], bool], *, again: float = AGAIN) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._again = again
        self._woken = threading.Event()
        self._ending = False
        self._woken.set()  # what an earlier run has left

    def wake(self) -> None:
        """There is mail."""
        self._woken.set()

    def end(self) -> None:
        """Import what is there, as far as that takes no long time, and end."""
        self._ending = True
        self._woken.set()
        self.join(LAST_IMPORT)

    def run(self) -> None:
        """See ``threading.Thread``."""
        left = False
        while True:
            self._woken.wait(self._again if left else None)
            ending = self._ending
            self._woken.clear()
            left = self._work()
            if ending:
                return


class Arrivals(ImportConsole):
    """Tells what becomes of what was collected; what concerns the settings is told once."""

    def __init__(self, *, json: bool, yes: bool) -> None:
        super().__init__(json=json, yes=yes)
        self._said: set[str] = set()

    def trouble(self, what: str) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        if what not in self._said:
            self._said.add(what)
            super().trouble(what)


class Console:
    """Tells what happens in a contact; see :class:`~bsmtp_batch.odmr.contact.Watcher`."""

    def __init__(self, *, json: bool, stay: bool) -> None:
        self._json = json
        self._stay = stay

    def event(self, event: Event) -> None:
        """A row for programs; for people a line about the contact, and while a line stands about each message."""
        if self._json:
            row = {"verb": event.verb, "kind": event.kind, "party": event.party, "messages": event.messages}
            common.print_json([row | {"octets": event.octets, "note": event.note}])
        elif event.code:
            common.complain(_line(event))
        elif event.kind != "message" or self._stay or not event.messages:
            typer.echo(_line(event))


def _line(event: Event) -> str:
    from bsmtp_batch.cli.words import count, size

    said = f"{count(event.messages, 'message')} ({size(event.octets)})"
    words = {
        "taken": f"{said} taken",
        "empty": "nothing waits" if not event.messages else f"{said} taken",
        "later": f"{said} taken, and then" if event.messages else "later",
        "fault": "settings to be changed",
        "message": f"a message of {size(event.octets)} {'taken' if event.messages else 'not taken'}",
        "notice": "notice",
    }[event.kind]
    text = f"{event.verb} {event.party}: {words}"
    return common.printable(f"{text}: {event.note}" if event.note else text)


def _import(options: Options, watcher: Arrivals) -> bool:
    """Import what has arrived; whether something is left for later."""
    from bsmtp_batch.errors import Later, Problem
    from bsmtp_batch.importer import stage

    try:
        return stage.run([], options, watcher) == Later.code
    except (Problem, OSError) as problem:
        watcher.trouble(str(problem))
        return True


def _provider(section: Section, node: str) -> Provider:
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.odmr import Access, Provider, address
    from bsmtp_batch.replay.address import BadUrl

    try:
        place = address.parse(section.url)
    except BadUrl as error:
        raise Usage(str(error), safe="Nothing was moved", next=f"write {address.FORMS}") from error
    mode = "starttls" if section.tls == "opportunistic" else section.tls
    user = (place.user or section.user).encode()
    password = sending.secret(section.secret_file) if section.secret_file else b""
    if user and not password and not section.cert_file:
        raise Usage(
            f"there is no password for the user of {place}",
            safe="Nothing was moved",
            next="name the file that holds it: --secret-file FILE, or secret_file in the peer's settings",
        )
    access = Access(mode, section.ca_file, section.cert_file, section.key_file, user, password)
    return Provider(place, access, node=node)


def _origin(name: str, host: str) -> str:
    """The directory below in/: the peer's name, or the provider's host."""
    from bsmtp_batch.spool.names import route_name

    for text in (name, host, "ip6-" + host.partition("%")[0].replace(":", "-").strip("-")):
        try:
            return route_name(text.encode())
        except ValueError:
            continue
    return "provider"


def _domains(names: tuple[str, ...]) -> tuple[bytes, ...]:
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.wire.events import Atrn, PeerProblem
    from bsmtp_batch.wire.verbs import Protocol, format_request

    domains = tuple(name.encode() for name in names)
    try:
        format_request(Atrn(domains), Protocol.SMTP)
    except (PeerProblem, ValueError) as error:
        raise Usage(
            f"{', '.join(names)!r} cannot be asked for: {error}",
            safe="Nothing was moved",
            next="name domains as they stand in DNS, each with a dot in it",
        ) from error
    return domains


@contextmanager
def _heard(stop: Stop) -> Iterator[None]:
    """SIGTERM and SIGINT end what goes on, in its time."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _complain(what: str) -> None:
    common.complain(f"pull: {common.printable(what)}")


def _nothing() -> None:
    """Nobody waits for a message."""
