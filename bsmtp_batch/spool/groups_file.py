"""What a group file looks like: messages that were acknowledged together, for one fsync.

A group file is a row of *records*, one for each commit. A record begins on a page of its own and is filled up to the
next one, so nothing that was acknowledged is ever written again: a later write that fails cannot hurt it.

    bsmtp-batch group 1 BASE TIME COUNT TABLE SIZE SUM-OF-TABLE SUM-OF-LINE LF      fixed length, numbers in decimal
    ROUTE KEY.DIGEST SIZE LF                                                        COUNT lines, TABLE octets
    the fragments, one behind the other                                             SIZE octets

BASE is the name of the file without its suffix: 24 hexadecimal digits that nobody who sends mail can know, so a page
in the middle of a message, or of a file that was deleted, is never taken for a record. TIME is nanoseconds since 1970.
Only the last record of a file can be torn, for none is begun before the one ahead of it is durable.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bsmtp_batch.spool import names

GROUPS = "groups"
"""The directory of the spool that holds group files."""
DRAIN_LOCK = "drain.lock"
PAGE = 4096
CHUNK = 1 << 20
OPEN, FULL, FAILED, LEFT, UNREAD, ODD = "", ".full", ".failed", ".left", ".unread", ".odd"
"""A group file that is written to; one that is to be drained; one whose writer met an error; what waits for a route
that is not there; one that the disk did not give back, which is tried again; octets that are no record."""

_MAGIC = b"bsmtp-batch group 1 "
_LINE = re.compile(
    rb"bsmtp-batch group 1 ([0-9a-f]{24}) (\d{20}) (\d{8}) (\d{10}) (\d{15}) ([0-9a-f]{64}) ([0-9a-f]{16})\n"
)
_LINE_SIZE = len(_MAGIC) + 24 + 1 + 20 + 1 + 8 + 1 + 10 + 1 + 15 + 1 + 64 + 1 + 16 + 1
_NAME = re.compile(r"([0-9a-f]{24})(?:(?:\.(\d{1,18}))?(\.failed|\.unread)|(\.full|\.left|\.odd))?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message for one route. ``name`` is KEY.DIGEST; ``data`` the whole fragment, MAIL to dot line, in one piece or
    in several."""

    route: str
    name: str
    data: bytes | tuple[bytes, ...]

    def pieces(self) -> tuple[bytes, ...]:
        """The fragment, in one piece or in several."""
        return self.data if isinstance(self.data, tuple) else (self.data,)

    def size(self) -> int:
        """Octets of the fragment."""
        return len(self.data) if isinstance(self.data, bytes) else sum(map(len, self.data))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fragment stands in a group file: ``at`` and ``size`` in octets; ``when`` it was accepted, in nanoseconds
    since 1970, in the order of acceptance."""

    route: str
    name: str
    at: int
    size: int
    when: int


@dataclass(frozen=True, slots=True)
class Record:
    """One commit as it stands in the file; its octets go from ``at`` to ``end``, with padding to ``after``."""

    at: int
    end: int
    places: tuple[Place, ...]

    @property
    def after(self) -> int:
        """Where the next record begins."""
        return padded(self.end)


@dataclass(frozen=True, slots=True)
class Gap:
    """Octets from ``at`` to ``end`` that are no record. ``torn``: they end where a writer was stopped in its work, so
    nobody was told yes for them."""

    at: int
    end: int
    torn: bool


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a group file: ``kind`` is its suffix; nothing behind octet ``limit`` of it counts."""

    name: str
    base: str
    kind: str
    limit: int | None = None


def new_base() -> str:
    """A BASE that no other group file has or ever had."""
    return os.urandom(12).hex()


