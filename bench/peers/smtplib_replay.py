"""A plain importer, smtplib's ``sendmail`` for each message of a batch: python smtplib_replay.py FILE HOST PORT."""

from __future__ import annotations

import smtplib
import sys
from collections.abc import Iterator


def messages(path: str) -> Iterator[tuple[str, list[str], bytes]]:
    """Sender, recipients and content of each message of a batch."""
    sender, rcpts = "", []
    with open(path, "rb") as batch:
        for line in batch:
            if line.startswith(b"MAIL FROM:<"):
                sender, rcpts = line[11 : line.index(b">")].decode(), []
            elif line.startswith(b"RCPT TO:<"):
                rcpts.append(line[9 : line.index(b">")].decode())
            elif line == b"DATA\r\n":
                content = []
                for text in batch:
                    if text == b".\r\n":
                        break
                    content.append(text.removeprefix(b"."))
                yield sender, rcpts, b"".join(content)


with smtplib.SMTP(sys.argv[2], int(sys.argv[3])) as server:
    for sender, rcpts, content in messages(sys.argv[1]):
        if server.sendmail(sender, rcpts, content):
            sys.exit(1)
