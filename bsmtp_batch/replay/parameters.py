"""What of an envelope's parameters goes to a target, by what the target offers.

SIZE is computed anew. DSN parameters (RFC 3461) go where DSN is offered and are dropped elsewhere. What the content or
the addresses need and the target lacks fails the message: a server must not be sent octets above 127 without 8BITMIME
(RFC 6152), nor an internationalised message without SMTPUTF8 (RFC 6531), and nothing here rewrites content.
"""

from __future__ import annotations

from collections.abc import Container

from bsmtp_batch.replay.contract import Job
from bsmtp_batch.wire.command import Mail, Params, Rcpt, needs_utf8


class Unfit(Exception):
    """The target cannot carry this message at all; holds the words of a reply: status and reason."""


def fitted(job: Job, offered: Container[bytes]) -> tuple[Mail, tuple[Rcpt, ...]]:
    """The envelope of ``job`` as a target may be told it; ``offered`` holds its keywords in capitals.

    Raises :class:`Unfit`.
    """
    given = dict(job.mail.params)
    params: list[tuple[bytes, bytes | None]] = []
    if b"SIZE" in offered:
        params.append((b"SIZE", b"%d" % job.size))
    if job.eight_bit and b"8BITMIME" not in offered:
        raise Unfit("554 5.6.3 the message has 8-bit text and the server does not offer 8BITMIME")
    if b"8BITMIME" in offered and (job.eight_bit or b"BODY" in given):
        params.append((b"BODY", b"8BITMIME" if job.eight_bit else given[b"BODY"]))
    if _wants_utf8(job, given):
        if b"SMTPUTF8" not in offered:
            raise Unfit("553 5.6.7 the message needs SMTPUTF8 and the server does not offer it")
        params.append((b"SMTPUTF8", None))
    if b"DSN" not in offered:
        return Mail(job.mail.path, tuple(params)), tuple(Rcpt(rcpt.path) for rcpt in job.rcpts)
    params += [(keyword, given[keyword]) for keyword in (b"RET", b"ENVID") if keyword in given]
    return Mail(job.mail.path, tuple(params)), job.rcpts


def parameter(params: Params, keyword: bytes) -> bytes | None:
    """The value of ``keyword`` among ``params``; None where it is absent."""
    return dict(params).get(keyword)


def _wants_utf8(job: Job, given: dict[bytes, bytes | None]) -> bool:
    """Addresses that need it (RFC 6533: original ones too), or a message marked with it that is not plain ASCII."""
    if needs_utf8(job.mail.path):
        return True
    if any(needs_utf8(rcpt.path) or needs_utf8(parameter(rcpt.params, b"ORCPT") or b"") for rcpt in job.rcpts):
        return True
    return b"SMTPUTF8" in given and job.eight_bit
