"""Lines, content and chunks taken from a stream of octets that arrives in pieces of any size.

Each reader keeps the place up to which it has looked, so that nothing is looked at twice: a line that comes one octet
at a time costs as much as one that comes whole. What does not fit the limit is dropped as it arrives, in constant
memory, and reported once, when its end has been found: the stream stays in step.

Only CRLF ``.`` CRLF ends content. Every other mixture of CR, LF, NUL and dot is content (RFC 5321 section 4.1.1.4);
taking any of them for an end is how a message smuggles in a second one.
"""

from __future__ import annotations

MARK = b"\r\n.\r\n"
"""What ends content; its first CRLF belongs to the content."""
_PART = 1 << 16
"""Octets that are taken apart at a time: small enough for the memory of it to be used again and again."""


def line_ends(data: bytes) -> int | None:
    """How many line ends ``data`` has; None where CR and LF do not come in pairs only.

    Its CRs taken out, and one put before each LF, it is what it was. A single octet is found by memchr, whatever
    compiled Python; how quick a count or a search for pairs is depends on that.
    """
    found = at = 0
    while at < len(data):
        end = at + _PART
        part = data[at : end + data.startswith(b"\r", end - 1)]
        bare = part.replace(b"\r", b"")
        if bare.replace(b"\n", b"\r\n") != part:
            return None
        found += len(part) - len(bare)
        at += len(part)
    return found


class LineTooLong(ValueError):
    """A line went over the limit and was dropped to its end; ``limit`` is in octets with the line end."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a line of more than {limit} octets")
        self.limit = limit


class LineBuffer:
    """Octets received and not yet read, given out by line or as they are. Holds what was fed and no more."""

    __slots__ = ("_data", "_dropping", "_searched")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._dropping = False

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._dropping and not self._data:
            # Whatever the caller read at once, only what stands behind the overlong line is copied.
            end = data.find(b"\n")
            if end < 0:
                return
            data = data[end:]
        self._data += data

    def line(self, limit: int) -> bytes | None:
        """The next line with its LF or CRLF, or None when more is needed.

        ``limit`` is in octets, line end included. Raises :class:`LineTooLong` once per overlong line; the line behind
        it comes with the next call.
        """
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            if self._dropping or len(self._data) >= limit:
                self._dropping = True
                self._data.clear()
            self._searched = len(self._data)
            return None
        self._searched = 0
        if self._dropping or end >= limit:
            del self._data[: end + 1]
            self._dropping = False
            raise LineTooLong(limit)
        line = bytes(self._data[: end + 1])
        del self._data[: end + 1]
        return line

    def peek(self, limit: int) -> bytes | None:
        """The next line, which stays here until :meth:`drop`; None where :meth:`line` has more to say."""
        end = self._data.find(b"\n", self._searched)
        if end < 0 or end >= limit or self._dropping:
            return None
        return bytes(self._data[: end + 1])

    def drop(self, octets: int) -> None:
        """Remove what :meth:`peek` gave."""
        del self._data[:octets]
        self._searched = 0

    @property
    def inside_line(self) -> bool:
        """Whether octets were received that no line end has closed yet."""
        return bool(self._data) or self._dropping

    def take(self) -> bytes:
        """Everything that was not read, removed from here."""
        data = bytes(self._data)
        self._data.clear()
        self._searched = 0
        self._dropping = False
        return data


class DataReader:
    """The content after DATA: passes it on as it comes, up to the dot line (RFC 5321 section 4.1.1.4)."""

    __slots__ = ("_held", "_virtual")

    def __init__(self) -> None:
        # The 354 left the client at the start of a line: as if a CRLF had come, which belongs to no content.
        self._held = b"\r\n"
        self._virtual = 2

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Content that is certain, and what stood behind the dot line, or None while that has not come.

        At most four octets, which may be the beginning of the dot line, wait for the next call.
        """
        text = self._held + data if self._held else data
        mark = text.find(MARK)
        if mark >= 0:
            return text[self._virtual : mark + 2], text[mark + 5 :]
        end = len(text) - _begun(text)
        self._held = text[end:]
        if end < self._virtual:
            return b"", None
        content = text[self._virtual : end]
        self._virtual = 0
        return content, None


class ChunkReader:
    """The octets of one BDAT chunk, counted (RFC 3030 section 2)."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Content, and what stood behind the chunk, or None while some of it is missing."""
        if len(data) < self._left:
            self._left -= len(data)
            return data, None
        content, rest = data[: self._left], data[self._left :]
        self._left = 0
        return content, rest


def _begun(text: bytes) -> int:
    """How many octets at the end of ``text`` may be the beginning of the end mark."""
    if not text.endswith((b"\r", b"\n", b".")):
        return 0
    for length in range(len(MARK) - 1, 0, -1):
        if text.endswith(MARK[:length]):
            return length
    return 0
