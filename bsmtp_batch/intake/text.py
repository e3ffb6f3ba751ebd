"""The text of a message as it came over the wire, made into the one form that batches have (``wire/dots.py``).

Nearly all text is in that form already, and to see that costs a small part of making it anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bsmtp_batch.wire.dots import Canonicaliser, Unstuffer
from bsmtp_batch.wire.lines import line_ends

_SINGLE_DOT = re.compile(rb"\r\n\.(?!\.)")
LONG = 64 * 1024
"""Octets without a line end for which the cheap way waits."""


def is_canonical(lines: bytes) -> bool:
    """Whether ``lines``, which begin at the start of a line and are empty or end in CRLF, need no change at all."""
    return are_canonical((lines,))


def are_canonical(pieces: Sequence[bytes]) -> bool:
    """Whether ``pieces``, which together are such lines, need no change; where the cutting hides it, they seem to.

    They are not put together for it: fresh memory for a large text costs as much as the look at it."""
    before = b"\r\n"
    for piece in pieces:
        if b"\0" in piece or _SINGLE_DOT.search(before + piece[:4]) or _SINGLE_DOT.search(piece):
            return False
        whole = b"\r" + piece if before.endswith(b"\r") else piece
        if line_ends(whole.removesuffix(b"\r")) is None:
            return False
        before = piece[-3:] if len(piece) >= 3 else (before + piece)[-3:]
    return not before.endswith(b"\r")


def canonical(lines: bytes) -> bytes:
    """Stuffed ``lines`` as above in the form of a batch; NUL is removed."""
    if is_canonical(lines):
        return lines
    undone, text = Unstuffer(), Canonicaliser()
    return text.feed(undone.feed(lines)) + text.feed(undone.close()) + text.close()


def size_of(text: bytes) -> int:
    """Octets of content in canonical ``text``: without the doubled dots (RFC 1870 section 6)."""
    return len(text) - text.count(b"\r\n.") - text.startswith(b".")


class Stream:
    """Text that comes in pieces of any size; ``stuffed`` as DATA has it, else as BDAT has it. The result is the same
    for any cutting."""

    def __init__(self, *, stuffed: bool) -> None:
        self.nul = False
        """Whether a NUL was removed."""
        self._unchanged = 0
        self._held = b""
        self._undone = Unstuffer() if stuffed else None
        self._text = Canonicaliser()
        self._cheap = stuffed

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._unchanged + self._text.size

    def feed(self, data: bytes) -> bytes:
        """Text that is certain."""
        self.nul = self.nul or b"\0" in data
        if not self._cheap:
            return self._dear(data)
        data = self._held + data
        end = data.rfind(b"\r\n") + 2
        if end < 2:
            self._held = data
            if len(data) < LONG:
                return b""
            end = 0
        lines, self._held = data[:end], data[end:]
        if end and is_canonical(lines):
            self._unchanged += size_of(lines)
            return lines
        self._cheap = False
        held, self._held = self._held, b""
        return self._dear(lines + held)

    def close(self) -> bytes:
        """The rest, its last line ended."""
        rest = self._dear(self._held) if self._held else b""
        if self._undone is not None:
            rest += self._text.feed(self._undone.close())
        return rest + self._text.close()

    def _dear(self, data: bytes) -> bytes:
        if self._undone is not None:
            data = self._undone.feed(data)
        return self._text.feed(data)