def parse_name(name: str) -> Name | None:
    """What kind of group file has this name, or None when it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    base, limit, cut, kind = found.groups()
    return Name(name, base, cut or kind or OPEN, int(limit) if limit else None)


def cut_name(base: str, kind: str, limit: int | None) -> str:
    """The name of a group file that was given up, or cannot be read; what was acknowledged ends at octet ``limit``."""
    return f"{base}{kind}" if limit is None else f"{base}.{limit}{kind}"


def padded(size: int) -> int:
    """``size`` up to the next whole page."""
    return (size + PAGE - 1) // PAGE * PAGE


def head(base: str, when: int, table: Sequence[tuple[str, str, int]]) -> bytes:
    """What stands in a record ahead of its fragments: route, name and octets of each in ``table``."""
    lines = "".join([f"{route} {name} {size}\n" for route, name, size in table]).encode()
    octets = sum([size for _, _, size in table])
    line = b"%s%s %020d %08d %010d %015d " % (_MAGIC, base.encode(), when, len(table), len(lines), octets)
    line += hashlib.sha256(lines).hexdigest().encode() + b" "
    return line + _sum(line) + b"\n" + lines


def _sum(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest()[:16].encode()


def scan(fd: int, base: str, size: int) -> Iterator[Record | Gap]:
    """The records in the first ``size`` octets of the group file ``fd``, and what stands between them.

    Says nothing about the fragments themselves: the last record may be torn all the same. Raises ``OSError``.
    """
    at = 0
    while at < size:
        found = _record_at(fd, base, at, size)
        if isinstance(found, Gap) and not found.torn:
            found = Gap(at, _next(fd, base, at + PAGE, size), torn=False)
        yield found
        at = found.after if isinstance(found, Record) else found.end


def _record_at(fd: int, base: str, at: int, size: int) -> Record | Gap:
    start = os.pread(fd, PAGE, at)
    line = _LINE.match(start)
    broken, cut = Gap(at, at, torn=False), Gap(at, size, torn=True)
    if len(start) < _LINE_SIZE:
        return cut if (_MAGIC + base.encode()).startswith(start[: len(_MAGIC) + 24]) else broken
    if line is None or line[1] != base.encode() or _sum(start[: line.end() - 17]) != line[7]:
        return broken
    when, count, length, octets = (int(number) for number in line.group(2, 3, 4, 5))
    end = at + _LINE_SIZE + length + octets
    if at + _LINE_SIZE + length > size:
        return cut
    table = start[_LINE_SIZE : _LINE_SIZE + length]
    if len(table) < length:
        table += os.pread(fd, length - len(table), at + PAGE)
    places = _places(table, at + _LINE_SIZE + length, when)
    if hashlib.sha256(table).hexdigest().encode() != line[6] or places is None or len(places) != count:
        return broken
    return cut if end > size else Record(at, end, places)


def _places(table: bytes, at: int, when: int) -> tuple[Place, ...] | None:
    """The lines of a table; None when one is not as we write it."""
    found: list[Place] = []
    for line in table.decode("ascii", "replace").splitlines():
        words = line.split(" ")
        if len(words) != 3 or not words[2].isdecimal() or not names.parse_fragment(words[1]):
            return None
        if not names.valid_route(words[0].encode()):
            return None
        found.append(Place(words[0], words[1], at, int(words[2]), when + len(found)))
        at += found[-1].size
    return tuple(found)


def _next(fd: int, base: str, at: int, size: int) -> int:
    """Where the next record begins after something that is none."""
    while at < size:
        if os.pread(fd, PAGE, at).startswith(_MAGIC) and isinstance(_record_at(fd, base, at, size), Record):
            return at
        at += PAGE
    return size


def is_void(fd: int, gap: Gap) -> bool:
    """Whether nothing but zeros stands in ``gap``: the file grew and nothing was written. Raises ``OSError``."""
    return not any(any(chunk) for chunk in chunks(fd, gap.at, gap.end))


def is_whole(fd: int, record: Record) -> bool:
    """Whether each fragment of ``record`` is what its DIGEST says. Raises ``OSError``."""
    for place in record.places:
        digest = hashlib.sha256()
        for chunk in chunks(fd, place.at, place.at + place.size):
            digest.update(chunk)
        if digest.hexdigest() != place.name[-64:]:
            return False
    return True


def chunks(fd: int, at: int, end: int) -> Iterator[bytes]:
    """The octets of ``fd`` from ``at`` to ``end``; ``OSError`` as well when the file is shorter."""
    while at < end:
        chunk = os.pread(fd, min(CHUNK, end - at), at)
        if not chunk:
            raise OSError(0, "it became shorter while it was read")
        yield chunk
        at += len(chunk)
