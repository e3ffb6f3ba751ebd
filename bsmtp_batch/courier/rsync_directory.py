"""``rsync://user@host/path/`` with ``far = "directory"``: an account that may run rsync, and no program of ours.

What lies there is laid out as on a medium of the ``dir:`` courier, and that courier does the work: on a small image of
the far directory here, in which batches are holes of their size and time, and manifests, signatures and receipts are
what rsync brought. What is written to the image goes to the far side first.

Nobody syncs what is written there, and nobody keeps two programs from writing at a time: what a receipt is worth is
for whoever writes it to see to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Self

from bsmtp_batch.batch.manifest import MAX_BYTES
from bsmtp_batch.courier.address import Address
from bsmtp_batch.courier.contract import Cut, Moved, Refusal, Sent
from bsmtp_batch.courier.directory import ACK, Directory, checked, not_whole
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.overssh import Progress, begin, grown, short
from bsmtp_batch.courier.rsync_line import Entry, RsyncLine, TooLarge
from bsmtp_batch.errors import Later
from bsmtp_batch.handover.parcel import RECEIPT_CAP, Parcel
from bsmtp_batch.spool import names
from bsmtp_batch.spool.listing import size_of
from bsmtp_batch.spool.medium import Folder, chunks_of, write_part
from bsmtp_batch.spool.store import MANIFEST, SIGNATURE, SIGNATURE_CAP, batch_of

_SMALL = {MANIFEST: MAX_BYTES, SIGNATURE: SIGNATURE_CAP, ACK: RECEIPT_CAP}
"""What is brought into the image, and the most octets of each."""
_LARGEST = 1 << 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WORTH = 1 << 20
"""Octets from which on a batch is worth resuming: what comes before costs more rounds than it saves."""
_AT = re.compile(rb"([0-9]+) +[0-9]+%")


class RsyncDirectory(Directory):
    """The courier of the far directory ``address.path``, which has to exist."""

    def __init__(self, address: Address, options: Options) -> None:
        super().__init__(str(address).rstrip("/"))
        self.peer = str(address)
        self._line = RsyncLine(address, options)
        self._stack = ExitStack()
        self._odd: list[Entry] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._line)
            self._image()
            self._root = stack.enter_context(FarRoot(self._line, f"{self._line.directory}/image"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, parcel: Parcel, path: str, moved: Moved) -> Sent:
        if any(entry.name == parcel.route for entry in self._odd):
            raise Later(
                f"{self.path}/{parcel.route} is no directory itself; links are not followed",
                safe="The batch waits",
                next="look at what is there, and remove it",
            )
        return super().send(parcel, path, moved)

    def offers(self, routes: list[str] | None) -> Iterator[Parcel | Refusal]:
        for entry in self._odd:
            if routes is None or entry.name.partition("/")[0] in routes:
                what = "is not the name of a batch or of a route" if entry.kind else "is neither a file nor a directory"
                yield Refusal(f"{self.path}/{entry.name}", what, 0)
        yield from super().offers(routes)

    def fetch(self, parcel: Parcel, into: str, moved: Moved) -> None:
        with self._guarded(parcel.route), self.root.below(parcel.route) as folder:
            found = folder.find(parcel.name)
        if found is None or found.st_size != parcel.size:
            raise not_whole(parcel, f"{found.st_size if found else 0} of {parcel.size} octets are there")
        begin(into, parcel.size, resume=True)
        if size_of(into) == parcel.size:
            return
        progress = Progress(moved, parcel.size, parcel.size)

        def look() -> None:
            moved(0)
            progress.reached(size_of(into))

        far = self._line.far(f"{parcel.route}/{parcel.name}")
        try:
            self._line.run(["--append-verify"], [far, into], look=look, limit=parcel.size)
        except TooLarge as error:
            raise grown(parcel) from error
        if size_of(into) != parcel.size:
            raise short(parcel, size_of(into), parcel.size)

    def _put(self, folder: Folder, parcel: Parcel, path: str, modified: float, moved: Moved) -> None:
        for _ in checked(parcel, chunks_of(path, lambda _: moved(0))):
            pass  # read to the end once: what rotted in ready/ is not to get its final name there
        progress = Progress(moved, parcel.size, parcel.size)

        def heard(data: bytes) -> None:
            moved(0)
            if found := _AT.findall(data):
                progress.reached(int(found[-1]))

        def run(local: str, *words: str) -> None:
            far = self._line.far(f"{parcel.route}/")  # a directory: rrsync lets nobody write to a file that is there
            self._line.run([*words, "-t", "--info=progress2", "--no-h"], [local, far], heard=heard)

        assert isinstance(folder, FarFolder)
        if parcel.size < _WORTH:
            run(path)
        else:
            # An rsync of today throws away what a cut transfer brought. So a large batch grows under another name, and
            # becomes itself out of that (--fuzzy: same size, same time) with little more than its checksums sent.
            part = f".{parcel.name}.part"
            run(self._line.alias(path, part), "-L", "--append-verify")
            run(path, "--fuzzy")
            folder.remove_there(part)
        progress.reached(parcel.size)
        folder.note(parcel.name, parcel.size, modified)

    def _image(self) -> None:
        """Make the image of what is there now."""
        place = f"{self._line.directory}/image"
        os.mkdir(place, 0o700)
        wanted: list[str] = []
        for entry in self._line.listing():
            how = _how(entry)
            if how == "directory":
                os.mkdir(f"{place}/{entry.name}", 0o700)
            elif how == "odd":
                self._odd.append(entry)
            elif how == "small":
                wanted.append(entry.name)
            else:
                _hole(f"{place}/{entry.name}", entry.size, entry.modified)
        if wanted:
            self._bring(place, wanted)

    def _bring(self, place: str, wanted: list[str]) -> None:
        """Bring the small files ``wanted``, and see that nothing else came: an old rsync takes whatever is sent."""
        before = _files(place)
        try:
            self._line.fetch_small(wanted, place, max(_SMALL.values()))
        except TooLarge:
            raise self._untrue() from None
        if _files(place) - before - set(wanted):
            raise self._untrue()

    def _untrue(self) -> Cut:
        return Cut(
            f"{self.peer} sent something else than it had listed",
            safe="Nothing was taken",
            next="run the command again; if it stays so, ask whoever runs it",
        )


class FarRoot(Folder):
    """The image of the far directory; what is made in it is made there, too."""

    def __init__(self, line: RsyncLine, image: str) -> None:
        super().__init__(os.open(image, _DIRECTORY))
        self._line = line

    def below(self, name: str) -> Folder:
        return FarFolder(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd), self._line, name)

    def make(self, name: str) -> Folder:
        if self.find(name) is None:
            model = f"{self._line.directory}/made/{name}"
            os.makedirs(model, 0o700, exist_ok=True)
            self._line.run(["-d"], [model, self._line.far("")])
        super().make(name).close()
        return self.below(name)


class FarFolder(Folder):
    """The image of the far directory of ``route``. Files are put and removed there first, and then here."""

    def __init__(self, fd: int, line: RsyncLine, route: str) -> None:
        super().__init__(fd)
        self._line = line
        self._route = route

    def write(self, name: str, chunks: Iterable[bytes], *, modified: float | None = None) -> None:
        """Put a small file there, whole or not at all."""
        data = b"".join(chunks)
        local = self._line.own(name)
        write_part(local, [data])
        self._line.run(["-t"], [local, self._line.far(f"{self._route}/")])
        super().write(name, [data], modified=modified)

    def remove(self, *names: str) -> None:
        """Remove the files ``names`` there, the last of them after all others."""
        present = [name for name in names if self.find(name) is not None]
        for some in (present[:-1], present[-1:]):
            if some:
                self.remove_there(*some)
        super().remove(*present)

    def remove_there(self, *names: str) -> None:
        """Remove the files ``names``, in any order, on the far side only."""
        chosen = [f"--include=/{name}" for name in names]
        empty = f"{self._line.directory}/empty/"
        self._line.run(["-d", "--delete", *chosen, "--exclude=*"], [empty, self._line.far(f"{self._route}/")])

    def note(self, name: str, size: int, modified: float) -> None:
        """A batch of this size and time is there now."""
        hole = f"{self._line.directory}/hole"
        _hole(hole, size, modified)
        os.rename(hole, name, dst_dir_fd=self._fd)


def _how(entry: Entry) -> str:
    """What becomes of ``entry`` in the image: a ``directory``, a ``small`` file to be brought, a ``hole``, or ``odd``,
    nothing but a remark."""
    route, slash, name = entry.name.partition("/")
    if not entry.kind or not names.valid_route(route.encode("utf-8", "replace")):
        return "odd"
    if entry.kind == "d":
        return "odd" if slash else "directory"
    batch = batch_of(name.removesuffix(ACK))
    parsed = names.parse_batch_name(batch)
    if parsed is None or parsed[0] != route:
        return "odd"
    cap = _SMALL.get(name.removeprefix(batch), -1)
    return "small" if entry.size <= cap else "hole"


def _hole(path: str, size: int, modified: float) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, min(size, _LARGEST))
        os.utime(fd, (modified, modified))
    finally:
        os.close(fd)


def _files(place: str) -> set[str]:
    """Everything in ``place`` and in the directories in it that is no directory itself, and what is deeper."""
    found: set[str] = set()
    with os.scandir(place) as first:
        for one in first:
            if one.is_dir(follow_symlinks=False):
                found.update(f"{one.name}/{name}" for name in os.listdir(one.path))
            else:
                found.add(one.name)
    return found
