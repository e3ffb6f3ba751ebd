"""The usual batch at the speed of the C library: what our writer writes, without a look at each line.

Nearly every octet of nearly every batch can be read in one way only, and that is shown by a few searches and counts
over large pieces. What is here takes messages only while all of that holds, and otherwise leaves them to the reader,
which goes through them command by command. It never refuses anything: what it does not like is where it stops.

Without its CRs, and with one put before each LF, it is what it was: then there is no other line end. There is no NUL.
From each line end the next is at most a usual line away: then no line is long. Each dot behind a line end is followed
by another, or ends the message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

from bsmtp_batch.batch.events import CRLF, Limits, Message, Summary
from bsmtp_batch.wire.command import (
    MAX_COMMAND,
    MAX_PATH,
    BadAddress,
    BadCommand,
    Mail,
    Params,
    Rcpt,
    parse_mail,
    parse_rcpt,
)
from bsmtp_batch.wire.dots import unstuff
from bsmtp_batch.wire.lines import MARK, line_ends

MAX_TEXT_LINE = 998
"""RFC 5321 section 4.5.3.1.6, without the line end: longer lines are kept, with a warning."""

_DOT = b"\r\n."
_STUFFED = b"\r\n.."
# No possessive quantifiers and no atomic groups: before Python 3.11.5 (Debian 12 has 3.11.2) they match what they must
# not (python/cpython#106052). Nothing is lost: what ends a repetition cannot be part of it, so nothing is tried twice.
_PATH = rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]+@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_MORE = rb"(?: [!-~]+)*"
COMMANDS = (
    rb"MAIL FROM:<((?:" + _PATH + rb")?)>(" + _MORE + rb")\r\n((?:RCPT TO:<" + _PATH + rb">" + _MORE + rb"\r\n)+)"
)
"""The usual MAIL and RCPT lines. Three groups: reverse path, its parameters, RCPT lines."""
DATA = rb"DATA(?=\r\n)"
"""What follows them; its line end is left, for it may begin the end of an empty text."""
_XTEXT = rb"[!-*,-<>-~]"  # without anything encoded
_usual_of_mail = re.compile(
    rb"(?: (?:SIZE=[0-9]{1,20}|BODY=(?:7BIT|8BITMIME)|SMTPUTF8|RET=(?:FULL|HDRS)|ENVID=" + _XTEXT + rb"{1,100}))+"
).fullmatch
_usual_of_rcpt = re.compile(
    rb"(?: (?:NOTIFY=(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*)"
    rb"|ORCPT=[A-Za-z0-9-]+;" + _XTEXT + rb"+))+"
).fullmatch
_MOST_PARAMETERS = 500
"""Octets of parameters for which no limit of the grammar has to be looked at."""
_rcpts = re.compile(rb"RCPT TO:<([^>]+)>([^\r]*)\r\n").findall
_first = re.compile(COMMANDS + DATA).match
# All in one search: each CR that is not followed by LF and something else than a dot, which is wherever something
# begins, ends or is odd; and where it is the end of a message, the envelope behind it. A pattern with a fixed first
# octet is searched for by memchr.
_marks = re.compile(rb"\r(?!\n[^.])(?:\n\.\r\n(?:" + COMMANDS + DATA + rb")?)?").finditer
_lines = re.compile(rb"(?s:.{0,%d}\n)*" % (MAX_TEXT_LINE + 1)).match


class Facts:
    """What is known of one buffer: looked up once, however many messages of it have to go the other way."""

    def __init__(self, buffer: bytes) -> None:
        self.buffer = buffer
        self.ascii = buffer.isascii()
        self._paired: bool | None = None
        self._nul = self._short = -1

    def paired(self) -> bool:
        """Whether CR and LF come in pairs only; the other half of a CR at the very end is still to come."""
        if self._paired is None:
            self._paired = line_ends(self.buffer.removesuffix(b"\r")) is not None
        return self._paired

    def sure(self, pos: int) -> int:
        """Up to where, from ``pos`` (the beginning of a line), there is neither NUL nor long line."""
        buffer = self.buffer
        if self._nul < pos:
            nul = buffer.find(b"\0", pos)
            self._nul = len(buffer) if nul < 0 else nul
        if self._short <= pos:
            found = _lines(buffer, pos)
            assert found is not None
            self._short = found.end()
        return min(self._nul, self._short)


class Piece(NamedTuple):
    """A piece of a text, whole lines of it: ``end`` is behind them."""

    end: int
    ended: bool
    """The line with the dot follows."""
    lines: int
    dots: int
    """Dots that were added."""


class Bounds:
    """How much more a reader with ``limits`` takes that has seen what is in ``summary``.

    ``usable``: its limits are not narrower than what is looked for here.
    """

    def __init__(self, limits: Limits, summary: Summary) -> None:
        unbounded = 1 << 62
        messages, recipients = limits.messages, limits.all_recipients
        self.usable = limits.command >= MAX_COMMAND and limits.line >= MAX_TEXT_LINE
        self.rcpts = limits.recipients
        self.size = unbounded if limits.message_size is None else limits.message_size
        self.messages = unbounded if messages is None else messages - summary.messages
        self.recipients = unbounded if recipients is None else recipients - summary.recipients


def text_piece(buffer: bytes, pos: int) -> Piece | None:
    """The usual lines of text from ``pos``, which begins one; None where they are not usual from beginning to end."""
    dots = end = 0
    if buffer.startswith(b".", pos):
        if not buffer.startswith(b"..", pos):
            return None
        dots = 1
    last, rest, ended = -1, len(buffer), False
    at = buffer.find(_DOT, pos)
    while at >= 0:
        if buffer.startswith(_STUFFED, at):
            dots, last = dots + 1, at
        elif buffer.startswith(MARK, at):
            end, ended = at + 2, True
            break
        elif at > len(buffer) - len(MARK):
            rest = at  # what follows may yet be the end, or a line that begins with a dot
        else:
            return None
        at = buffer.find(_DOT, at + len(_DOT))
    if not ended:
        end = buffer.rfind(b"\n", pos) + 1
        if end <= pos or end > rest + 2:
            return None
        dots -= last + 2 == end  # that line is not finished, and comes with the next piece
    piece = buffer[pos:end]
    lines = line_ends(piece)
    if lines is None or b"\0" in piece:
        return None
    found = _lines(piece)
    return Piece(end, ended, lines, dots) if found and found.end() == len(piece) else None


class Skim:
    """Usual messages, one behind the other, from ``pos`` on in a buffer whose first octet has the offset ``base``.

    :meth:`run` takes what it can; then ``pos`` and ``line`` are behind the last message in ``messages``, and ``waits``
    says whether nothing is wrong with the next, but that its end is not in the buffer.
    """

    def __init__(
        self, facts: Facts, pos: int, *, base: int, line: int, number: int, esmtp: bool, bounds: Bounds
    ) -> None:
        self.messages: list[Message] = []
        self.recipients = 0
        self.pos = pos
        self.line = line
        self.waits = False
        self._facts = facts
        self._base = base
        self._number = number
        self._esmtp = esmtp
        self._bounds = bounds

    def run(self, *, parameters: bool, digests: bool) -> None:
        """``parameters``: there may be some. ``digests``: give the sha256 of each message."""
        buffer, sure = self._facts.buffer, -1
        first = _first(buffer, self.pos)
        if first is None:
            return
        if buffer.find(MARK, first.end()) < 0:  # the beginning of a large one, with a mark for each of its lines
            self.waits = True
            return
        envelope, text, dots = first.groups(), first.end() + 2, 0
        for mark in _marks(buffer, text - 2):
            at, behind = mark.span()
            if behind == at + 1:
                if not buffer.startswith(_STUFFED, at):
                    self.waits = at > len(buffer) - len(MARK)
                    return
                dots += 1
                continue
            close = at + 2
            if close > sure:
                sure = self._facts.sure(self.pos)  # not before there is a message: a large one goes another way
            found = usual_envelope(envelope, parameters)
            if found is None or close > sure or not self._take(found, text, close, dots, digests):
                return
            self.pos = at + len(MARK)
            envelope, text, dots = mark.groups(), behind + 2, 0
            if envelope[0] is None:
                return
        self.waits = True

    def _take(self, envelope: tuple[Mail, tuple[Rcpt, ...]], text: int, close: int, dots: int, digests: bool) -> bool:
        """One message, whose text with its added ``dots`` is from ``text`` to ``close``. False: leave it."""
        buffer, bounds, (mail, rcpts) = self._facts.buffer, self._bounds, envelope
        lines = buffer.count(CRLF, text, close)
        size = close - text - dots
        if not self._facts.paired() and not buffer.count(b"\n", text, close) == lines == buffer.count(
            b"\r", text, close
        ):
            return False
        if len(rcpts) > bounds.rcpts or size > bounds.size:
            return False
        number, recipients = len(self.messages), self.recipients + len(rcpts)
        if number >= bounds.messages or recipients > bounds.recipients:
            return False
        plain = self._facts.ascii
        sha256 = ""
        if digests or not plain:
            wire = buffer[text:close]
            plain = wire.isascii()
            sha256 = hashlib.sha256(unstuff(wire)).hexdigest() if digests else ""
        self.messages.append(
            _new(
                Message,
                (
                    self._number + number,
                    mail,
                    rcpts,
                    self._base + text,
                    close - text,
                    size,
                    sha256,
                    self.line,
                    CRLF,
                    True,
                    not plain,
                    self._esmtp,
                    (),
                ),
            )
        )
        self.recipients = recipients
        self.line += lines + len(rcpts) + 3
        return True


def transactions(data: bytes, base: int) -> list[Message] | None:
    """The messages of ``data`` (complete transactions and nothing else; parameters are allowed), whose first octet has
    the offset ``base`` and stands in line 2; None where not all of it is usual."""
    bounds = Bounds(Limits(), Summary())
    skim = Skim(Facts(data), 0, base=base, line=2, number=1, esmtp=True, bounds=bounds)
    skim.run(parameters=True, digests=False)
    return skim.messages if skim.pos == len(data) else None


_new = tuple.__new__  # a message is made of its values in order, without the detour of naming each


def usual_envelope(groups: tuple[bytes, ...], parameters: bool) -> tuple[Mail, tuple[Rcpt, ...]] | None:
    """The envelope in ``groups`` of :data:`COMMANDS`; None where the grammar refuses it, or has to look at it because
    of parameters and may not."""
    path, more, lines = groups
    if more or b"> " in lines:
        return _with_parameters(path, more, lines) if parameters else None
    if lines.count(b"\n") == 1:
        rcpt = lines[9:-3]
        return (Mail(path), (Rcpt(rcpt),)) if len(path) <= MAX_PATH and len(rcpt) <= MAX_PATH else None
    paths = lines[9:-3].split(b">\r\nRCPT TO:<")
    return (Mail(path), tuple(map(Rcpt, paths))) if max(map(len, (path, *paths))) <= MAX_PATH else None


def _with_parameters(path: bytes, more: bytes, lines: bytes) -> tuple[Mail, tuple[Rcpt, ...]] | None:
    params = _params(more, _usual_of_mail)
    found = [(rcpt, _params(rest, _usual_of_rcpt)) for rcpt, rest in _rcpts(lines)]
    if params is not None and len(path) <= MAX_PATH:
        rcpts = tuple([Rcpt(rcpt, its) for rcpt, its in found if its is not None and len(rcpt) <= MAX_PATH])
        if len(rcpts) == len(found):
            return Mail(path, params), rcpts
    try:
        mail = parse_mail(b"MAIL FROM:<%b>%b" % (path, more))
        return mail, tuple(map(parse_rcpt, lines[:-2].split(b"\r\n")))
    except (BadCommand, BadAddress):
        return None


def _params(more: bytes, usual: Callable[[bytes], object]) -> Params | None:
    """The parameters in ``more``; None where the grammar has to look at them."""
    if not more:
        return ()
    if len(more) > _MOST_PARAMETERS or not usual(more):
        return None
    split = [word.partition(b"=") for word in more[1:].split(b" ")]
    if len(split) > 1 and len({keyword for keyword, _, _ in split}) < len(split):
        return None
    return tuple([(keyword, value if equals else None) for keyword, equals, value in split])
