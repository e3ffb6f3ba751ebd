"""``in/ORIGIN``: where batches of others arrive, and the one way by which they get their final name."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress

from bsmtp_batch.errors import Later
from bsmtp_batch.spool import durable, listing, locks, names
from bsmtp_batch.spool.directories import make_directories
from bsmtp_batch.spool.listing import Entry, open_regular
from bsmtp_batch.spool.sequences import Sequences
from bsmtp_batch.spool.store import MANIFEST, REASON, SIGNATURE, SMALL_CAP

INTAKE_LOCK = "intake.lock"
SEQUENCES = "sequences"
PART = ".part"
WHOLE = ".whole"
"""What a part is called while it is checked and until it has its final name."""
DAMAGED = ".damaged"
"""A batch that came whole and wrong is kept under this suffix: a sound copy of the same name is still welcome."""

_CHUNK = 1 << 18
_SEQUENCES_CAP = 4_000_000


class Inbox:
    """The directory of one origin. ``origin`` has been checked to be a name (``names.valid_route``)."""

    def __init__(self, spool: str, origin: str) -> None:
        assert names.valid_route(origin.encode()), origin
        self.spool = spool
        self.origin = origin
        self.path = f"{spool}/{names.IN}/{origin}"

    def at(self, *parts: str) -> str:
        """The path of something in it."""
        return "/".join((self.path, *parts))

    def make(self) -> None:
        """Make the directories that are missing, durably. Raises ``OSError``."""
        if not all(os.path.isdir(self.at(directory)) for directory in names.IN_DIRECTORIES):
            for directory in names.IN_DIRECTORIES:
                make_directories(self.at(directory), self.spool)

    def intake(self) -> AbstractContextManager[None]:
        """Be the one that brings batches of this origin; :class:`~bsmtp_batch.spool.locks.Busy` when another does."""
        return locks.held(self.at(INTAKE_LOCK), who=f"another contact that brings mail from {self.origin}")

    def need_room(self, octets: int) -> None:
        """Raise :class:`~bsmtp_batch.errors.Later` where ``octets`` more would leave too little: half a batch only
        fills the disk, and a whole one must not keep everybody else's mail from being handed in (``min_free``)."""
        system = os.statvfs(self.path)
        kept = min(names.Limits().min_free, system.f_blocks * system.f_frsize // 16)
        if system.f_bavail * system.f_frsize - kept < octets:
            raise Later(
                f"there is no room in {self.spool} for {octets} octets",
                safe="Nothing of it was acknowledged, so the far side keeps it",
                next="make room in the spool; the next contact tries again",
            )

    def part(self, name: str) -> str:
        """Where batch ``name`` takes shape. Only its size says how much is there; its octets may be anybody's."""
        return self.at(names.TMP, name + PART)

    def places(self, name: str) -> Iterator[tuple[str, str]]:
        """Each directory that has batch ``name``, and the path there."""
        for directory in (names.NEW, names.WORK, names.DONE, names.BAD):
            path = self.at(directory, name)
            if isinstance(listing.entry(path), Entry):
                yield directory, path

    def manifest(self, name: str) -> bytes | None:
        """The manifest that came with batch ``name``, wherever it is by now."""
        for directory in (names.NEW, names.WORK, names.DONE, names.BAD):
            try:
                return listing.read_small(self.at(directory, name + MANIFEST), SMALL_CAP)
            except (OSError, ValueError):
                continue
        return None

    def settled(self, name: str) -> str:
        """Where the part of ``name`` is from :meth:`settle_part` on: no program was ever told this name."""
        return self.at(names.TMP, name + WHOLE)

    def resume_part(self, name: str) -> None:
        """A part of ``name`` that was being settled when its contact was stopped is a part again. Raises
        ``OSError``."""
        with suppress(FileNotFoundError):
            os.rename(self.settled(name), self.part(name))

    def settle_part(self, name: str) -> tuple[int, str]:
        """Make the part of ``name`` durable and read it back from the medium: its size and hex sha256.

        Its name is taken away first: a program that opens the part from now on, let in before or left over, makes a
        new one, and those that have it open are seen. What was checked could be changed behind its receipt otherwise.
        Raises ``OSError``; after a failed fsync the part is removed, for the cache would lie about it. Raises
        :class:`~bsmtp_batch.spool.locks.Busy` while somebody else still writes to it.
        """
        path = self.settled(name)
        os.rename(self.part(name), path)
        try:
            fd = open_regular(path)
            try:
                locks.written_by_nobody(fd, path=self.part(name))
                os.fchmod(fd, 0o600)  # scp gives a file the mode that the other side tells
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            self.resume_part(name)
            raise
        try:
            durable.sync_close(fd)
        except OSError:
            durable.remove(path)
            raise
        return digest_of(path)

    def drop_part(self, name: str) -> None:
        """Forget what came of ``name`` so far."""
        durable.remove(self.part(name))
        durable.remove(self.settled(name))

    def publish(self, name: str, manifest: bytes, signature: bytes = b"") -> str:
        """Give the settled part of ``name`` its final name in ``new/``, durably; manifest and signature first. Its
        path."""
        path = self.at(names.NEW, name)
        _write_papers(path, manifest, signature)
        durable.rename_durably(self.settled(name), path)
        return path

    def set_damaged(self, name: str, manifest: bytes, reason: str, signature: bytes = b"") -> str:
        """Keep the settled part of ``name`` in ``bad/`` with ``reason``, in place of an earlier one. Its path."""
        path = self.at(names.BAD, name + DAMAGED)
        durable.write_file(path + REASON, (reason + "\n").encode())
        _write_papers(path, manifest, signature)
        durable.rename_durably(self.settled(name), path)
        return path

    def sequences(self) -> Sequences:
        """The numbers seen so far. Raises ``OSError``."""
        try:
            return Sequences.from_bytes(listing.read_small(self.at(SEQUENCES), _SEQUENCES_CAP))
        except (FileNotFoundError, ValueError):
            return Sequences()

    def see(
        self, node: str, route: str, number: int, *, digest: str = "", previous: str = "", again: bool = False
    ) -> str:
        """Note that batch ``number`` came, durably; a sentence when that is remarkable, otherwise ``""``.

        ``digest`` and ``previous`` as in :meth:`Sequences.see`. ``again``: it is the very batch that came before.
        """
        found = self.sequences()
        before = found.to_bytes()
        remark = found.see(node, route, number, digest=digest, previous=previous)
        if not again:
            found.remember(remark, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        after = found.to_bytes()
        if len(after) > _SEQUENCES_CAP:
            # A longer file could not be read again, and with it the gaps and replays known so far would be forgotten.
            return remark or f"crowd: {number} of {route} from {node} is not kept in mind: there are too many others"
        if after != before:
            durable.write_file(self.at(SEQUENCES), after)
        return remark


def _write_papers(path: str, manifest: bytes, signature: bytes) -> None:
    """Put manifest and signature beside what is to be the batch ``path``, durably."""
    if signature:
        durable.write_file(path + SIGNATURE, signature)
    else:
        durable.remove(path + SIGNATURE)  # of an earlier attempt that was signed
    durable.write_file(path + MANIFEST, manifest)


def digest_of(path: str) -> tuple[int, str]:
    """Size and hex sha256 of the regular file ``path``, read from the medium where the kernel can be asked to. Raises
    ``OSError``."""
    digest, size = hashlib.sha256(), 0
    fd = open_regular(path)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := os.read(fd, _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    finally:
        os.close(fd)
    return size, digest.hexdigest()
