"""HMAC-MD5 (RFC 2104) from the two states that its key leaves behind, for CRAM-MD5.

The secret of an account need not be kept: the state of MD5 after the inner and after the outer padded key is enough.
The standard library cannot go on from a state, so the compression function of RFC 1321 is here. It is slow (tens of
microseconds for a block) and meets a few blocks for each login. It serves this one mechanism and nothing else.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

BLOCK = 64
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_MASK = 0xFFFFFFFF
_SINES = tuple(int(abs(math.sin(i + 1)) * 2**32) for i in range(64))
_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))

State = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class KeyStates:
    """MD5 after one block of key: ``inner`` and ``outer``, 16 octets each (the four words, little-endian)."""

    inner: bytes = field(repr=False)
    outer: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not len(self.inner) == len(self.outer) == 16:
            raise ValueError("a state of MD5 has 16 octets")

    def digest(self, message: bytes) -> bytes:
        """HMAC-MD5 of ``message`` under the key that left these states: 16 octets."""
        return _finish(self.outer, _finish(self.inner, message))


def key_states(secret: bytes) -> KeyStates:
    """The states that ``secret`` leaves (RFC 2104 section 4: they take its place)."""
    key = md5(secret) if len(secret) > BLOCK else secret
    key = key.ljust(BLOCK, b"\0")
    inner, outer = (bytes(octet ^ pad for octet in key) for pad in (0x36, 0x5C))
    return KeyStates(_packed(_compress(_START, inner)), _packed(_compress(_START, outer)))


def md5(message: bytes) -> bytes:
    """MD5 of ``message``."""
    return _packed(_absorb(_START, message, before=0))


def _finish(state: bytes, message: bytes) -> bytes:
    first, second, third, fourth = struct.unpack("<4I", state)
    return _packed(_absorb((first, second, third, fourth), message, before=BLOCK))


def _absorb(state: State, message: bytes, *, before: int) -> State:
    """``state`` after ``message`` and its padding; ``before`` octets went in earlier."""
    zeros = -(len(message) + 9) % BLOCK
    padded = message + b"\x80" + bytes(zeros) + struct.pack("<Q", (before + len(message)) * 8 & 0xFFFFFFFFFFFFFFFF)
    for offset in range(0, len(padded), BLOCK):
        state = _compress(state, padded[offset : offset + BLOCK])
    return state


def _compress(state: State, block: bytes) -> State:
    words = struct.unpack("<16I", block)
    a, b, c, d = state
    for step in range(64):
        kind = step >> 4
        if kind == 0:
            mixed, index = (b & c) | (~b & d), step
        elif kind == 1:
            mixed, index = (d & b) | (~d & c), 5 * step + 1
        elif kind == 2:
            mixed, index = b ^ c ^ d, 3 * step + 5
        else:
            mixed, index = c ^ (b | ~d), 7 * step
        total = (a + mixed + _SINES[step] + words[index & 15]) & _MASK
        shift = _SHIFTS[kind][step & 3]
        a, b, c, d = d, (b + (total << shift | total >> 32 - shift)) & _MASK, b, c
    return (state[0] + a & _MASK, state[1] + b & _MASK, state[2] + c & _MASK, state[3] + d & _MASK)


def _packed(state: State) -> bytes:
    return struct.pack("<4I", *state)
