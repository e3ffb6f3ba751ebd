"""What a command line is, by its first word: what each severity takes, passes over and refuses (docs/FORMAT.md)."""

from __future__ import annotations

import re

from bsmtp_batch.batch.writer import is_node

SUB = b"\x1a"
"""^Z: the end of a text file on CP/M and DOS. Also what :func:`tolerant_verb` says of a line of nothing else."""
REPLY = b"250"
"""What :func:`tolerant_verb` says of a reply of a server, as a recorded session has them."""

ORDER = {
    "start": (b"HELO", b"EHLO"),
    "idle": (b"MAIL", b"QUIT"),
    "mail": (b"RCPT",),
    "rcpt": (b"RCPT", b"DATA"),
    "end": (),
}
"""The commands a strict batch may have next, by phase."""

_REPLY = re.compile(rb"[2-5][0-9][0-9](?:[ -]|\Z)")
_INTERMEDIATE = re.compile(rb"354(?:[ -]|\Z)")
_IGNORED = frozenset((b"NOOP", b"VERB", b"VERBOSE", b"TICK", b"QUEU", b"HELP", b"VRFY", b"EXPN"))
"""They ask for something and change nothing; some of them carry an argument, which nobody reads."""
_KNOWN = frozenset((b"HELO", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"QUIT"))
_ALONE = frozenset((b"DATA", b"RSET", b"QUIT"))
_REASONS = {
    b"BDAT": "its chunks may hold anything, so the end of a message could not be told",
    b"STARTTLS": "there is nobody to encrypt with",
    b"AUTH": "what a file says about itself is not believed",
    b"XCLIENT": "what a file says about itself is not believed",
    b"XFORWARD": "what a file says about itself is not believed",
    b"TURN": "a file cannot turn round",
    b"ATRN": "a file cannot turn round",
    b"ETRN": "a file cannot ask for mail",
}
_UNKNOWN = "what follows an unknown command cannot be told"


class Misplaced(ValueError):
    """A line that has no place where it stands; the text says why, for people, printable."""


def strict_verb(line: bytes, phase: str) -> bytes:
    """The command in ``line``, which may be any of :data:`ORDER` for ``phase``, written the one way the writer does.

    (For MAIL and RCPT that is left to their own grammar.) Raises :class:`Misplaced`.
    """
    verb = line[:4]
    if verb not in ORDER[phase]:
        if phase == "end":
            raise Misplaced("something follows QUIT")
        words = " or ".join(word.decode() for word in ORDER[phase])
        raise Misplaced(f"{_shown(line)} stands where only {words} may")
    if verb in (b"MAIL", b"RCPT"):
        return verb
    exact = line[4:5] == b" " and is_node(line[5:]) if phase == "start" else line == verb
    if not exact:
        raise Misplaced(f"this {verb.decode()} line is not written the one way a batch of ours has it")
    return verb


def tolerant_verb(line: bytes, *, between: bool) -> bytes:
    """The command in ``line`` (without blanks around it), in capitals; ``b""`` for what is passed over in silence.

    :data:`SUB` and :data:`REPLY` stand for lines that are no commands. ``between`` messages a From_ line is passed
    over. Raises :class:`Misplaced`.
    """
    verb, _, rest = line.partition(b" ")
    verb = verb.upper()
    if verb in _KNOWN:
        if verb in _ALONE and rest.strip():
            raise Misplaced(f"{verb.decode()} with something behind it")
        return verb
    if not line or verb in _IGNORED:
        return b""
    if not line.strip(SUB):
        return SUB
    if _REPLY.match(line):
        return REPLY
    if between and line.startswith(b"From "):
        return b""
    raise Misplaced(f"{_shown(line)} has no place in a batch: {_REASONS.get(verb, _UNKNOWN)}")


def is_intermediate_reply(line: bytes) -> bool:
    """Whether ``line`` may be what a server answers to DATA."""
    return _INTERMEDIATE.match(line) is not None


def _shown(line: bytes) -> str:
    return repr(line[:20])[1:]
