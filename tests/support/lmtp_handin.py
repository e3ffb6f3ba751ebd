"""Hands one message in by LMTP, as an MTA does: with its queue id, and listening for the answer for each recipient."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import SocketIO

PATIENCE = 30.0
"""Seconds for a server to come up, and for each answer."""


def hand_in(
    where: str,
    queue_id: str,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
    *,
    lives: Callable[[], bool],
) -> bool:
    """Whether every recipient was answered yes; ``content`` with CRLF. ``lives``: the server at the socket ``where``
    has not ended yet."""
    line = _connect(where, lives)
    if line is None:
        return False
    with line, line.makefile("rwb", 0) as stream:
        yes = False
        try:
            yes = _talk(stream, queue_id, sender, recipients, content)
            _said(stream, b"QUIT\r\n", ["221"])
            stream.read()  # it hangs up first: so its calls are the same each time
        except OSError:
            pass
        return yes


def _talk(stream: SocketIO, queue_id: str, sender: str, recipients: Sequence[str], content: bytes) -> bool:
    if _code(stream) != "220" or not _said(stream, b"LHLO mta.example\r\n", ["250"]):
        return False
    commands = [f"XFORWARD IDENT={queue_id}", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{r}>" for r in recipients), "DATA"]
    envelope = "".join(f"{command}\r\n" for command in commands).encode()
    if not _said(stream, envelope, ["250"] * (len(commands) - 1) + ["354"]):
        return False
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return _said(stream, stuffed + b".\r\n", ["250"] * len(recipients))


def _said(stream: SocketIO, what: bytes, wanted: list[str]) -> bool:
    rest = memoryview(what)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    return [_code(stream) for _ in wanted] == wanted


def _code(stream: SocketIO) -> str:
    """The code of one reply; empty when the line is over."""
    while True:
        line = stream.readline().decode(errors="replace")
        if line[3:4] != "-":
            return line[:3]


def _connect(where: str, lives: Callable[[], bool]) -> socket.socket | None:
    """A connection to the server as soon as it listens; None when it has ended before."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and lives():
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(PATIENCE)
        try:
            line.connect(where)
        except OSError:
            line.close()
            time.sleep(0.005)
        else:
            return line
    return None


def lives(pid: int) -> bool:
    """Whether the process ``pid`` has not ended yet, whether or not somebody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
