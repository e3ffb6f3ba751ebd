"""rsync to an account that runs nothing of ours: one ssh connection, and over it one rsync after another."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from time import sleep
from typing import Self

from bsmtp_batch.courier.address import Address
from bsmtp_batch.courier.carriers import PATIENCE
from bsmtp_batch.courier.contract import Cut
from bsmtp_batch.courier.far import CONNECTING, unreached
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.overssh import started, telling
from bsmtp_batch.courier.ssh import SshFiles
from bsmtp_batch.edge.process import Child
from bsmtp_batch.errors import Later, Setting

MOST = 50_000
"""Entries a far directory may have."""
_LOOK = 0.5
_END = 60.0
_SAFE = "What was not acknowledged stays where it is"
_LOST = {10, 30, 35, 255}
"""Exit statuses of rsync (and of its ssh) that speak of the line."""
_VANISHED = 24
BUSY = 15.0
"""Seconds to wait for another contact's session in the far directory: that of one whose line was cut may not have
noticed yet, and rrsync lets in one at a time."""
_TAKEN = "Another instance of rrsync"
_ENTRY = re.compile(r"[^|]([dfLDS])[^|]{9}\|(\d+)\|(\d{4}/\d\d/\d\d-\d\d:\d\d:\d\d)\|(.+)")
_ODD = re.compile(r'skipping non-regular file "(.+)"')


class TooLarge(OSError):
    """More octets came than were allowed."""


class Busy(Later):
    """Another contact is in the far directory, and nothing of this one was begun."""


@dataclass(frozen=True)
class Entry:
    """Something in the far directory: ``kind`` is ``d``, ``f``, or ``""`` for what is neither; ``name`` a path from
    there on, in which rsync has written unusual characters as ``\\#ooo``."""

    kind: str
    name: str
    size: int = 0
    modified: float = 0.0


def _nothing(_: bytes = b"") -> None:
    pass


