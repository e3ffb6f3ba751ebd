"""Reading a batch for the second time: for whom its messages are and where they stand, and no look into a text.

Only for a batch that the strict reader has found sound. A text then ends at the first line that is a dot, and what it
holds was proven; the envelopes are parsed by the same grammar again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bsmtp_batch.batch.usual import COMMANDS, DATA, usual_envelope
from bsmtp_batch.wire.command import MAX_COMMAND, MAX_RCPTS, BadAddress, BadCommand, Mail, Rcpt, parse_mail, parse_rcpt
from bsmtp_batch.wire.lines import MARK

_usual = re.compile(COMMANDS).fullmatch
# What they are was proven; they are taken apart for those that are looked at.
_begun = rb"(MAIL FROM:[^\r]*\r\n(?:RCPT TO:[^\r]*\r\n)+)" + DATA
_first = re.compile(_begun).match
_MOST_COMMANDS = (MAX_RCPTS + 1) * MAX_COMMAND


class Torn(Exception):
    """It is not the batch that was read before."""


class Frame(NamedTuple):
    """A message: its envelope as the file has it, and where its text stands."""

    number: int
    commands: bytes
    """The lines of MAIL and RCPT with their line ends."""
    offset: int
    """The first octet of the text in the plain batch."""
    wire_size: int
    """Octets of the text, up to the line with the dot."""

    def envelope(self) -> tuple[Mail, tuple[Rcpt, ...]]:
        """The commands, parsed. Raises :class:`Torn`."""
        usual = _usual(self.commands)
        found = usual_envelope(usual.groups(), True) if usual else None
        return found or _parsed(self.commands)


class Framer:
    """Takes a strict batch in pieces of any size; memory is flat whatever the size of a message."""

    def __init__(self) -> None:
        self._rest = b""
        self._base = 0  # offset of the rest
        self._number = 1
        self._open: bytes | None = None  # the envelope of the text that has begun
        self._text = 0  # its offset
        self._greeted = self._over = False

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that ``data`` completes. Raises :class:`Torn`."""
        buffer, pos = self._joined(data), 0
        found: list[Frame] = []
        while True:
            if self._open is None:
                pos = self._begin(buffer, pos)
            if self._open is None:
                break
            pos = self._take(buffer, pos, self._open, found)
            if self._open is not None:
                break
        self._rest = buffer[pos:]
        self._base += pos
        return found

    def _joined(self, data: bytes) -> bytes:
        """``data`` behind what was left; alone where the end of a text is not just in between, to save the copy."""
        rest = self._rest
        if self._open is not None and len(rest) < len(MARK) <= len(data) and MARK not in rest + data[: len(MARK)]:
            self._base += len(rest)
            return data
        return rest + data if rest else data

    def close(self) -> None:
        """The file ends here. Raises :class:`Torn` where it should not."""
        if self._rest or not self._over:
            raise Torn

    def _take(self, buffer: bytes, pos: int, commands: bytes, found: list[Frame]) -> int:
        """Messages from inside a text on, as long as usual ones follow each other; the place of what is left."""
        base, text, number = self._base, self._text, self._number
        at = buffer.find(MARK, pos)
        while at >= 0:
            found.append(_new(Frame, (number, commands, text, base + at + 2 - text)))
            number += 1
            pos = at + len(MARK)
            first = _first(buffer, pos)
            if first is None:
                self._open, self._number = None, number
                return pos
            commands, pos = first[1], first.end()
            text = base + pos + 2
            at = buffer.find(MARK, pos)
        self._open, self._text, self._number = commands, text, number
        return max(pos, len(buffer) - len(MARK) + 1)

    def _begin(self, buffer: bytes, pos: int) -> int:
        """Commands up to and with DATA, if they have come whole; the place of its line end, or of what is left."""
        if not self._greeted:
            end = buffer.find(b"\r\n", pos)
            if end < 0:
                return pos
            self._greeted, pos = True, end + 2
        first = _first(buffer, pos)
        if first is not None:
            self._open, self._text = first[1], self._base + first.end() + 2
            return first.end()
        if buffer.startswith(b"QUIT\r\n", pos):
            self._over = True
            return pos + 6
        end = buffer.find(b"\r\nDATA\r\n", pos)
        if end < 0:
            if len(buffer) - pos > _MOST_COMMANDS:
                raise Torn
            return pos
        _parsed(buffer[pos : end + 2])
        self._open, self._text = buffer[pos : end + 2], self._base + end + 8
        return end + 6


_new = tuple.__new__


def _parsed(commands: bytes) -> tuple[Mail, tuple[Rcpt, ...]]:
    first, *others = commands[:-2].split(b"\r\n")
    if not others:
        raise Torn
    try:
        return parse_mail(first), tuple(map(parse_rcpt, others))
    except (BadCommand, BadAddress):
        raise Torn from None
