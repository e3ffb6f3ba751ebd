"""The usual case in octets: an envelope that goes out in one group, and the answers that say nothing but yes.

Almost every message of a batch is like the one before it: its envelope fits into one pipelined group, everybody is
accepted, the text is taken. For these the requests and replies of the wire core are too dear by the message. What is
the least bit unusual is not judged here: it goes through the wire core, octet for octet.
"""

from __future__ import annotations

import re
from collections.abc import Container

from bsmtp_batch.replay.contract import Job
from bsmtp_batch.replay.parameters import Unfit, fitted
from bsmtp_batch.replay.replies import MAX_REPLY
from bsmtp_batch.wire.command import Mail, Rcpt, format_params

SMALL = 1 << 18
"""Octets of a text that are read and sent as one piece; a larger one is left to the system to copy."""
MOST = 40
"""Recipients of an envelope that goes out in one group, and whose answers fit behind it (LMTP)."""
OCTETS = 8192
"""Octets of one envelope, at most."""

_PLAIN = re.compile(rb"[!-;=?-~]*")
"""A path without anything that a line could be ended or an address be closed with."""
_LINES = re.compile(rb"(?:(?:MAIL FROM|RCPT TO):<[!-;=?-~]*>(?: [!-~]+)*\r\n)+")
_YES = re.compile(rb"2[0-9][0-9](?: [!-~]+)+")
"""A reply on one line that can be told as it stands: printable, single blanks."""


class Odd(Exception):
    """This is not the usual case."""


def envelope(job: Job, offered: Container[bytes]) -> bytes:
    """The group with which ``job`` begins, up to its DATA, as the wire core would write it; ``offered`` holds the
    keywords of the server. Raises :class:`Odd`."""
    if job.span is None or job.span.size > SMALL or len(job.rcpts) > MOST:
        raise Odd
    mail, rcpts = job.mail, job.rcpts
    if not mail.params and not job.eight_bit and len(rcpts) == 1 and not rcpts[0].params:
        path, rcpt = mail.path, rcpts[0].path
        if not _PLAIN.fullmatch(path) or not _PLAIN.fullmatch(rcpt):
            raise Odd
        size = b" SIZE=%d" % job.size if b"SIZE" in offered else b""
        return b"MAIL FROM:<%s>%s\r\nRCPT TO:<%s>\r\nDATA\r\n" % (path, size, rcpt)
    return _general(job, offered)


def _general(job: Job, offered: Container[bytes]) -> bytes:
    try:
        mail, rcpts = fitted(job, offered)
    except Unfit as unfit:
        raise Odd from unfit
    lines = _line(b"MAIL FROM:", mail) + b"".join([_line(b"RCPT TO:", rcpt) for rcpt in rcpts])
    if len(lines) > OCTETS or not _LINES.fullmatch(lines) or (len(rcpts) > MOST // 4 and any(r.params for r in rcpts)):
        raise Odd
    return lines + b"DATA\r\n"


def _line(opening: bytes, command: Mail | Rcpt) -> bytes:
    return b"%s<%s>%s\r\n" % (opening, command.path, format_params(command.params))


def answers(heard: bytes, dots: int, rcpts: int) -> list[str] | None:
    """What the server says to a flight of a dot that wants ``dots`` answers (0: no dot) with an envelope of ``rcpts``
    recipients behind it (0: none): the answers to the dot, one by one, when all is accepted; None while ``heard`` is
    not all of it. Raises :class:`Odd`."""
    lines = heard.split(b"\r\n")
    rest = lines.pop()
    due = dots + (rcpts + 2 if rcpts else 0)
    if len(lines) >= due:
        if rest or len(lines) > due or (rcpts and not lines.pop().startswith(b"354 ")):
            raise Odd
        for line in lines:
            if not _YES.fullmatch(line) or len(line) > MAX_REPLY:
                raise Odd
        return [line.decode("ascii") for line in lines[:dots]]
    for line in lines:
        if not _YES.fullmatch(line):
            raise Odd
    if b"\n" in rest or len(rest) > MAX_REPLY:  # a bare LF may end a reply, too: nothing more would come to wait for
        raise Odd
    return None


def all_accepted(rcpts: int) -> bytes:
    """What a server may have said to an envelope of so many recipients of which :func:`answers` had nothing to tell."""
    return b"250 ok\r\n" * (rcpts + 1) + b"354 go on\r\n"
