"""``dir:/path``: a memory stick, NFS, a synchronised folder.

Each route is a folder ``path/ROUTE`` with ``NAME.bsmtp.json``, ``NAME.bsmtp.sig`` where it is signed, ``NAME.bsmtp``
and, from the taker, ``NAME.bsmtp.ack``. The maker of a batch removes them all at its next contact after the receipt. A
folder of this kind may hold half-copied files, and files of anybody: sizes, hashes and signatures decide, and what is
not complete is left for later.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Self

from bsmtp_batch.batch.manifest import MAX_BYTES
from bsmtp_batch.courier.contract import Courier, Cut, Moved, Refusal, Sent
from bsmtp_batch.edge.user import user_name
from bsmtp_batch.errors import Bad, Later, Problem
from bsmtp_batch.handover.parcel import RECEIPT_CAP, Parcel, Receipt, parcel
from bsmtp_batch.spool import names
from bsmtp_batch.spool.medium import Folder, chunks_of, write_part
from bsmtp_batch.spool.store import MANIFEST, SIGNATURE, SIGNATURE_CAP, batch_of

ACK = ".ack"
TIME_GRAIN = 2.0
"""Seconds: the coarsest clock of a file system on removable media (FAT)."""


class Directory(Courier):
    """The courier of one directory ``path``, which has to exist: a mount point that is empty because nothing is mounted
    looks the same, and all that happens then is that batches wait for their receipts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.peer = f"dir:{path}"
        self._root: Folder | None = None

    def __enter__(self) -> Self:
        try:
            self._root = Folder.open(self.path)
        except OSError as error:
            raise Cut(
                f"{self.path} cannot be opened: {error.strerror}",
                safe="Nothing was moved",
                next=f"{_remedy(error)}, then run the command again",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._root is not None:
            self._root.close()

    @property
    def root(self) -> Folder:
        """The open directory."""
        assert self._root is not None, "the courier was not entered"
        return self._root

    def receipts(self, route: str) -> Iterator[Receipt | Refusal]:
        if not self.root.is_directory(route):
            return
        with self._guarded(route), self.root.below(route) as folder:
            for name in folder.names():
                if name.endswith(ACK):
                    yield _receipt(folder, route, name)

    def clear(self, route: str, receipt: Receipt) -> None:
        # The receipt goes last: as long as it is there, what is left of the batch is known to be nobody's loss.
        with self._guarded(route), self.root.below(route) as folder:
            folder.remove(*(receipt.name + suffix for suffix in ("", SIGNATURE, MANIFEST, ACK)))

    def send(self, parcel: Parcel, path: str, moved: Moved) -> Sent:
        with self._guarded(parcel.route), self.root.make(parcel.route) as folder:
            theirs = _manifest_there(folder, parcel)
            if theirs is not None and theirs != parcel.raw:
                raise _taken(parcel, self.path)
            if theirs is None:
                folder.write(parcel.name + MANIFEST, [parcel.raw])
            _settle_signature(folder, parcel)
            modified = os.stat(path).st_mtime
            if theirs is not None and _is_there(folder, parcel, modified):
                return Sent(False, None)
            self._put(folder, parcel, path, modified, moved)
        return Sent(True, None)

    def _put(self, folder: Folder, parcel: Parcel, path: str, modified: float, moved: Moved) -> None:
        """Bring the batch in file ``path`` into ``folder``, with the time ``modified``."""
        folder.write(parcel.name, checked(parcel, chunks_of(path, moved)), modified=modified)

    def offers(self, routes: list[str] | None) -> Iterator[Parcel | Refusal]:
        with self._guarded(""):
            present = self.root.names()
        for name in present if routes is None else [n for n in present if n in routes]:
            if not names.valid_route(name.encode("utf-8", "surrogateescape")):
                yield Refusal(f"{self.path}/{name}", "is not the name of a route", 0)
            elif not self.root.is_directory(name):
                yield Refusal(f"{self.path}/{name}", "is not a directory itself; links are not followed", 0)
            else:
                yield from self._offers_of(name)

    def _offers_of(self, route: str) -> list[Parcel | Refusal]:
        place = f"{self.path}/{route}"
        try:
            with self.root.below(route) as folder:
                return list(_offers(folder, route, place))
        except OSError as error:
            return [Refusal(place, f"cannot be read: {error.strerror}. Next: {_remedy(error)}", 75)]

    def fetch(self, parcel: Parcel, into: str, moved: Moved) -> None:
        write_part(into, self._octets(parcel, moved))

    def _octets(self, parcel: Parcel, moved: Moved) -> Iterator[bytes]:
        """The batch from the medium. Only what the medium does is told of as such: the file it goes into is ours."""
        with ExitStack() as stack:
            with self._guarded(parcel.route):
                folder = stack.enter_context(self.root.below(parcel.route))
                found = folder.find(parcel.name)
            if found is None or found.st_size != parcel.size:
                raise not_whole(parcel, f"{found.st_size if found else 0} of {parcel.size} octets are there")
            octets = folder.read(parcel.name, parcel.size)
            while chunk := self._next(parcel, octets):
                yield chunk
                moved(len(chunk))

    def _next(self, parcel: Parcel, octets: Iterator[bytes]) -> bytes:
        with self._guarded(parcel.route):
            return next(octets, b"")

    def acknowledge(self, parcel: Parcel) -> None:
        with self._guarded(parcel.route), self.root.below(parcel.route) as folder:
            folder.write(parcel.name + ACK, [parcel.receipt.to_bytes()])

    def _guarded(self, route: str) -> _Guard:
        return _Guard(f"{self.path}/{route}".rstrip("/"))


class _Guard:
    """Turns what the medium does to us into a sentence: an error there ends nothing but this one step."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Later(
                f"{self._place}: {error.strerror or error}",
                safe="What was not acknowledged stays where it is",
                next=f"{_remedy(error)}, then run the command again",
            ) from error


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"let {user_name()} read and write there (mount it for that user, or chown -R)"
    if error.errno == errno.ENOENT:
        return "mount the medium or make the directory"
    return "look at the medium (is it full, read-only, or gone?)"


def _offers(folder: Folder, route: str, place: str) -> Iterator[Parcel | Refusal]:
    present = set(folder.names())
    for name in sorted(present):
        about = batch_of(name.removesuffix(ACK))
        parsed = names.parse_batch_name(about)
        if parsed is None or parsed[0] != route:
            yield Refusal(f"{place}/{name}", "is not the name of a batch of this route", 0)
        elif name == about:
            yield from _offer(folder, name, present, place)
        elif name == about + MANIFEST and not {about, about + ACK} & present:
            yield Refusal(f"{place}/{about}", "only its manifest has come so far", 75)
        elif name == about + SIGNATURE and not {about, about + MANIFEST, about + ACK} & present:
            yield Refusal(f"{place}/{about}", "only its signature has come so far", 75)


def _offer(folder: Folder, name: str, present: set[str], place: str) -> Iterator[Parcel | Refusal]:
    if name + MANIFEST not in present:
        yield Refusal(f"{place}/{name}", "its manifest has not come yet", 75)
        return
    try:
        signature = folder.read_small(name + SIGNATURE, SIGNATURE_CAP) if name + SIGNATURE in present else b""
        found = parcel(name, folder.read_small(name + MANIFEST, MAX_BYTES), signature)
    except ValueError as error:
        yield Refusal(f"{place}/{name}", f"its manifest or signature cannot be taken: {error}", 65)
    except OSError as error:
        yield _unreadable(f"{place}/{name}, its manifest or signature,", error)
    except Problem as problem:
        yield Refusal(f"{place}/{name}", f"{problem.what}; perhaps it is still being copied", 75)
    else:
        if name + ACK not in present or _receipt(folder, "", name + ACK) != found.receipt:
            yield found


def _receipt(folder: Folder, route: str, name: str) -> Receipt | Refusal:
    try:
        found = Receipt.from_bytes(folder.read_small(name, RECEIPT_CAP))
        if found.name + ACK != name:
            raise ValueError("it speaks of another batch")
        return found
    except OSError as error:
        return _unreadable(f"{route}/{name}", error)
    except ValueError as error:
        return Refusal(f"{route}/{name}", str(error), 65)


def _unreadable(what: str, error: OSError) -> Refusal:
    """A link is refused for good; a medium that stumbles may read well the next time."""
    return Refusal(what, f"cannot be read: {error.strerror}", 65 if error.errno == errno.ELOOP else 75)


def _manifest_there(folder: Folder, parcel: Parcel) -> bytes | None:
    """The manifest that is there under this parcel's name; None when there is none."""
    try:
        return folder.read_small(parcel.name + MANIFEST, MAX_BYTES)
    except FileNotFoundError:
        # A batch with our name and no manifest was not put there by us: ours comes after its manifest.
        return None if folder.find(parcel.name) is None else b""
    except ValueError:
        return b""


def _settle_signature(folder: Folder, parcel: Parcel) -> None:
    """Make the signature beside our manifest the one we have, or none."""
    name = parcel.name + SIGNATURE
    try:
        theirs = folder.read_small(name, SIGNATURE_CAP) if folder.find(name) is not None else b""
    except (ValueError, OSError):
        theirs = None  # whatever it is, it is not what we put there
    if theirs == parcel.signature:
        return
    if parcel.signature:
        folder.write(name, [parcel.signature])
    else:
        folder.remove(name)


def _is_there(folder: Folder, parcel: Parcel, modified: float) -> bool:
    """Whether our batch is there whole. With the size and the time we gave it, it is; otherwise its bytes decide,
    because a clock that is an hour off (FAT keeps local time) must not make every contact copy everything again."""
    found = folder.find(parcel.name)
    if found is None or found.st_size != parcel.size:
        return False
    if abs(found.st_mtime - modified) <= TIME_GRAIN:
        return True
    digest = hashlib.sha256()
    for chunk in folder.read(parcel.name, parcel.size):
        digest.update(chunk)
    return digest.hexdigest() == parcel.sha256


def checked(parcel: Parcel, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``chunks``, and at their end, before anything has its final name, the proof that they were the right ones."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != parcel.sha256:
        raise Bad(
            f"ALARM: batch {parcel.name} in ready/ is not what was sealed: its sha256 differs",
            safe="It was not handed over and stays where it is",
            next="look at the disk; if another copy of the batch exists, put it in its place",
        )


def _taken(parcel: Parcel, path: str) -> Bad:
    return Bad(
        f"ALARM: another batch with the name {parcel.name} is in {path}/{parcel.route}",
        safe="It was left alone, and ours waits in ready/",
        next="find out who made it: two nodes with the same name and route cannot share a directory",
    )


def not_whole(parcel: Parcel, how: str) -> Later:
    """What is said of an offered batch that is not all there."""
    return Later(
        f"{parcel.name} is not whole yet: {how}",
        safe="It was left where it is and not acknowledged",
        next="run the command again when the copying has ended",
    )
