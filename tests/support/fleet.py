"""Deliveries for a replay over several connections: texts in a file, marks and outcomes in one shared log."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from support.sink import Sink

from bsmtp_batch.edge.sockets import connect_tcp
from bsmtp_batch.replay.contract import Job, Kind, Result, Span, Unreachable
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.wire.command import Mail, Rcpt


class Target:
    """The sink on real connections, of which it has at most ``most`` at a time and ``total`` in all."""

    name = "sink"

    def __init__(self, sink: Sink, *, most: int = 1000, patience: float = 0.1) -> None:
        self.sink = sink
        self.most = most
        self.patience = patience
        self.opened = 0
        self._lock = threading.Lock()

    def connect(self) -> SmtpConnection:
        with self._lock:
            if self.opened >= self.most:
                raise Unreachable("no more connections")
            self.opened += 1
        channel = connect_tcp("127.0.0.1", self.sink.port, 10)
        connection = SmtpConnection(channel, self.sink.protocol, patience=self.patience)
        connection.greet("hub.example")
        return connection


@dataclass(eq=False)
class Post:
    """A message with its text in a file; what becomes of it is in the ``log`` that all of them share."""

    number: int
    log: list[tuple[str, int]]
    span: Span
    text: bytes
    to: tuple[bytes, ...]
    commit_: Callable[[], None]
    results: list[Result] = field(default_factory=list)
    size: int = 0
    job: Job = field(init=False)

    def __post_init__(self) -> None:
        self.job = Job(
            f"n{self.number}",
            Mail(b"m%d@hub.example" % self.number),
            tuple(map(Rcpt, self.to)),
            self.size or len(self.text),
            False,
            lambda: iter((self.text,)),
            lambda: iter((self.text,)),
            self.span,
        )

    def begin(self) -> None:
        self.mark()
        self.commit()

    def mark(self) -> None:
        self.log.append(("mark", self.number))

    def commit(self) -> None:
        self.commit_()
        self.log.append(("commit", self.number))

    def settle(self, result: Result) -> Post | None:
        self.log.append(("settle", self.number))
        self.results.append(result)
        crowded = [n for n, verdict in enumerate(result.verdicts) if verdict.kind is Kind.CROWDED]
        if not crowded or not any(verdict.kind is Kind.DELIVERED for verdict in result.verdicts):
            return None
        to = tuple(self.to[n] for n in crowded)
        return Post(self.number, self.log, self.span, self.text, to, self.commit_, self.results)

    @property
    def kinds(self) -> list[Kind]:
        return [verdict.kind for verdict in self.results[-1].verdicts]


def posts(
    directory: Path,
    count: int,
    *,
    rcpts: int = 1,
    large: Iterable[int] = (),
    size: int = 300,
    commit: Callable[[], None] = lambda: None,
) -> list[Post]:
    """``count`` messages; those with a number in ``large`` say that they have 100 MB."""
    log: list[tuple[str, int]] = []
    found, offset = [], 0
    with open(directory / "texts", "wb") as file:
        fd = os.open(directory / "texts", os.O_RDONLY)
        for number in range(1, count + 1):
            line = b"number %d, %s\r\n" % (number, b"x" * 60)
            text = b"Subject: %d\r\n\r\n" % number + line * (size // len(line) + 1)
            file.write(text)
            to = tuple(b"u%d@site.example" % n for n in range(rcpts))
            told = 100_000_000 if number in large else 0
            found.append(Post(number, log, Span(fd, offset, len(text)), text, to, commit, size=told))
            offset += len(text)
    weakref.finalize(found[0], os.close, fd)
    return found


def replay(
    found: list[Post], sink: Sink, connections: int = 4, *, over: Callable[[], bool] = lambda: False, **more: float
) -> tuple[list[Post], Engine, Target]:
    """Hand them in; what is left, the engine and the target."""
    target = Target(sink, **more)  # type: ignore[arg-type]
    with Engine(target, connections=connections) as engine:
        left = engine.run(found, over)
    return left, engine, target  # type: ignore[return-value]