class RsyncLine:
    """The account and directory at ``address``. A context manager; ``directory`` (private) exists within it."""

    def __init__(self, address: Address, options: Options) -> None:
        self._address = address
        self._files = SshFiles(address, options)
        self._stack = ExitStack()
        self._master: Child | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._files)
            ssh = self._files.ssh()
            self._master = stack.enter_context(started([ssh[0], "-N", *ssh[1:]]))
            self._wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def directory(self) -> str:
        """A directory for small files of this contact."""
        return self._files.directory

    def own(self, name: str) -> str:
        """The path of a file ``name`` of ours, to be sent."""
        os.makedirs(f"{self.directory}/out", 0o700, exist_ok=True)
        return f"{self.directory}/out/{name}"

    def alias(self, path: str, name: str) -> str:
        """A link to ``path`` that is called ``name``."""
        made = self.own(name)
        if not os.path.lexists(made):
            os.symlink(path, made)
        return made

    def far(self, path: str) -> str:
        """The operand for what is at ``path``, of names that were checked, below the far directory."""
        return f"{self._address.operand}:{self._address.path.rstrip('/')}/{path}"

    def listing(self) -> list[Entry]:
        """What is in the far directory and in the directories in it, but for names that begin with a dot.

        Raises ``Cut``, and ``Setting`` where there is no such directory.
        """
        empty = f"{self.directory}/empty"
        os.makedirs(empty, exist_ok=True)
        lines = _Lines()
        words = ["-rn", "--no-h", "--exclude=.*", "--exclude=/*/*/", "--out-format=%i|%l|%M|%n"]
        try:
            self.run(words, [self.far(""), f"{empty}/"], heard=lines.hear, fine=(_VANISHED,))
        except (Cut, Busy):
            raise
        except Later as problem:
            raise self._no_directory(problem) from problem
        return list(lines.entries())

    def fetch_small(self, names: Iterable[str], into: str, cap: int) -> None:
        """Bring the files ``names`` (checked), of at most ``cap`` octets each, below ``into``; one that has gone
        meanwhile is left out."""
        wanted = f"{self.directory}/wanted"
        with open(wanted, "w", encoding="ascii") as file:
            file.writelines(f"{name}\n" for name in names)
        words = [f"--files-from={wanted}", "--no-implied-dirs", f"--max-size={cap}"]
        self.run(words, [self.far(""), f"{into}/"], limit=cap, fine=(_VANISHED, 23))

    def run(
        self,
        options: list[str],
        operands: list[str],
        *,
        heard: Callable[[bytes], None] = _nothing,
        look: Callable[[], None] = _nothing,
        limit: int | None = None,
        fine: tuple[int, ...] = (),
    ) -> None:
        """Run rsync with ``options`` and ``operands``; ``heard`` gets what it writes, ``look`` is called now and then.

        Raises ``Cut`` when the line is gone, :class:`Busy` when another contact does not leave the far directory,
        :class:`TooLarge` when a file here became larger than ``limit``, ``Later`` when rsync failed otherwise, with a
        status that is not ``fine``; and what ``heard`` and ``look`` raise, when rsync has ended.
        """
        argv = ["rsync", f"--timeout={PATIENCE}", "-e", self._files.shell(), *options, "--", *operands]
        until = time.monotonic() + BUSY
        while True:
            try:
                return self._once(argv, heard, look, limit, fine)
            except Busy:
                if time.monotonic() > until:
                    raise
            sleep(_LOOK)

    def _once(
        self,
        argv: list[str],
        heard: Callable[[bytes], None],
        look: Callable[[], None],
        limit: int | None,
        fine: tuple[int, ...],
    ) -> None:
        with started(argv, limit) as child:
            while (data := _heard(child)) != b"":
                heard(data or b"")
                look()
            status, said = child.finish(_END), child.complaints()
        if status and any("File too large" in line for line in said):
            raise TooLarge("it is larger than was said")
        if status and status not in fine:
            raise self._failed(status, said)

    def _wait(self) -> None:
        """Until the connection is made, which shows in the socket for further sessions."""
        assert self._master is not None
        until = time.monotonic() + CONNECTING
        while not os.path.exists(f"{self.directory}/s"):
            if self._gone(0.05) or time.monotonic() > until:
                raise unreached(self._master, self._address)

    def _failed(self, status: int, said: list[str]) -> Later:
        why = telling(said) or f"status {status}"
        if status in _LOST or self._gone(2.0):
            return Cut(
                f"the contact with {self._address.host} broke off: {why}",
                safe=_SAFE,
                next="run the command again; what has come is gone on with",
            )
        if any(_TAKEN in line for line in said):
            return Busy(
                f"another contact is using the directory at {self._address.host}: rrsync lets in one at a time",
                safe=_SAFE,
                next="run the command again when that one has ended",
            )
        return Later(
            f"rsync did not do its work with {self._address.host}: {why}",
            safe=_SAFE,
            next="run the command again; if it stays so, look at the account there: may it write, and is there room?",
        )

    def _gone(self, seconds: float) -> bool:
        """Whether the connection ends within so many seconds. (A session-less ssh closes its output at once.)"""
        assert self._master is not None
        try:
            self._master.finish(seconds)
        except TimeoutError:
            return False
        return True

    def _no_directory(self, problem: Later) -> Setting:
        return Setting(
            f"{self._address} cannot be listed: {problem.what.partition(' Next: ')[0].removesuffix('.')}",
            safe="Nothing was moved",
            next="see that the directory and rsync are there, and that the key may use them; where the key has the line"
            ' of `bsmtp-batch route key`, leave far = "directory" out',
        )


class _Lines:
    """The lines of a listing."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []

    def hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += [line.decode("utf-8", "replace") for line in lines]
        if len(self._lines) > MOST or len(self._rest) > 8192:
            raise Cut(
                f"the far directory holds more than {MOST} files, or one with a name beyond all measure",
                safe="Nothing was moved",
                next="see who fills it, and clear it up",
            )

    def entries(self) -> Iterator[Entry]:
        for line in self._lines:
            if odd := _ODD.fullmatch(line):
                yield Entry("", odd[1])
            elif (found := _ENTRY.fullmatch(line)) and found[4] != "./":
                kind = found[1] if found[1] in "df" else ""
                yield Entry(kind, found[4].rstrip("/"), int(found[2]), _seconds(found[3]))


def _seconds(text: str) -> float:
    """rsync tells local time; in the hour that comes twice it may be an hour off, and a file is compared once more."""
    try:
        return time.mktime(time.strptime(text, "%Y/%m/%d-%H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0


def _heard(child: Child) -> bytes | None:
    """What the child wrote, None when it said nothing for a while, ``b""`` at the end."""
    try:
        return child.receive(_LOOK)
    except TimeoutError:
        return None
