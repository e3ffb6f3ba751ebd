"""``scp://user@host/`` and ``rsync://user@host/``: a conversation with ``receive``; a program moves the octets.

The conversation decides everything: what there is, what is wanted, what has arrived. The program moves one file at a
time, of a size that was told before, into a file that is there before; its exit status is taken for nothing but the end
of its work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from bsmtp_batch.courier.address import Address
from bsmtp_batch.courier.carriers import Carrier
from bsmtp_batch.courier.contract import Courier, Cut, Moved, Refusal, Sent
from bsmtp_batch.courier.far import Far, patience
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.ssh import SshFiles
from bsmtp_batch.edge import road
from bsmtp_batch.edge.process import Child
from bsmtp_batch.errors import Bad, Later, Problem, Setting
from bsmtp_batch.handover.parcel import Parcel, Receipt, parcel
from bsmtp_batch.handover.protocol import Line, largest, papers
from bsmtp_batch.spool.inbox import digest_of
from bsmtp_batch.spool.listing import size_of
from bsmtp_batch.spool.medium import write_part
from bsmtp_batch.spool.store import road_copy

MOST, MOST_OCTETS = 10_000, 16 << 20
"""Batches that a far side may offer in one contact, and octets of their papers: twice what ours tells of at a time."""
_LOOK, _QUESTION, _BEAT = 0.5, 2.0, 10.0
"""Seconds between two looks at how far a program is here, two questions how far it is there, two signs of life."""
_END = 60.0
_DISK = ("No space left on device", "Disk quota exceeded", "Read-only file system", "Input/output error")
"""What the C library says of a disk that does not take more, in the locale of our children."""
STALL = 120.0
"""Seconds without an octet after which ``scp``, which has no such limit itself, is ended. A far end that still answers
here and is silent there would otherwise hold the contact for ever."""


class OverSsh(Courier):
    """The courier to ``address`` whose octets are moved by ``carrier``."""

    def __init__(self, address: Address, options: Options, carrier: Carrier) -> None:
        self.peer = str(address)
        self._carrier = carrier
        self._options = options
        self._files = SshFiles(address, options)
        self._stack = ExitStack()
        self._line: Far | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._files)
            self._line = Far(self._files.ssh("receive"), self._files.address)
            stack.callback(self._line.end)
            self._line.greet()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def _far(self) -> Far:
        assert self._line is not None, "the courier was not entered"
        return self._line

    @property
    def _form(self) -> str:
        chosen = self._options.compression
        return "plain" if chosen == "none" else chosen

    @property
    def _suffix(self) -> str:
        return road.SUFFIXES[self._form]

    def receipts(self, route: str) -> Iterator[Receipt | Refusal]:
        return iter(())  # they come in the conversation, each as the answer to its batch

    def clear(self, route: str, receipt: Receipt) -> None:
        pass

    def send(self, parcel: Parcel, path: str, moved: Moved) -> Sent:
        with self._packed(parcel, path, moved) as (local, size):
            sizes, octets = papers(parcel)
            self._far.say(Line("offer", parcel.name, (self._form, str(size), *sizes)), octets)
            answer = self._far.answer("SEND", "ACK", name=parcel.name)
            if answer.verb == "ACK":
                return Sent(False, _receipt(answer))
            progress = Progress(moved, size, parcel.size)
            beat = Beat(lambda: progress.reached(self._far_size(parcel)), _QUESTION)

            def look() -> None:
                beat()
                self._hurry(progress, parcel)

            progress.reached(answer.number(0) if self._carrier.resumes else 0)
            if answer.number(0) != size:
                self._run(self._carrier.send(self._files, local, parcel.name + self._suffix), parcel, moved, look)
            self._far.say(Line("sent", parcel.name))
            try:
                answer = self._far.answer("ACK", name=parcel.name, seconds=patience(parcel.size))
            except Bad as problem:
                raise _blame(parcel, path, problem) from problem
            progress.reached(size)
        return Sent(True, _receipt(answer))

    def offers(self, routes: list[str] | None) -> Iterator[Parcel | Refusal]:
        self._far.say(Line("list"))
        found: list[Parcel | Refusal] = []
        octets = 0
        for name, manifest, signature in self._listed(found):
            octets += len(manifest) + len(signature)
            if len(found) == MOST or octets > MOST_OCTETS:
                raise _too_many(self.peer)
            try:
                one = parcel(name, manifest, signature)
            except Bad as problem:
                found.append(Refusal(name, str(problem), 65))
                continue
            if routes is None or one.route in routes:
                found.append(one)
        return iter(found)

    def _listed(self, found: list[Parcel | Refusal]) -> Iterator[tuple[str, bytes, bytes]]:
        """What the far side lists; when it says that it was not all, that is the last thing ``found``."""
        try:
            yield from self._far.listed()
        except Cut:
            raise
        except Problem as problem:
            found.append(Refusal(self.peer, str(problem), problem.code))

    def fetch(self, parcel: Parcel, into: str, moved: Moved) -> None:
        self._far.say(Line("pack", parcel.name, (self._form,)))
        size = self._far.answer("PACKED", name=parcel.name, seconds=patience(parcel.size)).number(0)
        if size > largest(parcel, self._form):
            raise grown(parcel)
        part = into + self._suffix
        begin(part, size, resume=self._carrier.resumes)
        progress = Progress(moved, size, parcel.size)
        alive = Beat(lambda: self._far_size(parcel), _BEAT)

        def look() -> None:
            progress.reached(size_of(part))
            self._hurry(progress, parcel)
            alive()

        if size_of(part) != size:
            argv = self._carrier.fetch(self._files, parcel.name + self._suffix, part)
            self._run(argv, parcel, moved, look, limit=size)
        if size_of(part) != size:
            raise short(parcel, size_of(part), size)
        if self._suffix:
            _unpack(part, into, self._form, parcel, moved)

    def acknowledge(self, parcel: Parcel) -> None:
        self._far.say(Line("ack", parcel.name, (parcel.sha256,)))
        self._far.answer("OK", name=parcel.name)

    @contextmanager
    def _packed(self, parcel: Parcel, path: str, moved: Moved) -> Iterator[tuple[str, int]]:
        """The file that is to travel and its size: the batch itself, or a compressed copy that is gone afterwards."""
        if self._form == "plain":
            yield path, parcel.size
            return
        alive = Beat(lambda: self._far_size(parcel), _BEAT)

        def tick(_: int) -> None:
            moved(0)
            alive()

        copy = road_copy(path, self._suffix)
        try:
            yield copy, road.compress(path, copy, self._form, tick)
        finally:
            with suppress(OSError):
                os.unlink(copy)

    def _far_size(self, parcel: Parcel) -> int:
        """How much of ``parcel`` has come there: progress, and a sign of life in both directions."""
        self._far.say(Line("size", parcel.name))
        return self._far.answer("SIZE", name=parcel.name).number(0)

    def _hurry(self, progress: Progress, parcel: Parcel) -> None:
        """Raise ``Later`` when nothing has come for a long time and the program does not watch that itself."""
        if not self._carrier.resumes and progress.idle() > STALL:
            raise Later(
                f"{self._carrier.program} stood still for {STALL:.0f} seconds with {parcel.name}",
                safe="Nothing was acknowledged, so the batch stays where it is",
                next="run the command again; if it stays so, read what the far side has logged",
            )

    def _run(
        self, argv: list[str], parcel: Parcel, moved: Moved, look: Callable[[], None], *, limit: int | None = None
    ) -> None:
        """Have the program ``argv`` do its work, calling ``look`` again and again. Raises ``Cut`` when the line is
        gone, ``Later`` when only the program failed, and what ``moved`` raises; the program has ended then."""
        with started(argv, limit) as child:
            while not ended(child):
                moved(0)
                look()
            status, said = child.finish(_END), child.complaints()
        if status == 0:
            return
        if any("File too large" in line for line in said):
            raise grown(parcel)
        self._far_size(parcel)  # raises Cut when it was the line
        raise Later(
            f"{argv[0]} did not move {parcel.name}: {telling(said) or f'it ended with {status}'}",
            safe="Nothing was acknowledged, so the batch stays where it is",
            next="run the command again; if it stays so, read what the far side has logged",
        )


def telling(said: list[str]) -> str:
    """The line of what a program said that tells most, ``""`` when it said nothing: a disk's, that of the far
    ``receive``, the last of a traceback (rrsync is in Python); rsync itself ends with lines about its own end."""
    own = [line for line in said if not line.startswith(("rsync error:", "rsync: connection unexpectedly closed"))]
    disk = [line for line in own if any(words in line for words in _DISK)]
    refused = [line.partition(". Nothing ")[0] for line in own if line.startswith("receive ") and ": refused: " in line]
    traced = own[-1:] if any(line.startswith("Traceback") for line in own) else []
    return next(iter(disk or refused or traced or own or said), "").rstrip(".")


class Progress:
    """Tells ``moved`` in octets of the batch how far its ``size`` octets on the road are."""

    def __init__(self, moved: Moved, size: int, whole: int) -> None:
        self._moved = moved
        self._size = size
        self._whole = whole
        self._told = 0
        self._last = time.monotonic()

    def reached(self, octets: int) -> None:
        """So many octets are there."""
        now = min(octets, self._size) * self._whole // max(1, self._size)
        if now > self._told:
            self._moved(now - self._told)
            self._told = now
            self._last = time.monotonic()

    def idle(self) -> float:
        """Seconds since more than before was there."""
        return time.monotonic() - self._last


class Beat:
    """Calls ``action`` when ``seconds`` have gone by since it did so last."""

    def __init__(self, action: Callable[[], object], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._last = time.monotonic()

    def __call__(self) -> None:
        """It may be time."""
        if time.monotonic() - self._last >= self._seconds:
            self._action()
            self._last = time.monotonic()


def started(argv: list[str], limit: int | None = None) -> Child:
    """The running program ``argv``. Raises :class:`~bsmtp_batch.errors.Setting` when there is no such program."""
    try:
        return Child(argv, file_limit=limit)
    except OSError as error:
        raise Setting(
            f"{argv[0]} cannot be started: {error.strerror}",
            safe="Nothing was moved",
            next=f"install {argv[0]}, use another scheme, or name the directory it is in with BSMTP_BATCH_PATH",
        ) from error


def ended(child: Child) -> bool:
    """Wait for half a second: whether the program has closed its output by then."""
    try:
        return not child.receive(_LOOK)
    except TimeoutError:
        return False


def begin(part: str, size: int, *, resume: bool) -> None:
    """Have ``part`` there before a program writes to it: a plain file, so that it can neither become a directory nor
    lead somewhere else. It keeps what an earlier contact brought where that is the whole or can be gone on with; of one
    that is longer nothing is believed."""
    there = size_of(part)
    write_part(part, (), append=there == size or (resume and there < size))


def _unpack(part: str, into: str, form: str, parcel: Parcel, moved: Moved) -> None:
    """What cannot be unpacked goes; what was interrupted (a window, a full disk) need not come again."""
    try:
        road.expand(part, into, form, parcel.size, lambda _: moved(0))
    except Bad as error:
        os.unlink(part)
        raise Later(
            f"{parcel.name} cannot be unpacked: {error.what}",
            safe="It was not acknowledged, so the far side keeps it",
            next="run the command again: it is sent anew",
        ) from error
    os.unlink(part)


def _receipt(answer: Line) -> Receipt:
    return Receipt(answer.name, answer.values[0])


def _blame(parcel: Parcel, path: str, problem: Bad) -> Problem:
    """The far side did not take what we sent: perhaps it is right, and ours is not what was sealed."""
    if digest_of(path) == (parcel.size, parcel.sha256):
        return problem
    return Bad(
        f"ALARM: batch {parcel.name} in ready/ is not what was sealed: its sha256 differs",
        safe="The far side did not take it, and it stays where it is",
        next="look at the disk; if another copy of the batch exists, put it in its place",
    )


def grown(parcel: Parcel) -> Bad:
    """What is said when more octets come than the manifest tells."""
    return Bad(
        f"{parcel.name} is larger than its manifest says",
        safe="It was not taken and not acknowledged",
        next="ask whoever runs the far side to look at it",
    )


def short(parcel: Parcel, there: int, size: int) -> Later:
    """What is said when ``there`` octets of ``size`` have come."""
    return Later(
        f"{there} of {size} octets of {parcel.name} have come",
        safe="They are kept, and the batch was not acknowledged",
        next="run the command again",
    )


def _too_many(peer: str) -> Cut:
    return Cut(
        f"{peer} offers more than {MOST} batches, or longer manifests than they can have",
        safe="None of them was taken",
        next="ask whoever runs it what answers there: `bsmtp-batch receive` offers fewer at a time",
    )
