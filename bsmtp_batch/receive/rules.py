"""No filter rules for an ``rsync`` that sends: among them are ones that have it open any file of the account.

Before the files, the side that wants them sends rules over the connection, whatever the command line says. ``. /path``
reads more rules from a file: rsync tells whether it is there and which of its lines is no rule, older releases tell the
line itself, and one that never ends is read for ever. Our couriers send no rules, so the first of them ends the
connection before rsync has seen any. What is read for that is the beginning of the protocol: four octets of version, a
string of checksum names (of a length that precedes it) where both sides know of that, and then frames, of which the
data begins with the length of the first rule, four octets that are 0 where there is none.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

OLDEST = 31
"""The first version of the protocol (rsync 3.1) in which everything after the strings is in frames."""
_DATA = 7
_CHUNK = 1 << 16
_MOST = 1 << 16
"""Octets in which the end of the rules has to come."""


class Opening:
    """The beginning of what the other rsync says; ``strings``: whether it says the names of checksums."""

    def __init__(self, *, strings: bool) -> None:
        self.over = False
        """Whether the rules have ended, and everything may pass from here on."""
        self._strings = strings
        self._said = b""
        self._passed = 0

    def feed(self, data: bytes) -> bytes:
        """What may pass, now that ``data`` came, too. Raises ``ValueError`` for a rule, or what cannot be read."""
        self._said += data
        end = self._read()
        if self._passed == end and len(self._said) > _MOST:
            raise ValueError("its beginning does not end")
        passing, self._passed = self._said[self._passed : end], end
        return passing

    def _read(self) -> int:
        """How many of the octets may pass."""
        if len(self._said) >= 4 and int.from_bytes(self._said[:4], "little") not in range(OLDEST, 256):
            raise ValueError(f"it speaks a version of the protocol before {OLDEST}")
        start = 4 + self._length_of_strings()
        if len(self._said) < start:
            return len(self._said)
        at, data = start, b""
        while len(data) < 4:
            header = self._said[at : at + 4]
            frame = self._said[at + 4 : at + 4 + int.from_bytes(header[:3], "little")]
            data += frame if header[3:] == bytes([_DATA]) else b""
            at += 4 + int.from_bytes(header[:3], "little")
            if any(data[:4]):
                raise ValueError("it sends rules of its own")
            if len(header) < 4 or (len(self._said) < at and len(data) < 4):
                return start
        self.over = True
        return len(self._said)

    def _length_of_strings(self) -> int:
        rest = self._said[4:6]
        if not self._strings or not rest:
            return int(self._strings)
        if not rest[0] & 0x80:
            return 1 + rest[0]
        return 2 + ((rest[0] & 0x7F) << 8 | rest[1]) if len(rest) == 2 else 2


def guard(can: str, refused: Callable[[str], None]) -> None:
    """From now on standard input is what another process, a child of ours, lets pass of it; this one may become the
    rsync that sends. ``can`` is its word ``-e...``; ``refused`` is told, in the child, why nothing more passes."""
    out, into = os.pipe()
    if os.fork():
        os.dup2(out, 0)
        os.close(out)
        os.close(into)
        return
    try:
        os.close(out)
        os.dup2(2, 1)  # whoever waits for the end of the output waits for rsync
        _pass_on(Opening(strings="v" in can), into)
    except ValueError as error:
        refused(str(error))
    finally:
        os._exit(0)


def _pass_on(opening: Opening, into: int) -> None:
    """Standard input to ``into``, until either end is closed."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(into, 0)  # tells when rsync has ended
    while into not in dict(poll.poll()):
        data = os.read(0, _CHUNK)
        passing = memoryview(data if opening.over else opening.feed(data))
        while passing:
            passing = passing[os.write(into, passing) :]
        if not data:
            return
