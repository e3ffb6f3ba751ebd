"""Replies from and to bytes (RFC 5321 section 4.2; enhanced status codes of RFC 2034 and RFC 3463).

Reading is lenient where it is harmless (a bare LF ends a reply line) and strict where two readings would be possible:
a code outside 200 to 599, two codes in one reply and a reply without end are faults, and what follows cannot be told
from answers to something else.
"""

from __future__ import annotations

import re
from functools import lru_cache

from bsmtp_batch.wire.events import PeerProblem, Reply
from bsmtp_batch.wire.lines import LineBuffer, LineTooLong

MAX_REPLY_LINE = 2048
"""Octets of one reply line with its line end; RFC 5321 section 4.5.3.1.5 has 512, servers have more."""
MAX_REPLY = 65536
"""Octets of one whole reply, all its lines together."""

USUAL = 60
"""Octets of one line up to which it is remembered: what servers say again and again is short."""
_LINE_OUT = 512 - len(b"250 ") - len(b"\r\n")

# Reply-line = Reply-code [ ("-" / SP) textstring ]; a code alone on its line ends the reply (section 4.2.1).
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)

# statuscode = ("2" / "4" / "5") "." *3digit "." *3digit, before a blank or alone (RFC 2034 section 4).
_STATUS = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|\Z)")

# keyword *(SP ehlo-param); "AUTH=LOGIN" is how servers wrote it before RFC 2554 settled on the blank.
_KEYWORD = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?", re.DOTALL)

_CONTROLS = bytes([*range(9), *range(11, 32), 127])
_TO_BLANK = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))


def format_reply(reply: Reply) -> bytes:
    """The line or lines of ``reply``, with CRLF; the enhanced status code, if any, stands on each of them.

    Words are for people: a control character in them becomes a blank and an overlong line is cut at the 512 octets of
    the standard, rather than letting them break the framing. Raises ``ValueError`` for a code or status that does not
    exist, or that contradict each other.
    """
    if len(reply.text) > USUAL and b"\n" not in reply.text:  # made for one occasion
        return _format.__wrapped__(reply.code, reply.status, reply.text)
    return _format(reply.code, reply.status, reply.text)


@lru_cache(maxsize=256)  # a server says the same few things all day, and a busy one says little else
def _format(number: int, status: bytes, text: bytes) -> bytes:
    code = b"%d" % number
    if not 200 <= number <= 599:
        raise ValueError(f"there is no reply code {number}")
    if status and (not _STATUS.fullmatch(status) or status[0] != code[0]):
        raise ValueError(f"the status {status!r} does not go with the code {number}")
    lines = text.translate(_TO_BLANK).split(b"\n")
    if status:
        lines = [status + b" " + line if line else status for line in lines]
    lines = [line[:_LINE_OUT] for line in lines]
    last = lines.pop()
    return b"".join([code + b"-" + line + b"\r\n" for line in lines]) + code + b" " + last + b"\r\n"


class ReplyReader:
    """Whole replies out of a :class:`LineBuffer`; the lines of an unfinished one wait here."""

    __slots__ = ("_buffer", "_code", "_lines", "_size")

    def __init__(self, buffer: LineBuffer) -> None:
        self._buffer = buffer
        self._code = b""
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def inside_reply(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._lines) or self._buffer.inside_line

    def next(self) -> Reply | None:
        """The next reply, or None when more is needed. Raises :class:`PeerProblem`."""
        while True:
            try:
                line = self._buffer.line(MAX_REPLY_LINE)
            except LineTooLong:
                raise _fault("a reply line that is too long") from None
            if line is None:
                return None
            if self._take(line):
                return self._finish()

    def _take(self, line: bytes) -> bool:
        """Note one line; whether it was the last of its reply."""
        found = _REPLY_LINE.fullmatch(line.removesuffix(b"\n").removesuffix(b"\r"))
        if not found:
            raise _fault("a line that is no reply")
        code, mark, text = found.groups()
        self._size += len(line)
        if self._lines and code != self._code:
            raise _fault("a reply with two different codes")
        if self._size > MAX_REPLY:
            raise _fault("a reply that is too long")
        self._code = code
        self._lines.append(text or b"")
        return bool(mark != b"-")

    def _finish(self) -> Reply:
        code, lines = self._code, self._lines
        self._lines = []
        self._size = 0
        found = _STATUS.match(lines[0])
        if not found or found[1][0] != code[0]:
            return Reply(int(code), b"", b"\n".join(lines))
        status = found[1]
        return Reply(int(code), status, b"\n".join([_without(status, line) for line in lines]))


def parse_extensions(reply: Reply) -> dict[bytes, tuple[bytes, ...]]:
    """What a reply to EHLO or LHLO offers: keyword in capitals to its parameters (RFC 5321 section 4.1.1.1).

    Lines that are no keyword are passed over. A keyword given twice has the parameters of both.
    """
    return dict(_offered(reply.text))


@lru_cache(maxsize=32)  # the same few servers say the same all day, and we to ourselves
def _offered(text: bytes) -> dict[bytes, tuple[bytes, ...]]:
    offered: dict[bytes, tuple[bytes, ...]] = {}
    for line in text.split(b"\n")[1:]:
        found = _KEYWORD.fullmatch(line.strip())
        if found:
            keyword = found[1].upper()
            known = offered.get(keyword, ())
            offered[keyword] = known + tuple(word for word in (found[2] or b"").split() if word not in known)
    return offered


def _without(status: bytes, line: bytes) -> bytes:
    found = _STATUS.match(line)
    return line[found.end() :] if found and found[1] == status else line


def _fault(reason: str) -> PeerProblem:
    # The peer is a server here and reads no reply; the code serves whoever reports the contact (X.5.0, a protocol
    # fault) and is a 4yz because nothing is known about the fate of the requests without answer.
    return PeerProblem(f"the server sent {reason}", Reply(451, b"4.5.0", b"protocol fault of the server"))
