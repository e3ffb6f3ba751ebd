"""Lines, content and chunks come out the same however the octets arrived, and nothing grows without a limit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bsmtp_batch.wire import lines
from bsmtp_batch.wire.lines import ChunkReader, DataReader, LineBuffer, LineTooLong, line_ends

LIMIT = 10


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``places``."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def lines_of(pieces: list[bytes]) -> list[bytes | str]:
    buffer = LineBuffer()
    seen: list[bytes | str] = []
    for piece in pieces:
        buffer.feed(piece)
        while True:
            try:
                line = buffer.line(LIMIT)
            except LineTooLong:
                seen.append("too long")
                continue
            if line is None:
                break
            seen.append(line)
    return seen


class Watched(bytearray):
    """Counts the octets that are searched."""

    searched = 0

    def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]
        self.searched += len(self) - start
        return super().find(sub, start)


def test_line_keeps_its_line_end_and_leaves_the_rest() -> None:
    buffer = LineBuffer()
    buffer.feed(b"one\r\ntwo\nthr")
    assert [buffer.line(LIMIT) for _ in range(3)] == [b"one\r\n", b"two\n", None]
    assert buffer.inside_line
    assert buffer.take() == b"thr"
    assert not buffer.inside_line


def test_line_of_exactly_the_limit_passes_and_one_octet_more_does_not() -> None:
    assert lines_of([b"12345678\r\n"]) == [b"12345678\r\n"]
    assert lines_of([b"123456789\r\nnext\r\n"]) == ["too long", b"next\r\n"]


def test_hundred_megabytes_without_line_end_stay_within_the_limit_and_are_reported_once() -> None:
    buffer = LineBuffer()
    piece = b"x" * (1 << 20)
    for _ in range(100):
        buffer.feed(piece)
        assert buffer.line(LIMIT) is None
        assert len(buffer) == 0
        assert buffer.inside_line
    buffer.feed(b"y\r\nnext\r\n")
    with pytest.raises(LineTooLong):
        buffer.line(LIMIT)
    assert buffer.line(LIMIT) == b"next\r\n"


def test_octets_that_come_one_by_one_are_searched_once() -> None:
    buffer = LineBuffer()
    watched = buffer._data = Watched()
    for _ in range(1000):
        buffer.feed(b"x")
        assert buffer.line(2000) is None
    assert watched.searched == 1000


@given(st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b"0123456789abc"])), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_the_cutting(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    assert lines_of(cut(data, places)) == lines_of([data])


def content_of(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    reader = DataReader()
    content = b""
    rest: bytes | None = None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        got, rest = reader.feed(piece)
        content += got
    return content, rest


ENDS = [
    (b".\r\n", b"", b""),
    (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
    (b"\r\n.\r\n", b"\r\n", b""),
    (b"..\r\n.\r\n", b"..\r\n", b""),
    (b".\r.\r\n.\r\n", b".\r.\r\n", b""),
    (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n"),
    (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
]


@pytest.mark.parametrize(("data", "content", "rest"), ENDS)
def test_end_of_content_is_found_whole_and_byte_by_byte(data: bytes, content: bytes, rest: bytes) -> None:
    assert content_of([data]) == (content, rest)
    assert content_of([data[i : i + 1] for i in range(len(data))]) == (content, rest)


@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\n. \r\n",
        b"\r\n.\r\r\n",
        b"\r\n..\r\n",
        b"\r\n\x85.\r\n",
    ],
)
def test_nothing_but_crlf_dot_crlf_ends_content(smuggled: bytes) -> None:
    data = b"text" + smuggled + b"MAIL FROM:<forged@example.org>\r\n"
    assert content_of([data + b".\r\n"]) == (data, b"")
    assert content_of([bytes([octet]) for octet in data + b".\r\n"]) == (data, b"")


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"x", b"\r\n", b"\0"])), st.lists(st.integers(0, 100)))
def test_content_does_not_depend_on_the_cutting(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts) + b"\r\n.\r\n"
    end = (b"\r\n" + data).find(b"\r\n.\r\n")
    assert content_of(cut(data, places)) == (data[:end], data[end + 3 :])


def test_content_in_pieces_without_line_ends_is_passed_on_uncopied() -> None:
    reader = DataReader()
    reader.feed(b"start")
    piece = b"x" * 1000
    assert reader.feed(piece)[0] is piece


def test_chunk_is_counted_and_what_follows_is_left() -> None:
    reader = ChunkReader(5)
    assert reader.feed(b"ab") == (b"ab", None)
    assert reader.feed(b"c\r\nBDAT 0") == (b"c\r\n", b"BDAT 0")


def test_empty_chunk_is_complete_at_once() -> None:
    assert ChunkReader(0).feed(b"") == (b"", b"")


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r\n", b"\r", b"\n", b"a", b"bcd", b"\0"])).map(b"".join), st.integers(1, 9)
)
@example(b"a\r\n" * 70_000 + b"\n", lines._PART)
@example(b"\n\r", 1)
def test_a_line_end_of_another_kind_is_never_counted_as_one(data: bytes, part: int) -> None:
    """Where a message ends could then be read in two ways."""
    pairs = data.count(b"\r\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_PART", part)
        assert line_ends(data) == (pairs if data.count(b"\r") == pairs == data.count(b"\n") else None)
