"""What a reply means for a recipient: the rules by which mail is delivered, kept for later, or refused for good."""

from __future__ import annotations

from bsmtp_batch.replay.contract import Kind, Verdict
from bsmtp_batch.wire.events import Reply, Verb

NOT_THE_MAIL = frozenset({500, 502, 503, 521, 530, 534, 535, 538})
"""Refusals of the command or of us, not of the mail: a server that wants a login or does not know a command. Sending
the mail back to its sender over them would turn a wrong setting into a bounce."""

_CROWDED = frozenset({(452, b""), (452, b"4.5.3"), (552, b""), (552, b"5.5.3")})
"""Too many recipients, by code and enhanced status; 552 is what older servers say (RFC 5321 section 4.5.3.1.10)."""


MAX_REPLY = 1000
"""Characters of a reply that are kept. A server may say 64 KiB, and each recipient has one: in the ledger, in memory,
and in the report to the sender."""


def judge(reply: Reply, asked: Verb) -> Verdict:
    """The verdict for whoever ``reply`` to the request ``asked`` (MAIL, RCPT, DATA or the end of data) is about."""
    said = str(reply)
    return Verdict(_kind(reply, asked), said if len(said) <= MAX_REPLY else f"{said[: MAX_REPLY - 3]}...")


def _kind(reply: Reply, asked: Verb) -> Kind:
    if reply.ok:
        return Kind.DELIVERED
    if asked is Verb.RCPT and (reply.code, reply.status) in _CROWDED:
        return Kind.CROWDED
    if reply.permanent and reply.code not in NOT_THE_MAIL:
        return Kind.REJECTED
    return Kind.DEFERRED
