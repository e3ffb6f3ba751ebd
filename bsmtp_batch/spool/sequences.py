"""Which numbers of the batches of others have been seen, so that a gap or a replay is noticed.

A node numbers its batches per route without gaps, so a number that never came is a loss until it comes. What is
noticed is told and kept; it never stops anything. Each manifest names the one before it by its hash, so that numbers in
order of which one was exchanged are noticed, too.

One text file per origin, a line per sending node and route: ``NODE ROUTE FIRST HIGHEST MISSING DIGEST``, where MISSING
is ``-`` or ranges such as ``3-5,9-9``, and DIGEST the hex sha256 of the manifest with the highest number; files of
earlier versions lack it. A line that begins with ``!`` is something noticed that no later batch can put right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_RANGES = 1000
"""Ranges remembered per line; beyond that the oldest gaps are no longer told of one by one."""
MAX_REMARKS = 8
"""Remarks remembered, the latest ones."""
_LASTING = ("chain:", "replay:")


@dataclass
class _Line:
    first: int
    highest: int
    missing: list[tuple[int, int]] = field(default_factory=list)
    digest: str = ""


class Sequences:
    """The numbers seen from one origin."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self.remarks: list[str] = []
        """What was noticed and cannot be put right by a later batch, oldest first."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Sequences:
        """The file read back; a line that makes no sense is forgotten, since nothing but a warning hangs on it."""
        found = cls()
        for text in data.decode("ascii", "replace").splitlines():
            if text.startswith("! "):
                found.remarks.append(text[2:])
                continue
            try:
                node, route, first, highest, ranges, *digest = text.split(" ")
                missing = [] if ranges == "-" else [_range(r) for r in ranges.split(",")]
                found._lines[node, route] = _Line(int(first), int(highest), missing, *digest)
            except (TypeError, ValueError):
                continue
        return found

    def to_bytes(self) -> bytes:
        """The file."""
        lines = []
        for (node, route), line in sorted(self._lines.items()):
            ranges = ",".join(f"{a}-{b}" for a, b in line.missing[-MAX_RANGES:]) or "-"
            lines.append(f"{node} {route} {line.first} {line.highest} {ranges} {line.digest}".rstrip() + "\n")
        lines += [f"! {remark}\n" for remark in self.remarks[-MAX_REMARKS:]]
        return "".join(lines).encode("ascii", "replace")

    def remember(self, remark: str, when: str) -> None:
        """Keep ``remark`` (of :meth:`see`, made ``when``), if it is one that no later batch can put right."""
        if remark.startswith(_LASTING):
            self.remarks = [*self.remarks, f"{when} {remark}"][-MAX_REMARKS:]

    def see(self, node: str, route: str, number: int, *, digest: str = "", previous: str = "") -> str:
        """Note that ``number`` came; returns a sentence when that is remarkable, otherwise ``""``.

        ``digest`` is the hex sha256 of its manifest, ``previous`` what that says of the manifest before it; both may be
        empty.
        """
        line = self._lines.get((node, route))
        if line is None:
            self._lines[node, route] = _Line(number, number, digest=digest)
            return ""
        if number > line.highest:
            gap, before = (line.highest + 1, number - 1), line.digest
            line.highest, line.digest = number, digest
            if gap[0] > gap[1]:
                if before and digest and previous != before:
                    return f"chain: {number} of {route} from {node} was not made behind the {number - 1} that came"
                return ""
            line.missing.append(gap)
            return f"gap: {_words(gap)} of {route} from {node} did not come before {number}"
        if number < line.first:
            if number + 1 < line.first:
                line.missing.insert(0, (number + 1, line.first - 1))
            line.first = number
            return ""
        if _take(line.missing, number):
            return f"late: {number} of {route} from {node} fills a gap"
        return f"replay: number {number} of {route} from {node} came before, under another name or with other bytes"

    def is_missing(self, node: str, route: str, number: int) -> bool:
        """Whether ``number`` is known not to have come."""
        line = self._lines.get((node, route))
        return line is not None and any(low <= number <= high for low, high in line.missing)

    def gaps_since(self, before: Sequences) -> list[str]:
        """A sentence for each gap that there was not ``before``. Batches of one contact come in the order of their
        size, so only at its end can it be told which numbers did not come."""
        found = []
        for (node, route), line in sorted(self._lines.items()):
            known = before._lines.get((node, route))
            for low, high in line.missing:
                if known is None or not any(a <= low and high <= b for a, b in known.missing):
                    found.append(f"gap: {_words((low, high))} of {route} from {node} did not come")
        return found

    def missing(self) -> list[str]:
        """A sentence for each node and route with numbers that have not come."""
        return [
            f"{route} from {node}: {', '.join(_words(gap) for gap in line.missing)} did not come"
            for (node, route), line in sorted(self._lines.items())
            if line.missing
        ]


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high)


def _words(gap: tuple[int, int]) -> str:
    return str(gap[0]) if gap[0] == gap[1] else f"{gap[0]} to {gap[1]}"


def _take(missing: list[tuple[int, int]], number: int) -> bool:
    for place, (low, high) in enumerate(missing):
        if low <= number <= high:
            missing[place : place + 1] = [r for r in ((low, number - 1), (number + 1, high)) if r[0] <= r[1]]
            return True
    return False
