"""Text over LMTP becomes the same octets as through the pipe, the cheap way as well as the long one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.intake.text import Stream, are_canonical, canonical, is_canonical, size_of
from bsmtp_batch.wire.dots import Canonicaliser, Unstuffer

PIECES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b".", b"..", b"\0", b"a", b"bc", b"\r\n.", b"\r\n..", b"\xff", b"x" * 70_000]
)
WIRE = st.lists(PIECES, max_size=12).map(b"".join)


def long_way(wire: bytes) -> bytes:
    """What the canonicaliser of the pipe makes of stuffed text."""
    undone, text = Unstuffer(), Canonicaliser()
    return text.feed(undone.feed(wire)) + text.feed(undone.close()) + text.close()


def cut(data: bytes, random) -> list[bytes]:
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(6)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(WIRE, st.randoms(use_true_random=False))
def test_text_is_left_alone_only_where_the_long_way_would_leave_it_alone(wire, random):
    lines = wire + b"\r\n"
    pieces = cut(lines, random)

    assert canonical(lines) == long_way(lines)
    if are_canonical(pieces):
        assert is_canonical(lines)
    if is_canonical(lines):
        assert long_way(lines) == lines
        assert size_of(lines) == len(Unstuffer().feed(lines)) + 2


@given(WIRE, st.randoms(use_true_random=False), st.booleans())
def test_a_large_text_comes_out_the_same_however_it_is_cut(wire, random, stuffed):
    whole = wire + b"\r\n"
    expected = long_way(whole) if stuffed else Canonicaliser().feed(whole)

    stream = Stream(stuffed=stuffed)
    made = b"".join(stream.feed(piece) for piece in cut(whole, random)) + stream.close()

    assert made == expected
    assert stream.size == size_of(expected)
    assert stream.nul == (b"\0" in whole)


def test_a_line_without_end_is_not_held_back():
    stream = Stream(stuffed=True)

    given_out = sum(len(stream.feed(b"x" * 65_536)) for _ in range(16))

    assert given_out >= 15 * 65_536


def test_a_large_text_as_it_usually_comes_is_not_put_together_to_be_looked_at():
    text = (b"x" * 70 + b"\r\n..y\r\n") * 9000

    assert are_canonical([text[at : at + 40_000] for at in range(0, len(text), 40_000)])
