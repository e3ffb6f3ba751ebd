"""The command line of a hand-in, in today's form and in the two forms of the old ``bsmtp``.

The command line is written once, into ``master.cf`` or ``sendmail.mc``, and run by the MTA; a fault in it is found when
mail is waiting already. So every fault is the answer "later" (75), never a bounce.
"""

from __future__ import annotations

import posix
import sys

from bsmtp_batch.deliver.answers import Answer, later
from bsmtp_batch.spool.names import DEFAULT_SPOOL

USAGE = "bsmtp-batch deliver [--spool DIR] [--queue-id ID] [--size N] [--dots raw|stuffed] -f SENDER [--] ROUTE RCPT..."
OLD_USAGE = "bsmtp -t ROUTE -f SENDER [-d] RCPT... | bsmtp -f SENDER ROUTE RCPT..."


class Request:
    """What the MTA asks for. Sender, route and recipients are the octets it gave, not yet looked at."""

    __slots__ = ("queue_id", "rcpts", "route", "sender", "size", "spool", "stuffed")

    def __init__(self) -> None:
        self.spool = _path(posix.environ.get(b"BSMTP_BATCH_SPOOL", b"")) or DEFAULT_SPOOL
        self.queue_id = b""  # empty: no retry can be recognised
        self.size = 0  # octets the MTA says the message has, about; 0 when it says nothing
        self.stuffed = False  # whether the MTA has doubled leading dots already
        self.sender: bytes | None = None
        self.route = b""
        self.rcpts: list[bytes] = []


def parse(argv: list[str]) -> Request:
    """The request in ``argv``, the arguments of ``bsmtp-batch deliver``; what follows ROUTE is never an option."""
    request = Request()
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        word = argv[at]
        at += 1
        if word == "--":
            break
        name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        if not equals:
            if at == len(argv):
                raise _wrong(f"{word!a} has no value", USAGE)
            value = argv[at]
            at += 1
        _set(request, name, value)
    _positions(request, argv[at:], USAGE)
    return request


def parse_old(argv: list[str]) -> Request:
    """The request in ``argv``, the arguments of ``bsmtp`` as stock ``master.cf`` entries have called it since ever.

    The MTA has doubled the dots (``flags=.``) unless there is ``-d``.
    """
    request = Request()
    request.stuffed = True
    route: str | None = None
    glued = False
    at = 0
    while at < len(argv) and argv[at][:2] in ("-t", "-f", "-d"):
        name, value = argv[at][:2], argv[at][2:]
        if (name == "-t" and route is not None) or (name == "-f" and request.sender is not None):
            break  # both are known, so this is a recipient that begins with a hyphen
        if name == "-d" and value:
            break  # -d takes no value: this is a recipient, and taken for an option it would be lost without a word
        at += 1
        if name == "-d":
            request.stuffed = False
            continue
        # Postfix glues the value to the letter, and where the sender is null there is nothing to glue: the bare letter
        # must not swallow the first recipient.
        glued = glued or bool(value)
        if not value and not glued:
            value = argv[at] if at < len(argv) else ""
            at += 1
        if name == "-t":
            route = value
        else:
            request.sender = _octets(value)
    rest = argv[at + 1 :] if argv[at : at + 1] == ["--"] else argv[at:]
    _positions(request, rest if route is None else [route, *rest], OLD_USAGE)
    return request


def _set(request: Request, name: str, value: str) -> None:
    if name == "-f":
        request.sender = _octets(value)
    elif name == "--spool":
        request.spool = value
    elif name == "--queue-id":
        request.queue_id = _octets(value)
    elif name == "--dots" and value in ("raw", "stuffed"):
        request.stuffed = value == "stuffed"
    elif name == "--size" and (not value or (value.isascii() and value.isdecimal() and len(value) < 19)):
        request.size = int(value or 0)  # some MTAs know no size for some messages and leave the place empty
    else:
        raise _wrong(f"{name!a} with the value {value!a} makes no sense", USAGE)


def _positions(request: Request, words: list[str], usage: str) -> None:
    if request.sender is None:
        raise _wrong("there is no -f SENDER", usage)
    if not words:
        raise _wrong("there is no route", usage)
    if len(words) == 1:
        raise _wrong(f"there is no recipient behind the route {words[0]!a}", usage)
    request.route = _octets(words[0])
    request.rcpts = [_octets(word) for word in words[1:]]


def _wrong(what: str, usage: str) -> Answer:
    return later(f"the command line of the transport is wrong: {what}", f"It is: {usage}")


def _octets(word: str) -> bytes:
    """The octets of the command line that Python made ``word`` of."""
    return word.encode(sys.getfilesystemencoding(), "surrogateescape")


def _path(octets: bytes) -> str:
    return octets.decode(sys.getfilesystemencoding(), "surrogateescape")
