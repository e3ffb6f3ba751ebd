"""Thousands of messages for thousands of customers, handed to a mail server over several connections at once."""

from __future__ import annotations

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.mailcheck import TRACE, read_batch

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from support.box import Box

LINE = b"..the cargo of this day, in line number %d of the manifest, is as told before\r\n"


@dataclass(frozen=True)
class Letter:
    """Message ``number``, for one or more customers."""

    number: int
    rcpts: tuple[str, ...]

    @property
    def content(self) -> bytes:
        """What arrives, with CRLF; different for every message."""
        lines = b"".join(LINE[1:] % n for n in range(self.number % 40 + 5))
        return b"Subject: number %d\r\nX-Number: %d\r\n\r\n%s" % (self.number, self.number, lines)

    @property
    def envelope(self) -> bytes:
        rcpts = b"".join(b"RCPT TO:<%s>\r\n" % r.encode() for r in self.rcpts)
        return b"MAIL FROM:<sender%d@world.example>\r\n%sDATA\r\n" % (self.number % 97, rcpts)


def letters(count: int, domains: list[str]) -> list[Letter]:
    """``count`` messages that spread over ``domains``: most for one customer, every tenth for three."""
    found = []
    for n in range(count):
        places = [n, n * 7 + 1, n * 13 + 5] if n % 10 == 0 else [n]
        rcpts = [f"crew{n}@{domains[place % len(domains)]}" for place in places]
        if n % 50 == 0:
            rcpts += [f"mate{n}.{i}@{domains[n % len(domains)]}" for i in range(8)]
        found.append(Letter(n, tuple(dict.fromkeys(rcpts))))
    return found


class Flood:
    """Sends ``letters`` to the SMTP server on ``port`` of ``box`` over ``connections``, while the with block lasts."""

    def __init__(self, box: Box, port: int, letters: Iterable[Letter], connections: int = 4):
        self._source = iter(letters)
        self._lock = threading.Lock()
        self._box, self._port, self._connections = box, port, connections
        self._pool = ThreadPoolExecutor(connections)

    def __enter__(self) -> Flood:
        self._running = [self._pool.submit(self._send) for _ in range(self._connections)]
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._pool.shutdown()

    @property
    def done(self) -> bool:
        return all(r.done() for r in self._running)

    def wait(self) -> None:
        """Wait until everything is in the server's queue."""
        for one in self._running:
            one.result(250)

    def _next(self) -> Letter | None:
        with self._lock:
            return next(self._source, None)

    def _send(self) -> None:
        """One connection: the end of each message goes out together with the envelope of the next."""
        with self._box.connect(self._port) as wire:
            replies = _replies(wire)
            assert next(replies) == b"220"
            wire.sendall(b"EHLO world.example\r\n")
            assert next(replies) == b"250"
            pending = b""
            while letter := self._next():
                wire.sendall(pending + letter.envelope)
                wanted = ([b"250"] if pending else []) + [b"250"] * (1 + len(letter.rcpts)) + [b"354"]
                assert (said := [next(replies) for _ in wanted]) == wanted, said
                pending = re.sub(rb"(?m)^\.", b"..", letter.content) + b".\r\n"
            wire.sendall(pending + b"QUIT\r\n")
            assert [*replies] == ([b"250"] if pending else []) + [b"221"]


def _replies(wire: socket.socket) -> Iterator[bytes]:
    """The codes of the replies."""
    with wire.makefile("rb") as stream:
        for line in stream:
            if line[3:4] != b"-":
                yield line[:3]


def assert_all_there(sent: Iterable[Letter], batches: dict[str, bytes]) -> None:
    """Each recipient of ``sent`` has his message in the batch of his domain, once and unchanged, and that is all."""
    wanted: Counter[tuple[str, int]] = Counter((r, letter.number) for letter in sent for r in letter.rcpts)
    contents = {letter.number: letter.content for letter in sent}
    found: Counter[tuple[str, int]] = Counter()
    for domain, batch in batches.items():
        for parcel in read_batch(batch):
            content = TRACE.sub(b"", parcel.content, count=1)
            number = int(re.search(rb"(?m)^X-Number: (\d+)\r$", content)[1])  # type: ignore[index]  # or it is wrong
            assert content == contents[number], f"message {number} was changed"
            assert parcel.sender == f"sender{number % 97}@world.example"
            assert {r.rpartition("@")[2] for r in parcel.rcpts} == {domain}
            found.update((r, number) for r in parcel.rcpts)
    assert found - wanted == Counter(), f"{(found - wanted).total()} too many: {list(found - wanted)[:5]}"
    assert wanted - found == Counter(), f"{(wanted - found).total()} lost: {list(wanted - found)[:5]}"
