"""The spool as the stages see it: its routes, what waits in them, and in which state each batch number is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bsmtp_batch.errors import Setting, Usage
from bsmtp_batch.spool import durable, listing, locks, names, table
from bsmtp_batch.spool.listing import Entry, Odd
from bsmtp_batch.spool.lists import Intent

MANIFEST = ".json"
"""What the manifest of a batch is called, after the name of the batch."""
SIGNATURE = ".sig"
"""What the signature over the manifest of a batch is called, after the name of the batch; few batches have one."""
REASON = ".reason"
"""Where the reason stands why a file was set aside, after the name of the file."""

LIST_CAP = 256_000_000
SMALL_CAP = 65_536
SIGNATURE_CAP = 16_384


def batch_of(name: str) -> str:
    """The name of the batch that the file ``name`` is, or is the manifest or signature of."""
    for suffix in (MANIFEST, SIGNATURE):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


@dataclass(frozen=True)
class Fragment:
    """One file in ``new/``: complete transactions, durable, in no batch yet. ``modified`` is when it was handed in."""

    name: str
    path: str
    key: str
    digest: str
    size: int
    modified: float


@dataclass(frozen=True)
class Standing:
    """What exists of one batch number, and the row of the table it stands in (None: odd).

    ``name`` is the batch's file name, empty where only its list is left.
    """

    sequence: int
    name: str
    present: frozenset[str]
    row: table.Row | None


class Route:
    """One route: where its files are, and questions about them. ``path`` is its directory."""

    def __init__(self, spool: str, name: str) -> None:
        self.spool = spool
        self.name = name
        self.path = f"{spool}/{names.OUT}/{name}"

    def at(self, *parts: str) -> str:
        """The path of something in the route's directory."""
        return "/".join((self.path, *parts))

    def sealing(self) -> AbstractContextManager[None]:
        """Be the one sealer; :class:`~bsmtp_batch.spool.locks.Busy` when there is one already."""
        return locks.held(self.at(names.SEAL_LOCK), who=f"another seal or expire of {self.name}")

    def contact(self) -> AbstractContextManager[None]:
        """Be the one contact that hands over; :class:`~bsmtp_batch.spool.locks.Busy` when there is one already."""
        return locks.held(self.at(names.CONTACT_LOCK), who=f"another contact for {self.name}")

    def note_contact(self) -> None:
        """A contact begins: the time of ``contact.lock`` says when the last one did. Raises ``OSError``."""
        os.utime(self.at(names.CONTACT_LOCK))

    def last_contact(self) -> float | None:
        """When the last contact began, in seconds since 1970; None when there was none yet."""
        found = listing.entry(self.at(names.CONTACT_LOCK))
        return found.modified if isinstance(found, Entry) and found.modified > 0 else None

    def index(self) -> AbstractContextManager[None]:
        """Keep every hand-in from publishing; for the few milliseconds of swapping members for markers."""
        return locks.waited_for(self.at(names.INDEX_LOCK))

    def waiting(self, *, lenient: bool = False) -> Iterator[Fragment | Odd]:
        """The fragments in ``new/``, in no order. Raises ``OSError`` unless ``lenient`` (see :mod:`listing`)."""
        for found in listing.entries(self.at(names.NEW), lenient=lenient):
            parsed = names.parse_fragment(found.name) if isinstance(found, Entry) else None
            if isinstance(found, Odd):
                yield found
            elif parsed is None:
                yield Odd(found.path, "does not have the name of a fragment")
            else:
                yield Fragment(found.name, found.path, *parsed, found.size, found.modified)

    def remembers(self, key: str) -> bool:
        """Whether a fragment with this KEY is in a batch already. Raises ``OSError`` when that cannot be told."""
        return listing.is_there(self.at(names.SEALED, key))

    def standings(self, *, lenient: bool = False) -> tuple[list[Standing], list[Odd]]:
        """Every batch number of which something exists, lowest first, and files that belong to none.

        Raises ``OSError`` unless ``lenient``: a batch that cannot be seen is not one that was never made.
        """
        scan = _Scan(self, lenient)
        return scan.standings(), scan.odd

    def sealed(self) -> list[Standing]:
        """The batches a courier may take, lowest number first. Raises ``OSError``."""
        return [s for s in self.standings()[0] if s.row is not None and s.row.takeable]

    def is_sealed(self, name: str) -> bool:
        """Whether :meth:`sealed` has the batch ``name``; reads no whole directories. Raises ``OSError``."""
        parsed = names.parse_batch_name(name)
        if parsed is None or parsed[0] != self.name:
            return False
        there = (
            self.list_path(parsed[1], done=True),
            self.at(names.READY, name),
            self.at(names.READY, name + MANIFEST),
        )
        gone = (self.list_path(parsed[1], done=False), self.at(names.KEPT, name), self.at(names.DEAD, name))
        return all(map(listing.is_there, there)) and not any(map(listing.is_there, gone))

    def list_path(self, sequence: int, *, done: bool) -> str:
        """Where the seal list of a batch number is."""
        return self.at(names.LISTS, f"{sequence:08d}.{'done' if done else 'list'}")

    def intent(self, sequence: int, *, done: bool) -> Intent:
        """The seal list of a batch number.

        Raises ``FileNotFoundError``, and :class:`~bsmtp_batch.errors.Setting` for a damaged one: without it nobody can
        tell which messages are in the batch, so nothing of the route may be sealed.
        """
        path = self.list_path(sequence, done=done)
        try:
            found = Intent.from_bytes(listing.read_small(path, LIST_CAP))
            if (found.route, found.sequence) != (self.name, sequence):
                raise ValueError("it belongs to another route or number")
            return found
        except ValueError as error:
            raise Setting(
                f"the seal list {path} cannot be used: {error}",
                safe=f"No mail of {self.name} is touched; it goes on being accepted",
                next="restore the file from a backup, or see OPERATING, 'A damaged spool'",
            ) from error

    def numbering(self) -> tuple[int, str]:
        """The next batch number, and the hex sha256 of the manifest before it (empty for the first).

        ``seq`` moves on after the list is done, so a finished list with a number as high as ``seq`` knows better.
        """
        number, previous = self._seq()
        done = [s for s, suffix in self.lists() if suffix == "done"]
        if done and max(done) >= number:
            number, previous = max(done) + 1, self.intent(max(done), done=True).manifest
        return number, previous

    def write_seq(self, number: int, previous: str) -> None:
        """Make ``number`` the next batch number, ``previous`` the sha256 of the last manifest."""
        durable.write_file(self.at(names.SEQ), f"{number} {previous}\n".encode())

    def seq_is(self, number: int, previous: str) -> bool:
        """Whether ``seq`` says so already."""
        return self._seq() == (number, previous)

    def _seq(self) -> tuple[int, str]:
        path = self.at(names.SEQ)
        try:
            number, _, previous = listing.read_small(path, SMALL_CAP).decode("ascii").strip().partition(" ")
            if not number.isdecimal():
                raise ValueError("it does not begin with a number")
            return int(number), previous
        except FileNotFoundError:
            return 1, ""
        except ValueError as error:
            raise Setting(
                f"{path} cannot be used: {error}",
                safe="No mail is touched; it goes on being accepted",
                next="write one line with a number higher than that of any batch of this route",
            ) from error

    def lists(self, *, lenient: bool = False) -> Iterator[tuple[int, str]]:
        """Number and kind (``list`` or ``done``) of every seal list. Raises ``OSError`` unless ``lenient``."""
        for found in listing.entries(self.at(names.LISTS), lenient=lenient):
            if isinstance(found, Entry):
                number, _, suffix = found.name.partition(".")
                if number.isascii() and number.isdecimal() and suffix in ("list", "done"):
                    yield int(number), suffix


