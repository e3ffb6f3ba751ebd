"""The text of one message while it streams by: where it ends, whether its line ends are sound, what it hashes to.

A text ends at its own line end, a dot and the batch's line end, and nowhere else, whatever the severity. There is no
loop over lines: a piece of up to a chunk is searched, counted and hashed as a whole, and only a piece in which the
counts disagree is looked at closely, once, to name the place.
"""

from __future__ import annotations

import hashlib
import re

from bsmtp_batch.batch.events import CRLF, LF, Refused
from bsmtp_batch.batch.usual import MAX_TEXT_LINE, Piece, text_piece
from bsmtp_batch.wire.dots import unstuff

_ODD_IN_CRLF = re.compile(rb"\0|(?<!\r)\n|\r(?!\n)")
_ODD_IN_LF = re.compile(rb"\0|\r")
_NAMES = {b"\0": "a NUL", b"\r": "a stray CR", b"\n": "a bare LF"}


class Body:
    """Feed it the buffer from DATA on; it takes what it can and says when the line with the dot has gone by."""

    def __init__(
        self, *, offset: int, line: int, commands: bytes, text: bytes | None, max_line: int, digest: bool
    ) -> None:
        """``offset`` and ``line`` of the first octet; line end of the ``commands`` around it; line end of the ``text``,
        None where its first line is to decide; ``max_line`` octets of one line, without its line end; whether a
        ``digest`` is wanted."""
        self.start = self.offset = offset
        self.line = line
        self.newline = text
        self.decided = text is not None
        """False while nothing has shown yet which line end the text has (an empty one shows nothing)."""
        self.size = 0
        self.exact = True
        self.eight_bit = False
        self.long_line = 0
        """The first line over :data:`MAX_TEXT_LINE`, 0 when there is none."""
        self._dot = b"." + commands
        self._max_line = max_line
        self._usual = max_line >= MAX_TEXT_LINE  # what is usual may be too long for a narrower limit
        self._fresh = True  # the next octet begins a line
        self._open = 0  # octets of the unfinished line so far
        self._open_at = offset  # where that line begins
        self._hash = hashlib.sha256() if digest else None

    @property
    def wire_size(self) -> int:
        """Octets of text so far, as they stand in the file."""
        return self.offset - self.start

    def sha256(self) -> str:
        """Of the content, in hexadecimal digits, once the text has ended; empty where it was not wanted."""
        return self._hash.hexdigest() if self._hash else ""

    def feed(self, buffer: bytes, pos: int) -> tuple[int, bool]:
        """Take ``buffer`` from ``pos`` on: the place behind what was taken, and whether the text ended there.

        Raises :class:`Refused` for NUL, for a line end that is not the text's own, and for a line over the limit.
        """
        if self._fresh and buffer.startswith(self._dot, pos):
            return pos + len(self._dot), True
        newline = self.newline or self._decide(buffer, pos)
        if newline is None:
            return pos, False
        if self._usual and self._fresh and newline == CRLF and (piece := text_piece(buffer, pos)):
            self._take_usual(buffer[pos : piece.end], piece)
            return piece.end + (len(self._dot) if piece.ended else 0), piece.ended
        dotted = buffer.find(newline + b".", pos)
        found = buffer.find(newline + self._dot, dotted) if dotted >= 0 else -1
        if found >= 0:
            end = found + len(newline)
            self._take(buffer[pos:end], dotted < found)
            return end + len(self._dot), True
        end = buffer.rfind(b"\n", pos) + 1
        if end == 0:
            if self._fresh and len(buffer) - pos < len(self._dot):
                return pos, False  # it may yet become the line with the dot
            end = len(buffer) - buffer.endswith(b"\r")
        if end > pos:
            self._take(buffer[pos:end], dotted >= 0)
            return end, False
        return pos, False

    def close(self, buffer: bytes, pos: int) -> None:
        """The file ends here, inside the text: raises :class:`Refused` with the best account of why."""
        rest = buffer[pos:]
        end = self.offset + len(rest)
        self.newline = self.newline or CRLF
        if self._fresh and rest and self._dot.startswith(rest):
            reason = "the file ends in a dot without its line end: it was probably cut there"
        else:
            self._take(rest.removesuffix(b"\r") if self.newline == CRLF else rest, False)
            reason = "the file ends inside the text of this message: it was cut"
        raise Refused(reason, line=self.line, offset=end)

    def _decide(self, buffer: bytes, pos: int) -> bytes | None:
        """The line end of the text by its first line; None while that line is unfinished."""
        end = buffer.find(b"\n", pos)
        if end < 0 and len(buffer) - pos <= self._max_line + 1:
            return None
        self.decided = True
        self.newline = CRLF if end < 0 or buffer.endswith(b"\r", pos, end) else LF
        return self.newline

    def _take_usual(self, octets: bytes, piece: Piece) -> None:
        self.eight_bit = self.eight_bit or not octets.isascii()
        self.line += piece.lines
        self.offset += len(octets)
        self.size += len(octets) - piece.dots
        if self._hash:
            self._hash.update(unstuff(octets) if piece.dots else octets)

    def _take(self, piece: bytes, dotted: bool) -> None:
        """Check and hash ``piece``: whole lines, or a part of one line that goes on.

        ``dotted`` says that some line in it, but perhaps the first, begins with a dot.
        """
        lines = piece.count(b"\n")
        odd = self._find_odd(piece, lines)
        self._check_lengths(piece if odd < 0 else piece[:odd])
        if odd >= 0:
            self._refuse_odd(piece, odd)
        self.eight_bit = self.eight_bit or not piece.isascii()
        self.line += lines
        self.offset += len(piece)
        fresh, self._fresh = self._fresh, piece.endswith(b"\n")
        if self.newline == LF:
            piece = piece.replace(b"\n", b"\r\n")
        if dotted or (fresh and piece.startswith(b".")):
            piece = self._without_dots(piece, fresh)
        self.size += len(piece)
        if self._hash:
            self._hash.update(piece)

    def _without_dots(self, piece: bytes, fresh: bool) -> bytes:
        # A stand-in for the line that the piece goes on with: the first octet of a piece need not begin a line.
        piece = piece if fresh else b"-" + piece
        if piece.count(b"\r\n.") != piece.count(b"\r\n..") or (piece[:1] == b"." != piece[1:2]):
            self.exact = False
        return unstuff(piece) if fresh else unstuff(piece)[1:]

    def _find_odd(self, piece: bytes, lines: int) -> int:
        """The place of the first octet that may not be in this text, or -1."""
        if self.newline == CRLF:
            if piece.count(b"\r\n") == lines == piece.count(b"\r") and b"\0" not in piece:
                return -1
            odd = _ODD_IN_CRLF.search(piece)
        else:
            odd = _ODD_IN_LF.search(piece) if b"\r" in piece or b"\0" in piece else None
            if self._dot == b".\r\n":
                return self._find_lone_dot(piece, odd.start() if odd else -1)
        return odd.start() if odd else -1

    def _find_lone_dot(self, piece: bytes, odd: int) -> int:
        # Commands end in CRLF here, so this is not the end; unstuffed and sent on, it would be one.
        if self._fresh and piece.startswith(b".\n"):
            return 1
        lone = piece.find(b"\n.\n")
        return lone + 2 if lone >= 0 and (odd < 0 or lone + 2 < odd) else odd

    def _refuse_odd(self, piece: bytes, odd: int) -> None:
        octet = piece[odd : odd + 1]
        line = self.line + piece.count(b"\n", 0, odd)
        if self.newline == LF and octet == b"\n":
            reason = "a dot alone on its line, with another line end than the commands have"
        elif self.newline == LF and octet == b"\r" and piece.startswith(b"\n", odd + 1):
            reason = "a CRLF among line ends that are LF: where a message ends could be read in two ways"
        else:
            reason = f"{_NAMES[octet]} in the text: where a message ends could be read in two ways"
        raise Refused(reason, line=line, offset=self.offset + odd)

    def _check_lengths(self, piece: bytes) -> None:
        """Hop through ``piece`` in steps of the longest usual line; only a hop without a line end costs a look."""
        step = min(MAX_TEXT_LINE, self._max_line) + (2 if self.newline == CRLF else 1)
        at = 0
        while self._open or len(piece) - at >= step:
            end = -1 if self._open else piece.rfind(b"\n", at, at + step)
            if end < 0:
                end = piece.find(b"\n", at)
                self._check_line(piece, at, end)
                if end < 0:
                    return
            at = end + 1
        if at < len(piece) and not piece.endswith(b"\n"):
            self._check_line(piece, piece.rfind(b"\n", at) + 1 or at, -1)

    def _check_line(self, piece: bytes, at: int, end: int) -> None:
        """One line from ``at``, up to its line end at ``end`` or (-1) going on behind the piece."""
        if not self._open:
            self._open_at = self.offset + at
            if piece.startswith(b".", at):
                at += 1  # the added dot does not count
        length = self._open + (len(piece) if end < 0 else end - (self.newline == CRLF)) - at
        # Which line it is, is counted for the first long one only: for each, a text of them took ten times longer.
        if length > MAX_TEXT_LINE and not self.long_line:
            self.long_line = self.line + piece.count(b"\n", 0, at)
        if length > self._max_line:
            line = self.line + piece.count(b"\n", 0, at)
            raise Refused(f"a line of text is longer than {self._max_line} octets", line=line, offset=self._open_at)
        self._open = length if end < 0 else 0
