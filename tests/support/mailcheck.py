"""Reads batch files with code of its own, and compares what came out with what went in.

An MTA puts its Received line in front of a message and changes nothing else, so what was sent has to be the end of what
arrived, octet for octet, and nothing but one Received line may stand before it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.corpus import Mail

TRACE = re.compile(rb"Received: [^\r\n]+\r\n(?:[ \t][^\r\n]+\r\n)*")


@dataclass(frozen=True)
class Parcel:
    """A message on the road: its envelope, and its content with CRLF line ends and no doubled dots."""

    sender: str
    rcpts: tuple[str, ...]
    content: bytes


def read_batch(batch: bytes) -> list[Parcel]:
    """The messages of a batch as bsmtp-batch writes it; any surprise is an AssertionError."""
    parts = re.split(rb"(?<=\r\n)\.\r\n", batch)
    assert parts.pop() == b"QUIT\r\n"
    greeting = re.match(rb"(?:HELO|EHLO) [a-z0-9.-]+\r\n", parts[0])
    assert greeting, parts[0][:60]
    parts[0] = parts[0][greeting.end() :]
    found = []
    for part in parts:
        envelope, content = part.split(b"DATA\r\n", 1)
        mail, *rcpts = envelope.decode().splitlines()
        sender = re.fullmatch(r"MAIL FROM:<(.*)>[^<>]*", mail)
        names = [re.fullmatch(r"RCPT TO:<(.*)>[^<>]*", r) for r in rcpts]
        assert sender and all(names), envelope
        found.append(Parcel(sender[1], tuple(n[1] for n in names if n), re.sub(rb"(?m)^\.", b"", content)))
    return found


def assert_arrived(sent: Sequence[Mail], got: Iterable[Parcel], traces: int = 1) -> None:
    """Every message of ``sent`` is in ``got`` once, envelope and content; ``traces`` Received lines came on top."""
    by_first = {m.rcpts[0]: m for m in sent}
    seen: Counter[str] = Counter()
    for parcel in got:
        first = [r for r in parcel.rcpts if r in by_first]
        assert len(first) == 1, f"no such message was sent: {parcel.sender!r} to {parcel.rcpts}"
        mail = by_first[first[0]]
        seen[mail.rcpts[0]] += 1
        assert parcel.sender == mail.sender, f"message {mail.number}: the sender became {parcel.sender!r}"
        assert sorted(parcel.rcpts) == sorted(mail.rcpts), f"message {mail.number}: the recipients are {parcel.rcpts}"
        assert_content(mail, parcel.content, traces)
    missing = by_first.keys() - seen.keys()
    assert not missing, f"{len(missing)} never arrived, among them {sorted(missing)[:5]}"
    assert max(seen.values()) == 1, f"arrived more than once: {[r for r, n in seen.items() if n > 1][:5]}"


def assert_content(mail: Mail, content: bytes, traces: int = 1) -> None:
    """``content`` is that of ``mail`` behind ``traces`` Received lines."""
    for _ in range(traces):
        head = TRACE.match(content)
        assert head, f"message {mail.number}: no Received line but {content[:80]!r}"
        content = content[head.end() :]
    if content != mail.canonical:
        at = next(
            (i for i, (a, b) in enumerate(zip(content, mail.canonical, strict=False)) if a != b),
            min(len(content), len(mail.canonical)),
        )
        raise AssertionError(
            f"message {mail.number} ({mail.kind}): {len(mail.canonical)} octets became {len(content)}; first difference"
            f" at {at}: {mail.canonical[at:][:60]!r} became {content[at:][:60]!r}"
        )
