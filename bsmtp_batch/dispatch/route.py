"""A whole route: every batch that is sealed, small ones first, over one connection, and again while more may come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from bsmtp_batch.dispatch.batch import BatchDispatch, Terms, unsendable
from bsmtp_batch.dispatch.bounds import Bounds
from bsmtp_batch.dispatch.events import Summary, Watcher
from bsmtp_batch.dispatch.server import OpenLine
from bsmtp_batch.errors import Problem
from bsmtp_batch.handover import outgoing
from bsmtp_batch.handover.events import Event
from bsmtp_batch.handover.outgoing import Hindrance
from bsmtp_batch.handover.parcel import Parcel
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay.contract import Target
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.spool import reserve
from bsmtp_batch.spool.store import Route


def dispatch_route(
    route: Route,
    target: Target,
    *,
    ledger: Ledger,
    terms: Terms,
    watcher: Watcher,
    more: Callable[[], bool] = lambda: False,
) -> Summary:
    """Send what is sealed in ``route`` to ``target``, which may be an :class:`OpenLine`.

    ``more`` is asked each time when all that was sealed has been looked at; as long as it says yes (it may wait first)
    what has been sealed meanwhile is sent over the same connection. The route is held while mail is sent, so that no
    other contact sends the same, and let go of while ``more`` is asked: `expire` and the couriers have their turn. A
    route that somebody else holds is tried again after the next yes. Trouble is told to ``watcher`` and in what is
    returned; raises only what ``watcher`` and ``more`` raise.
    """
    with Engine(target, keep=isinstance(target, OpenLine)) as engine:
        return _Dispatch(engine, ledger, terms, watcher, _bounds(terms)).route(route, more)


def dispatch_routes(
    routes: Iterable[Route], target: Target, *, ledger: Ledger, terms: Terms, watcher: Watcher
) -> Summary:
    """Send what is sealed in ``routes`` to ``target``, as one contact, which is noted in the ledger if there was
    anything to send. Raises :class:`~bsmtp_batch.errors.Later` when it cannot be noted."""
    started, found = terms.now(), Summary()
    bounds = _bounds(terms)
    result = "interrupted"
    try:
        with Engine(target, keep=isinstance(target, OpenLine)) as engine:
            for route in routes:
                found.add(_Dispatch(engine, ledger, terms, watcher, bounds).route(route, lambda: False))
        result = found.result
    finally:
        if found.tried or result == "interrupted":
            ledger.record_contact(target.name, "push", started, terms.now(), found.batches, found.octets, result)
    return found


def _bounds(terms: Terms) -> Bounds:
    return Bounds(terms.max_octets, terms.until, clock=terms.now, ended=terms.ended)


class _Dispatch:
    """What every batch of one dispatch needs."""

    def __init__(self, engine: Engine, ledger: Ledger, terms: Terms, watcher: Watcher, bounds: Bounds) -> None:
        self._engine = engine
        self._ledger = ledger
        self._terms = terms
        self._watcher = watcher
        self._bounds = bounds
        self._summary = Summary()

    def route(self, route: Route, more: Callable[[], bool]) -> Summary:
        while True:
            with ExitStack() as stack:
                mine, hindrances = outgoing.enter(stack, [route])
                for hindrance in hindrances:
                    self._tell(unsendable(hindrance.route, "", hindrance.reason, hindrance.code))
                if mine:
                    self._all(route)
            if self._engine.stopped or self._bounds.over or not more():
                return self._summary

    def _all(self, route: Route) -> None:
        found: list[Parcel] = []
        for one in outgoing.ready(route):
            if isinstance(one, Hindrance):
                self._tell(unsendable(one.route, "", one.reason, one.code))
            else:
                found.append(one)
        for parcel in sorted(found, key=lambda p: (p.size, p.name)):
            self._summary.tried = True
            self._one(route, parcel)

    def _one(self, route: Route, parcel: Parcel) -> None:
        """Send one batch; what goes wrong with it is told, and the next one has its turn."""
        try:
            with reserve.lent(route.spool):  # the ledger has to be written, also where the disk is full
                dispatch = BatchDispatch(
                    route,
                    parcel,
                    engine=self._engine,
                    ledger=self._ledger,
                    terms=self._terms,
                    bounds=self._bounds,
                    watcher=self._watcher,
                    tell=self._tell,
                )
                dispatch.run()
            self._summary.octets += dispatch.octets
        except Problem as problem:
            self._tell(unsendable(route.name, parcel.name, str(problem), problem.code))
        except OSError as error:
            reason = f"{error.filename or route.path}: {error.strerror}"
            self._tell(unsendable(route.name, parcel.name, reason, 75))

    def _tell(self, event: Event) -> None:
        self._summary.count(event)
        self._watcher.event(event)
