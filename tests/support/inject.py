"""Hands messages to an SMTP server exactly as they are: no address and no octet is looked at on the way.

``python inject.py PORT`` inside a box: one JSON object per line on standard input, ``{"sender", "rcpts", "content"
(base64, CRLF)}``; one line per message comes out, the reply to its last command, or to the first that was refused.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sys
from typing import BinaryIO


def reply(stream: BinaryIO) -> str:
    """One reply, the lines of a longer one joined by newlines."""
    lines = []
    while True:
        line = stream.readline().decode(errors="replace").rstrip()
        lines.append(line)
        if line[3:4] != "-":
            return "\n".join(lines)


def send(stream: BinaryIO, mail: dict[str, object]) -> str:
    """One transaction; returns the reply that ended it."""
    utf8 = " SMTPUTF8" if not json.dumps([mail["sender"], mail["rcpts"]], ensure_ascii=False).isascii() else ""
    rcpts = mail["rcpts"]
    assert isinstance(rcpts, list)
    for command in [f"MAIL FROM:<{mail['sender']}> BODY=8BITMIME{utf8}", *(f"RCPT TO:<{r}>" for r in rcpts), "DATA"]:
        stream.write(command.encode() + b"\r\n")
        answer = reply(stream)
        if answer[0] not in "23":
            stream.write(b"RSET\r\n")
            reply(stream)
            return answer
    content = base64.b64decode(str(mail["content"]))
    text = memoryview(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
    while text:
        text = text[stream.write(text) :]
    return reply(stream)


def main(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock, sock.makefile("rwb", 0) as raw:
        stream: BinaryIO = raw  # type: ignore[assignment]  # unbuffered: SocketIO has what is used here
        reply(stream)
        stream.write(b"EHLO world.example\r\n")
        reply(stream)
        for line in sys.stdin:
            print(json.dumps(send(stream, json.loads(line))), flush=True)
        stream.write(b"QUIT\r\n")
        reply(stream)


if __name__ == "__main__":
    main(int(sys.argv[1]))
