"""How long a guesser waits: per address, and per account as asked for from one address.

A wrong proof counts twice: against the address it came from, and against the pair of the account and that address. It
never counts against the account alone: then anybody could keep a customer out by guessing at its name from elsewhere.
Below :data:`FREE` (:data:`FREE_ADDRESS`) of them nothing happens, because people mistype; from then on each one doubles
the time until the next proof from there is looked at, up to :data:`LONGEST` (:data:`LONGEST_ADDRESS`). Proofs that are
being looked at count like wrong ones, so that a hundred connections at once are not a hundred free tries.

A success clears the pair and not the address: whoever has one account could otherwise guess at the others without end.
But from then on the address no longer counts for that pair, so that a customer need not pay for the neighbours behind
the same address.

An IPv6 network of 64 bits is one address: its holder has all of it. A number of pairs and addresses that is bounded is
remembered, those seen last; whoever commands more addresses than that meets the bound on work (``work.py``).

Nothing of this survives a restart, on purpose. A restart is the operator's and not the guesser's to cause, it saves him
one waiting time, and a table on the disk would let every stranger cause writes beside the mail.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

FREE = 3
FREE_ADDRESS = 10
FIRST = 5.0
"""Seconds after so many wrong proofs; each further one doubles it."""
LONGEST = 900.0
LONGEST_ADDRESS = 60.0
"""Seconds: less for an address, behind which there may be a customer and his neighbours."""
FORGET = 3600.0
"""Seconds without a wrong proof after which all of them are forgotten."""
PATIENCE = 10.0
"""Seconds that a connection is kept waiting; where it would be longer, the proof is refused at once."""

_Key = TypeVar("_Key")


@dataclass(slots=True)
class _Record:
    wrong: int = 0
    last: float = 0.0
    """When the last wrong proof was found to be so."""
    looking: int = 0
    """Proofs that are being looked at, or wait for it."""
    begun: float = 0.0
    """When the last of these came."""

    def opens(self, free: int, longest: float) -> float:
        """The time before which no further proof is looked at."""
        behind = self.begun + delay(self.wrong + self.looking, free, longest) if self.looking else 0.0
        return max(self.last + delay(self.wrong, free, longest), behind)


class Backoff:
    """The memory of wrong proofs. ``clock``: seconds that never go back. ``capacity``: the most pairs, and the most
    addresses, that are remembered. Not for more than one thread: it belongs to the event loop."""

    def __init__(self, clock: Callable[[], float], *, capacity: int = 8192) -> None:
        self._clock = clock
        self._capacity = capacity
        self._addresses: OrderedDict[str, _Record] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def attempt(self, address: str, account: str) -> Attempt:
        """A proof for ``account`` has come from ``address``: when may it be looked at? See :class:`Attempt`."""
        now, place = self._clock(), network(address)
        pair = self._record(self._pairs, (account, place), now)
        whole = self._record(self._addresses, place, now)
        known = (account, place) in self._known
        opens = pair.opens(FREE, LONGEST)
        if not known:
            opens = max(opens, whole.opens(FREE_ADDRESS, LONGEST_ADDRESS))
        if opens - now > PATIENCE:
            return Attempt(self, account, place, wait=None, known=known)
        for record in (pair, whole):
            record.looking += 1
            record.begun = now
        return Attempt(self, account, place, wait=max(0.0, opens - now), known=known)

    def settled(self, account: str, place: str, right: bool | None) -> None:
        """The proof of an attempt that was not refused was right, or wrong, or (None) nobody has looked at it."""
        now = self._clock()
        pair = self._record(self._pairs, (account, place), now)
        whole = self._record(self._addresses, place, now)
        for record in (pair, whole):
            record.looking = max(0, record.looking - 1)
        if right is None:
            return
        if right:
            pair.wrong = 0
            self._known[account, place] = None
            self._known.move_to_end((account, place))
            _trim(self._known, self._capacity)
            return
        for record in (pair, whole):
            record.wrong += 1
            record.last = now

    def __len__(self) -> int:
        """Everything that is remembered."""
        return len(self._addresses) + len(self._pairs) + len(self._known)

    def _record(self, table: OrderedDict[_Key, _Record], key: _Key, now: float) -> _Record:
        record = table.get(key)
        if record is None:
            record = table[key] = _Record()
            _trim(table, self._capacity)
        elif record.wrong and now - record.last > FORGET:
            record.wrong = 0
        table.move_to_end(key)
        return record


class Attempt:
    """One proof that waits to be looked at.

    ``wait``: seconds to wait first; None: refuse it without a look. ``known``: this account has logged in from this
    address since the start, so it goes before strangers where work is scarce. Used as a context: call :meth:`right`
    inside it for a proof that was right. Leaving without that is a wrong one, also when the connection is gone.
    """

    __slots__ = ("_account", "_backoff", "_place", "_right", "known", "wait")

    def __init__(self, backoff: Backoff, account: str, place: str, *, wait: float | None, known: bool) -> None:
        self._backoff = backoff
        self._account = account
        self._place = place
        self._right: bool | None = False
        self.wait = wait
        self.known = known

    def right(self) -> None:
        """The proof was right."""
        self._right = True

    def unseen(self) -> None:
        """The proof was not looked at, for a reason of ours."""
        self._right = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.wait is not None:
            self._backoff.settled(self._account, self._place, self._right)


def network(address: str) -> str:
    """What counts as one place: an IPv4 address, the first 64 bits of an IPv6 one; other words stand for themselves."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
    return str(found)


def delay(wrong: int, free: int, longest: float) -> float:
    """Seconds after ``wrong`` wrong proofs, of which ``free`` cost nothing."""
    return min(longest, FIRST * 2.0 ** min(wrong - free, 60)) if wrong >= free else 0.0


def _trim(table: OrderedDict[Any, Any], capacity: int) -> None:
    while len(table) > capacity:
        table.popitem(last=False)
