"""Reading a batch for the second time: for whom its messages are and where they stand, and no look into a text.

Only for a batch that the strict reader has found sound. A text then ends at the first line that is a dot, and what it
holds was proven; the envelopes are parsed by the same grammar again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bsmtp_batch.batch.usual import ENVELOPE, usual_envelope
from bsmtp_batch.wire.command import MAX_COMMAND, MAX_RCPTS, BadAddress, BadCommand, Mail, Rcpt, parse_mail, parse_rcpt

_first = re.compile(ENVELOPE).match
_ends = re.compile(rb"\r\n\.\r\n(?:" + ENVELOPE + rb")?+").finditer
_MOST_COMMANDS = (MAX_RCPTS + 1) * MAX_COMMAND
_Groups = tuple[bytes, bytes, bytes]


class Torn(Exception):
    """It is not the batch that was read before."""


class Frame(NamedTuple):
    """A message: its envelope as the file has it, and where its text stands."""

    number: int
    path: bytes
    """The reverse path without brackets."""
    parameters: bytes
    """Those of MAIL, as they stand in its line, with the blank before."""
    lines: bytes
    """The RCPT lines with their line ends."""
    offset: int
    """The first octet of the text in the plain batch."""
    wire_size: int
    """Octets of the text, up to the line with the dot."""

    def envelope(self) -> tuple[Mail, tuple[Rcpt, ...]]:
        """The commands, parsed. Raises :class:`Torn`."""
        found = usual_envelope((self.path, self.parameters, self.lines), True)
        if found is None:
            raise Torn
        return found


class Framer:
    """Takes a strict batch in pieces of any size; memory is flat whatever the size of a message."""

    def __init__(self) -> None:
        self._rest = b""
        self._base = 0  # offset of the rest
        self._number = 1
        self._open: _Groups | None = None  # the envelope of the text that has begun
        self._text = 0  # its offset
        self._greeted = self._over = False

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that ``data`` completes. Raises :class:`Torn`."""
        buffer = self._rest + data if self._rest else data
        found: list[Frame] = []
        pos = 0
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

    def close(self) -> None:
        """The file ends here. Raises :class:`Torn` where it should not."""
        if self._rest or not self._over:
            raise Torn

    def _take(self, buffer: bytes, pos: int, groups: _Groups, found: list[Frame]) -> int:
        """Messages from inside a text on, as long as usual ones follow each other; the place of what is left."""
        base, text, number = self._base, self._text, self._number
        path, parameters, lines = groups
        for mark in _ends(buffer, pos):
            at, behind = mark.span()
            found.append(_new(Frame, (number, path, parameters, lines, text, base + at + 2 - text)))
            number += 1
            text = base + behind + 2
            path, parameters, lines = mark.groups()
            if path is None:
                self._open, self._number = None, number
                return at + 5
            pos = behind
        self._open, self._text, self._number = (path, parameters, lines), text, number
        return max(pos, len(buffer) - 4)

    def _begin(self, buffer: bytes, pos: int) -> int:
        """Commands up to and with DATA, if they have come whole; the place of its line end, or of what is left."""
        if not self._greeted:
            end = buffer.find(b"\r\n", pos)
            if end < 0:
                return pos
            self._greeted, pos = True, end + 2
        first = _first(buffer, pos)
        if first is not None:
            path, parameters, lines = first.groups()
            self._open, self._text = (path, parameters, lines), self._base + first.end() + 2
            return first.end()
        if buffer.startswith(b"QUIT\r\n", pos):
            self._over = True
            return pos + 6
        end = buffer.find(b"\r\nDATA\r\n", pos)
        if end < 0:
            if len(buffer) - pos > _MOST_COMMANDS:
                raise Torn
            return pos
        self._open, self._text = _unusual(buffer[pos:end]), self._base + end + 8
        return end + 6


_new = tuple.__new__


def _unusual(commands: bytes) -> _Groups:
    """MAIL and RCPT lines that the pattern does not cover."""
    first, _, lines = commands.partition(b"\r\n")
    try:
        path = parse_mail(first).path
        if not all(map(parse_rcpt, lines.split(b"\r\n"))):
            raise Torn
    except (BadCommand, BadAddress):
        raise Torn from None
    return path, first[len(b"MAIL FROM:<>") + len(path) :], lines + b"\r\n"
