"""The messages of the demonstration: each carries one thing that has torn, lost or bounced mail somewhere.

Content is written as a mail server hands it to a pipe: lines that end in LF, dots not doubled.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

HUB = "hub.example"
SHIP = "aurora.example"
STATION = "borealis.example"

NOBODY = b"nobody@aurora.example"
"""The recipient that the ship's mail server does not know."""
BUSY = b"busy@aurora.example"
"""The recipient for whom the ship's mail server has no time at the first attempt."""


@dataclass(frozen=True)
class Sample:
    """One message: where it is handed in, its envelope, its content, and what is awkward about it.

    ``ends`` is what becomes of it: ``arrives``, ``waits`` (451 first, then it arrives) or ``bounces`` (550).
    """

    title: str
    origin: str
    sender: bytes
    rcpts: tuple[bytes, ...]
    content: bytes
    ends: str = "arrives"

    @property
    def route(self) -> str:
        """The route it waits under: the domain of its recipients, or the hub for what leaves a site."""
        return self.rcpts[0].rpartition(b"@")[2].decode("ascii")


def samples() -> list[Sample]:
    """All messages, in the order in which they are handed in; the same octets every time."""
    return [*_for_the_ship(), *_for_the_station(), *_from_the_sites()]


def _letter(sender: bytes, to: bytes, subject: bytes, body: bytes) -> bytes:
    return (
        b"From: <%s>\nTo: <%s>\nSubject: %s\nDate: Sun, 22 Nov 2026 05:33:00 +0000\n"
        b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n%s"
    ) % (sender or b"MAILER-DAEMON@hub.example", to, subject, body)


def _sample(title: str, sender: bytes, rcpts: list[bytes], body: bytes, ends: str = "arrives") -> Sample:
    content = _letter(sender, rcpts[0] if len(rcpts) == 1 else b"crew:;", title.encode(), body)
    return Sample(title, HUB, sender, tuple(rcpts), content, ends)


def _for_the_ship() -> list[Sample]:
    anna = b"anna@hub.example"
    return [
        _sample("dots at line starts", anna, [b"mate@aurora.example"], b".\n..\n...\n.hidden\n.. and on\n.\n"),
        _sample(
            "a lone dot, then commands",
            anna,
            [b"mate@aurora.example"],
            b"Before.\n.\nMAIL FROM:<forged@evil.example>\nRCPT TO:<mate@aurora.example>\nDATA\nForged.\n.\nQUIT\n",
        ),
        _sample(
            "8-bit, two encodings",
            anna,
            [b"cook@aurora.example"],
            "Grüße aus dem Büro: fünf Säcke Äpfel.\n".encode() + "The same in Latin-1: Grüße.\n".encode("latin-1"),
        ),
        _sample("SMTPUTF8 address", anna, ["jürgen@aurora.example".encode()], b"An address beyond ASCII.\n"),
        _sample("null sender", b"", [b"captain@aurora.example"], b"A report that must never be answered.\n"),
        _sample("3 MB of data", anna, [b"engineer@aurora.example"], _three_megabytes()),
        _sample("a line of 5,000 characters", anna, [b"cook@aurora.example"], b"x" * 5000 + b"\nshort again\n"),
        _sample("address with a dash first", anna, [b"-crew@aurora.example"], b"No option, an address.\n"),
        _sample("quoted local part", anna, [b'"first mate"@aurora.example'], b"From here on: blanks.\n"),
        _sample("451 at the first attempt", anna, [BUSY], b"Please try again later.\n", "waits"),
        _sample("unknown user", anna, [NOBODY], b"Is anybody there?\n", "bounces"),
    ]


def _for_the_station() -> list[Sample]:
    office = b"office@hub.example"
    crew = [b"winterer%02d@borealis.example" % n for n in range(1, 41)]
    return [
        _sample("40 recipients, one copy", office, crew, b"Supply flight on Thursday.\n"),
        _sample("no body at all", office, [b"chief@borealis.example"], b""),
        _sample("only empty lines", office, [b"chief@borealis.example"], b"\n\n\n\n"),
        _sample("From at a line start", office, [b"chief@borealis.example"], b"From here on, no change.\n"),
    ]


def _from_the_sites() -> list[Sample]:
    return [
        Sample(
            "from the ship, home",
            SHIP,
            b"captain@aurora.example",
            (b"anna@hub.example", b"office@hub.example"),
            _letter(b"captain@aurora.example", b"anna@hub.example", b"Position", b".. 64N 22W, all well.\n"),
        ),
        Sample(
            "from the station, home",
            STATION,
            b"chief@borealis.example",
            (b"office@hub.example",),
            _letter(b"chief@borealis.example", b"office@hub.example", b"Weather", "-41 °C, calm.\n".encode()),
        ),
    ]


def _three_megabytes() -> bytes:
    data = random.Random(3_000_000).randbytes(2_220_000)  # noqa: S311 - the same octets every time, no secret
    return base64.encodebytes(data)
