"""The lines of a batch around the texts: greeting, envelopes, QUIT (docs/FORMAT.md).

A batch is ``greeting``, then for each message ``transaction``, its canonical text, ``END``; and at last ``QUIT``.
Nothing stands between them: some readers end silently at a blank line or an unknown word and call that success.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bsmtp_batch.wire.command import MAX_RCPTS, BadCommand, Mail, Rcpt, format_mail, format_rcpt
from bsmtp_batch.wire.dots import END

__all__ = ["DATA", "END", "QUIT", "greeting", "is_node", "transaction"]

QUIT = b"QUIT\r\n"
"""The last line of every batch."""
DATA = b"DATA\r\n"
"""The line between an envelope and its text."""

_NODE = re.compile(rb"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def is_node(name: bytes) -> bool:
    """Whether ``name`` may follow HELO or EHLO in a batch of ours: a host name in lower case."""
    return _NODE.fullmatch(name) is not None and b".." not in name


def greeting(node: str, esmtp: bool) -> bytes:
    """``EHLO node`` where some transaction of the batch carries parameters, ``HELO node`` otherwise; with its CRLF.

    Raises ``ValueError`` when ``node`` is no host name in lower case.
    """
    name = node.encode()
    if not is_node(name):
        raise ValueError(f"{node!r} is not the name of a node: a host name in lower case")
    return (b"EHLO " if esmtp else b"HELO ") + name + b"\r\n"


def transaction(mail: Mail, rcpts: Sequence[Rcpt]) -> bytes:
    """The envelope: MAIL, each RCPT in order, and DATA with its CRLF; the canonical text follows, then ``END``.

    Raises :class:`~bsmtp_batch.wire.command.BadCommand` or ``BadAddress`` for what the reader would not give back,
    and for no recipient or more than :data:`~bsmtp_batch.wire.command.MAX_RCPTS`.
    """
    if not 0 < len(rcpts) <= MAX_RCPTS:
        raise BadCommand(f"a message has 1 to {MAX_RCPTS} recipients")
    return format_mail(mail) + b"".join(map(format_rcpt, rcpts)) + DATA
