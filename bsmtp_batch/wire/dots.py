"""The one canonicaliser: line ends, NUL, stray CR, dot-stuffing (RFC 5321 sections 2.3.8 and 4.5.2).

The order is fixed, because every other order lets an end of message be made out of harmless text. What the MTA doubled
is undone first, on the lines the MTA saw; then NUL goes; then CRLF and LF become CRLF and any other CR a space; then a
missing last line end is added; and only then are dots doubled. A dot hidden behind a NUL or a stray CR is therefore
already in its final place when it is looked at.

Part of the hot path: nothing is imported.
"""

from __future__ import annotations

END = b".\r\n"
"""The line that ends a message, to be written after everything a :class:`Canonicaliser` gave."""


class NulRefused(ValueError):
    """A NUL in content whose policy refuses it; ``offset`` is its place in the input, counted from 0."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"NUL at byte {offset} of the message")
        self.offset = offset


class NotStuffed(ValueError):
    """A line that starts with one dot, where the caller said all were doubled; ``offset`` is that dot's place."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"a line that starts with a single dot at byte {offset} of the message")
        self.offset = offset


class _Undoubler:
    """Takes back the doubling of dots that an MTA did, line by line of its own text (LF ends a line)."""

    def __init__(self) -> None:
        # What the next chunk has to be seen together with. The LF in it was given out before, or never was there.
        self._held = b"\n"

    def feed(self, data: bytes, at: int) -> bytes:
        """``data`` with one dot less on each line that starts with dots; ``at`` is the place of its first octet."""
        if not data:
            return b""
        text = self._held + data
        seen = len(self._held)
        cut = len(text) - text.endswith(b"\n.")  # the octet behind that dot decides, and it has not come yet
        if text.count(b"\n.", 0, cut) != text.count(b"\n..", 0, cut):
            _raise_single_dot(text, at - seen)
        skip = 1 if seen else 0
        self._held = text[-2:] if cut < len(text) else text[-1:] if text.endswith(b"\n") else b""
        return text[:cut].replace(b"\n..", b"\n.")[skip:]

    def close(self, at: int) -> None:
        """Nothing more comes; ``at`` is the number of octets seen."""
        if self._held == b"\n.":
            raise NotStuffed(at - 1)


def _raise_single_dot(text: bytes, at: int) -> None:
    found = text.find(b"\n.")
    while text[found + 2 : found + 3] == b".":
        found = text.find(b"\n.", found + 1)
    raise NotStuffed(at + found + 1)


class Canonicaliser:
    """Message text as an MTA hands it over, made into the lines that go between DATA and the final dot.

    Feed it octets in pieces of any size: the result depends on the octets alone. ``stuffed`` says that the MTA has
    doubled leading dots already, ``remove_nul`` chooses between dropping NUL and :class:`NulRefused`, ``from_line``
    drops a first line that begins with ``From ``. Raises :class:`NulRefused` and :class:`NotStuffed`; after either
    the object is of no further use.
    """

    def __init__(self, *, stuffed: bool = False, remove_nul: bool = True, from_line: bool = False) -> None:
        self.size = 0
        """Octets of content so far, with CRLF line ends and without added dots, as RFC 1870 section 6 counts them."""
        self.altered = False
        """Whether a NUL was removed or a stray CR replaced so far."""
        self._undoubler = _Undoubler() if stuffed else None
        self._remove_nul = remove_nul
        self._from_line = b"" if from_line else None  # what may become the From_ line, b"From " while inside it
        self._read = 0
        self._held_cr = b""
        self._line_start = True

    def feed(self, data: bytes) -> bytes:
        """Canonical, dot-stuffed octets for ``data``; the last few may come with the next call."""
        if b"\0" in data and not self._remove_nul:
            nul = data.index(b"\0")
            self._take(data[:nul])  # a fault that comes before the NUL is the one to report, however the data was cut
            raise NulRefused(self._read)
        return self._take(data)

    def close(self) -> bytes:
        """What was held back, and the line end that a last line may lack. The :data:`END` line is not in it."""
        held, self._from_line = self._from_line, None
        rest = b""
        if held and held != b"From ":  # too short to be told from a From_ line until now
            rest = self._unstuffed(held, self._read - len(held))
        if self._undoubler:
            self._undoubler.close(self._read)
        if self._held_cr:
            self._held_cr = b""
            self.altered = True
            rest += self._lines(b" ")
        return rest if self._line_start else rest + self._lines(b"\n")

    def _take(self, data: bytes) -> bytes:
        at = self._read
        self._read += len(data)
        if self._from_line is not None:
            data = self._after_from_line(data)
            at = self._read - len(data)
        return self._unstuffed(data, at)

    def _after_from_line(self, data: bytes) -> bytes:
        """The part of ``data`` behind the From_ line, with what was held back when there turns out to be none."""
        data = (self._from_line or b"") + data
        if not data.startswith(b"From "):
            self._from_line = data if b"From ".startswith(data) else None
            return b"" if self._from_line is not None else data
        end = data.find(b"\n")
        self._from_line = data[:5] if end < 0 else None  # of an unfinished line its first word is enough to know
        return b"" if end < 0 else data[end + 1 :]

    def _unstuffed(self, data: bytes, at: int) -> bytes:
        if self._undoubler:
            data = self._undoubler.feed(data, at)
        if b"\0" in data:
            self.altered = True
            data = data.replace(b"\0", b"")
        if self._held_cr:
            data = self._held_cr + data
            self._held_cr = b""
        if b"\r" in data:
            if data.endswith(b"\r"):
                data, self._held_cr = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n")
            if b"\r" in data:
                self.altered = True
                data = data.replace(b"\r", b" ")
        return self._lines(data)

    def _lines(self, data: bytes) -> bytes:
        """``data``, whose line ends are LF by now, with CRLF and with leading dots doubled."""
        if not data:
            return b""
        ends = data.endswith(b"\n")
        begins = self._line_start and data.startswith(b".")
        data = data.replace(b"\n", b"\r\n")
        self.size += len(data)
        self._line_start = ends
        data = data.replace(b"\r\n.", b"\r\n..")
        return b"." + data if begins else data


class Unstuffer:
    """Canonical octets from between DATA and the final dot (without the dot's line), made into content again.

    Takes pieces of any size and gives the same octets for any cutting. It adds and removes nothing but leading dots.
    """

    def __init__(self) -> None:
        self._held = b""
        self._line_start = True

    def feed(self, data: bytes) -> bytes:
        """Content for ``data``; a line end at its very end is kept until the octet behind it is known."""
        if self._line_start and data:
            self._line_start = False
            data = data[data.startswith(b".") :]
        data = self._held + data
        keep = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep].replace(b"\r\n.", b"\r\n")

    def close(self) -> bytes:
        """What was kept back."""
        rest, self._held = self._held, b""
        return rest


def stuff(content: bytes) -> bytes:
    """``content`` (CRLF line ends) with each leading dot doubled."""
    wire = content.replace(b"\r\n.", b"\r\n..")
    return b"." + wire if wire.startswith(b".") else wire


def unstuff(wire: bytes) -> bytes:
    """``wire`` (CRLF line ends, without the final dot) with one dot less on each line that starts with one."""
    return wire[wire.startswith(b".") :].replace(b"\r\n.", b"\r\n")