class Spool:
    """A spool directory with its routes and origins."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.ledger = f"{path}/{names.LEDGER}"

    def routes(self) -> list[str]:
        """The names of all routes, sorted."""
        return _directories(f"{self.path}/{names.OUT}")

    def origins(self) -> list[str]:
        """The names of all origins that ever sent us a batch, sorted."""
        return _directories(f"{self.path}/{names.IN}")

    def route(self, name: str) -> Route:
        """The route ``name`` as a user wrote it (case and brackets do not matter).

        Raises :class:`~bsmtp_batch.errors.Usage` when there is none, and ``OSError`` when that cannot be told.
        """
        try:
            proper = names.route_name(name.encode())
        except ValueError as error:
            raise Usage(f"{name!r} is no route: {error}", safe="Nothing was changed", next="mend the name") from error
        if not listing.is_directory(f"{self.path}/{names.OUT}/{proper}"):
            raise Usage(
                f"there is no route {proper} in {self.path}",
                safe="Nothing was changed",
                next=f"`bsmtp-batch route add {proper}`, or look at `bsmtp-batch route list`",
            )
        return Route(self.path, proper)

    def chosen(self, wanted: list[str]) -> list[Route]:
        """The routes named by a user, or all of them."""
        return [self.route(name) for name in wanted] if wanted else [Route(self.path, n) for n in self.routes()]


class _Scan:
    """One look at the directories that hold batches, turned into what exists of each number."""

    def __init__(self, route: Route, lenient: bool) -> None:
        self.route = route
        self.odd: list[Odd] = []
        self._lenient = lenient
        self._present: dict[int, set[str]] = {}
        self._names: dict[int, set[str]] = {}
        self._read_lists()
        for directory, batch, manifest, signature in (
            (names.TMP, table.TMP, table.TMP, table.TMP),
            (names.READY, table.READY, table.READY_MANIFEST, table.READY_SIGNATURE),
            (names.KEPT, table.KEPT, table.KEPT_MANIFEST, table.KEPT_SIGNATURE),
            (names.DEAD, table.DEAD, "", ""),
        ):
            self._read(directory, {"": batch, MANIFEST: manifest, SIGNATURE: signature})

    def standings(self) -> list[Standing]:
        return [self._standing(sequence) for sequence in sorted(self._present)]

    def _standing(self, sequence: int) -> Standing:
        present = frozenset(self._present[sequence])
        called = sorted(self._names.get(sequence, ()))
        row = table.batch_row(present) if len(called) <= 1 else None
        if row is None:
            where = ", ".join(sorted(present))
            self.odd.append(Odd(self.route.at(), f"batch {sequence} ({' and '.join(called)}) stands oddly: {where}"))
        return Standing(sequence, called[0] if called else "", present, row)

    def _read_lists(self) -> None:
        for sequence, suffix in self.route.lists(lenient=self._lenient):
            self._present.setdefault(sequence, set()).add(table.LIST if suffix == "list" else table.DONE)

    def _read(self, directory: str, columns: dict[str, str]) -> None:
        known_elsewhere = directory in (names.TMP, names.DEAD)  # hand-ins and fragments that were set aside
        for found in listing.entries(self.route.at(directory), lenient=self._lenient):
            name = found.name if isinstance(found, Entry) else ""
            batch = batch_of(name)
            parsed = names.parse_batch_name(batch)
            if parsed is not None and parsed[0] == self.route.name:
                column = columns[name.removeprefix(batch)]
                if column:
                    self._present.setdefault(parsed[1], set()).add(column)
                    self._names.setdefault(parsed[1], set()).add(batch)
            elif isinstance(found, Odd):
                self.odd.append(found)
            elif not known_elsewhere:
                self.odd.append(Odd(found.path, "is no batch of this route"))


def road_copy(sealed: str, suffix: str) -> str:
    """Where a copy of the sealed batch at the path ``sealed`` lies while it travels in another form, whose ``suffix``
    is given: in ``tmp/`` of its route, where age removes what a contact that was killed leaves."""
    ready, name = os.path.split(sealed)
    return f"{os.path.dirname(ready)}/{names.TMP}/{name}{suffix}"


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as found:
            return sorted(e.name for e in found if names.valid_route(e.name.encode("utf-8", "replace")) and e.is_dir())
    except FileNotFoundError:
        return []
