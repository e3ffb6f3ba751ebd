"""What has arrived in the spool: batches in ``in/ORIGIN/new`` and ``work``, and their way to ``done`` or ``bad``.

Each step is a rename made durable. A batch's signature and manifest go ahead of it, so wherever a crash leaves them,
the batch is found and the others are in one of the directories of the same origin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bsmtp_batch.spool import durable, listing, locks, names
from bsmtp_batch.spool.directories import make_directories
from bsmtp_batch.spool.listing import Odd
from bsmtp_batch.spool.store import MANIFEST, SIGNATURE, Spool

SUFFIXES = (".bsmtp", ".bsmtp.gz", ".bsmtp.xz", ".bsmtp.zst", ".bsmtp.Z")
"""How the names of batches end; what a file really is shows when it is opened."""

LOCKS = ".lock"


@dataclass(frozen=True)
class Arrival:
    """A batch in the spool; ``directory`` is ``new`` or ``work``."""

    spool: str
    origin: str
    directory: str
    name: str

    @property
    def path(self) -> str:
        """Where the batch is."""
        return self._at(self.directory, self.name)

    @property
    def base(self) -> str:
        """The directory of the origin."""
        return "/".join((self.spool, names.IN, self.origin))

    def manifest(self) -> str | None:
        """Where the manifest is, if there is one."""
        return self._beside(MANIFEST)

    @property
    def plain_name(self) -> str:
        """The name without what compression added to it."""
        return plain_name(self.name)

    def move(self, directory: str) -> Arrival:
        """Take the batch, with what lies beside it, to ``directory`` of its origin. Raises ``OSError``."""
        if directory != self.directory:
            for suffix in (SIGNATURE, MANIFEST):
                found = self._beside(suffix)
                if found is not None:
                    durable.rename_durably(found, self._at(directory, self.plain_name + suffix))
            durable.rename_durably(self.path, self._at(directory, self.name))
        return Arrival(self.spool, self.origin, directory, self.name)

    def _beside(self, suffix: str) -> str | None:
        places = (self._at(directory, self.plain_name + suffix) for directory in names.IN_DIRECTORIES)
        return next((place for place in places if os.path.lexists(place)), None)

    def _at(self, directory: str, name: str) -> str:
        return f"{self.base}/{directory}/{name}"


def plain_name(name: str) -> str:
    """The file name of a batch without what compression added to it."""
    for suffix in SUFFIXES[1:]:
        if name.endswith(suffix):
            return name[: -len(suffix)] + ".bsmtp"
    return name


def arrivals(spool: str) -> Iterator[Arrival | Odd]:
    """What waits, what was begun earlier first, by origin and name; what has no business there as :class:`Odd`."""
    for directory in (names.WORK, names.NEW):
        for origin in Spool(spool).origins():
            yield from _waiting(spool, origin, directory)


def _waiting(spool: str, origin: str, directory: str) -> Iterator[Arrival | Odd]:
    path = "/".join((spool, names.IN, origin, directory))
    if not os.path.isdir(path):
        return
    for found in sorted(listing.entries(path, lenient=True), key=lambda one: one.path):
        if isinstance(found, Odd):
            yield found
        elif found.name.endswith(SUFFIXES):
            yield Arrival(spool, origin, directory, found.name)
        elif not found.name.endswith((MANIFEST, SIGNATURE)):
            yield Odd(found.path, "does not have the name of a batch")


def lock(spool: str, sha256: str) -> AbstractContextManager[None]:
    """Be the one importer of the batch with this hash; :class:`~bsmtp_batch.spool.locks.Busy` when there is another.

    The lock is one of 256 files that are never removed: a lock file with a batch's own name would have to be, and then
    two importers could hold two files of one name.
    """
    directory = "/".join((spool, names.IN, LOCKS))
    make_directories(directory, spool)
    return locks.held(f"{directory}/{sha256[:2]}", who="another import of this batch")
