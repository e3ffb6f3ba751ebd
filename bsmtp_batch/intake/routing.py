"""Which route a recipient's mail waits under, and whether that route takes it: the same limits as in ``deliver``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bsmtp_batch.deliver.answers import Answer
from bsmtp_batch.deliver.intake import limits_of
from bsmtp_batch.spool.names import LIMITS, NEW, OUT, TMP, Limits, valid_route
from bsmtp_batch.wire.command import split_domain
from bsmtp_batch.wire.events import Reply

FRESH = 1.0
"""Seconds for which what was seen of a route is believed."""
MANY = 50_000
"""Domains that are remembered."""


class Refused(Exception):
    """Something is not taken; ``reply`` says why, to the client."""

    def __init__(self, code: int, status: bytes, words: str) -> None:
        super().__init__(words)
        self.reply = Reply(code, status, words.encode("utf-8", "replace"))


def later(words: str, status: bytes = b"4.3.0") -> Refused:
    """The MTA keeps the mail and tries again."""
    return Refused(451, status, words)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A route as it was seen: its directory ``home`` and its ``limits``."""

    name: str
    home: str
    limits: Limits


@dataclass(slots=True)
class _Seen:
    route: Route
    stamp: tuple[int, int, int]
    when: float


class Routes:
    """The routes of ``spool``. ``domains`` gives the route of a domain that is not called like it, ``fallback`` is the
    route of everything else (``""``: none). For one thread."""

    def __init__(
        self,
        spool: str,
        domains: Mapping[bytes, str],
        fallback: str,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._domains = domains
        self._fallback = fallback
        self._now = now
        self._names: dict[bytes, str] = {}
        self._seen: dict[str, _Seen] = {}

    def of(self, path: bytes) -> Route:
        """The route of the recipient ``path``. Raises :class:`Refused`."""
        domain = split_domain(path)[1]
        name = self._names.get(domain)
        if name is None:
            name = self._named(domain)
        if name:
            route = self._look(name)
            if route is not None:
                self._names[domain] = name
                return route
        if self._fallback and (not name or name == self._fallback or self._domains.get(plain(domain)) is None):
            route = self._look(self._fallback)
            if route is not None:
                return route
            name = self._fallback
        raise _no_route(domain, name)

    def floor(self) -> tuple[int, int]:
        """Octets and inodes under which no route takes anything. Slow: it reads the limits of all."""
        lowest = None
        for name in os.listdir(f"{self._spool}/{OUT}"):
            try:
                limits = limits_of(f"{self._spool}/{OUT}/{name}") if valid_route(os.fsencode(name)) else None
            except (Answer, OSError):
                continue
            if limits is not None:
                at = limits.min_free, limits.min_inodes
                lowest = at if lowest is None else (min(lowest[0], at[0]), min(lowest[1], at[1]))
        return lowest or (Limits().min_free, Limits().min_inodes)

    def _named(self, domain: bytes) -> str:
        """The name of the route that ``domain`` belongs to, whether there is one or not; ``""`` where none can be."""
        if len(self._names) > MANY:
            self._names.clear()
            self._seen.clear()
        label = plain(domain)
        found = self._domains.get(label)
        if found is not None:
            return found
        return label.decode("ascii") if valid_route(label) else ""

    def _look(self, name: str) -> Route | None:
        seen = self._seen.get(name)
        now = self._now()
        if seen is not None and now - seen.when < FRESH:
            return seen.route
        home = f"{self._spool}/{OUT}/{name}"
        try:
            os.stat(f"{home}/{NEW}")
        except FileNotFoundError:
            self._seen.pop(name, None)
            return None
        except OSError as error:
            raise later(f"the route {name} cannot be looked at: {error.strerror}") from None
        for directory in (TMP, NEW):
            if not os.access(f"{home}/{directory}", os.W_OK | os.X_OK):
                raise later(f"the route {name} cannot be written to: {home}/{directory} belongs to somebody else")
        stamp = _stamp(f"{home}/{LIMITS}")
        if seen is None or seen.stamp != stamp:
            try:
                seen = _Seen(Route(name, home, limits_of(home)), stamp, now)
            except Answer as answer:
                raise later(answer.text.removeprefix("4.3.0 ")) from None
            except OSError as error:
                raise later(f"the limits of route {name} cannot be read: {error.strerror}") from None
            self._seen[name] = seen
        seen.when = now
        return seen.route


def plain(domain: bytes) -> bytes:
    """``domain`` in lower case, as A-labels; as it is where that cannot be done without changing its meaning."""
    lower = domain.lower()
    if lower.isascii():
        return lower
    text = lower.decode("utf-8", "replace").lower()
    try:
        label = text.encode("idna")  # older IDNA maps some letters to others: what does not come back is another name
        return label.lower() if label.decode("idna") == text else lower
    except UnicodeError:
        return lower


def _no_route(domain: bytes, name: str) -> Refused:
    what = domain.decode("utf-8", "replace") or "addresses without a domain"
    remedy = f"make it with: bsmtp-batch route add {name}" if name else "name one as lmtp_route in [serve]"
    if name and name != what.lower():
        what = f"{what}, which is for {name}"
    return later(f"there is no route for {what}; your MTA keeps the mail. Next: {remedy}")


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0, 0
    except OSError:
        return -1, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
