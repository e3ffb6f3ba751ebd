"""A server without a network: it reads when the client waits for it, so that every flight can be counted.

A flight is what the client writes between two waits; the server reads all of it and answers all of it, as one packet
each way. What the client does with a connection thus takes as many round trips as there are flights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from support.sink import Closing, Sink, Talk

from bsmtp_batch.replay.contract import Job, Kind, Result, Unreachable
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import stuff
from bsmtp_batch.wire.session import Reading


class Lockstep:
    """A channel whose far side is ``sink``, which need not listen. ``pieces`` cuts what it says into so many octets."""

    def __init__(self, sink: Sink, number: int = 1, *, pieces: int = 65536) -> None:
        self.flights: list[bytes] = []
        self._said = b""
        self._heard = b""
        self._over = False
        self._pieces = pieces
        self._talk = Talk(sink, self._write, number)
        self._talk.begin()

    def _write(self, data: bytes) -> None:
        self._said += data

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        if self._over:
            raise BrokenPipeError(32, "the server has gone")
        self._heard += data

    def receive(self, seconds: float) -> bytes:
        if not self._said and self._heard:
            flight, self._heard = self._heard, b""
            self.flights.append(flight)
            try:
                self._talk.feed(flight)
            except Closing:
                self._over = True
        if not self._said and not self._over:
            raise TimeoutError("it has nothing to say")
        piece, self._said = self._said[: self._pieces], self._said[self._pieces :]
        return piece

    def close(self) -> None:
        self._over = True
        if self._heard and self._talk.session.reading is not Reading.ENDED:
            self.receive(0)


class LockstepTarget:
    """A target whose connections are counted: one after the other to the same ``sink``."""

    name = "lockstep"

    def __init__(self, sink: Sink, *, most: int = 1000, pieces: int = 65536) -> None:
        self.channels: list[Lockstep] = []
        self._sink = sink
        self._most = most
        self._pieces = pieces

    @property
    def flights(self) -> int:
        return sum(len(channel.flights) for channel in self.channels)

    def connect(self) -> SmtpConnection:
        if len(self.channels) >= self._most:
            raise Unreachable("no more connections")
        channel = Lockstep(self._sink, len(self.channels) + 1, pieces=self._pieces)
        self.channels.append(channel)
        connection = SmtpConnection(channel, self._sink.protocol)
        connection.greet("hub.example")
        return connection


@dataclass
class Letter:
    """A delivery that remembers what became of it, in a ``log`` that all of them share."""

    number: int
    log: list[tuple[str, int]]
    to: tuple[bytes, ...] = (b"u@site.example",)
    sender: bytes = b""
    content: bytes = b""
    eight_bit: bool = False
    results: list[Result] = field(default_factory=list)
    job: Job = field(init=False)

    def __post_init__(self) -> None:
        content = self.content or b"Subject: %d\r\n\r\nnumber %d\r\n" % (self.number, self.number)
        wire = stuff(content)
        self.job = Job(
            f"n{self.number}",
            Mail(self.sender or b"m%d@hub.example" % self.number),
            tuple(map(Rcpt, self.to)),
            len(content),
            self.eight_bit,
            lambda: iter((wire[:20], wire[20:])),
            lambda: iter((content,)),
        )

    def begin(self) -> None:
        self.mark()
        self.commit()

    def mark(self) -> None:
        self.log.append(("mark", self.number))

    def commit(self) -> None:
        pass

    def settle(self, result: Result) -> Letter | None:
        self.log.append(("settle", self.number))
        self.results.append(result)
        crowded = [n for n, verdict in enumerate(result.verdicts) if verdict.kind is Kind.CROWDED]
        if not crowded or not any(verdict.kind is Kind.DELIVERED for verdict in result.verdicts):
            return None
        return Letter(self.number, self.log, tuple(self.to[n] for n in crowded), results=self.results)

    @property
    def kinds(self) -> list[Kind]:
        return [verdict.kind for verdict in self.results[-1].verdicts]
