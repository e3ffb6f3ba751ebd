"""The mail of the benchmark: one standard message of any size, and batches of it."""

from __future__ import annotations

from pathlib import Path

LINE = b"The quick brown fox jumps over the lazy dog, again and again and so"[:65]
HEADER = (
    b"Received: from client.example by hub.example\r\n"
    b"From: sender@client.example\r\nTo: user@site.example\r\nSubject: a standard message\r\n\r\n"
)
SMALL, LARGE, HUGE = 4096, 1_000_000, 100_000_000


def content(size: int) -> bytes:
    """A message of about ``size`` octets: four header lines, lines of 65 octets, every fortieth begins with a dot."""
    block = (LINE + b"\r\n") * 39 + b"." + LINE[1:] + b"\r\n"
    return HEADER + (block * (size // len(block) + 1))[: (size - len(HEADER)) // 67 * 67]


def write_text(path: Path, size: int) -> Path:
    """The message with LF line ends, as smtp-source and a pipe want it."""
    path.write_bytes(content(size).replace(b"\r\n", b"\n"))
    return path


def write_batch(path: Path, count: int, size: int, *, senders: bool, domain: str = "site.example") -> Path:
    """A batch of ``count`` messages, all from one sender to one recipient (as smtp-source has it), or, with
    ``senders``, each from its own and to a hundred recipients in turn."""
    text = content(size).replace(b"\r\n.", b"\r\n..")
    with path.open("wb", buffering=1 << 20) as file:
        file.write(b"EHLO hub.example\r\n")
        for number in range(count):
            turn = number if senders else 0
            sender = b"s%d@client.example" % turn
            file.write(b"MAIL FROM:<%b>\r\nRCPT TO:<u%d@%b>\r\nDATA\r\n" % (sender, turn % 100, domain.encode()))
            file.write(text)
            file.write(b".\r\n")
        file.write(b"QUIT\r\n")
    return path
