"""Replies are read one way only, and what we say cannot break the framing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.wire.events import PeerProblem, Reply
from bsmtp_batch.wire.lines import LineBuffer
from bsmtp_batch.wire.replies import MAX_REPLY, MAX_REPLY_LINE, ReplyReader, format_reply, parse_extensions

BOTH_WAYS = [
    (Reply(250), b"250 \r\n"),
    (Reply(220, b"", b"hub.example ESMTP"), b"220 hub.example ESMTP\r\n"),
    (Reply(250, b"2.1.0", b"ok"), b"250 2.1.0 ok\r\n"),
    (Reply(250, b"2.1.0"), b"250 2.1.0\r\n"),
    (Reply(550, b"5.1.1", b"no such user\nreally"), b"550-5.1.1 no such user\r\n550 5.1.1 really\r\n"),
    (Reply(250, b"", b"hub\nPIPELINING\nSIZE 100"), b"250-hub\r\n250-PIPELINING\r\n250 SIZE 100\r\n"),
    (Reply(334, b"", b"PDEyMw=="), b"334 PDEyMw==\r\n"),
    (Reply(250, b"", b"5.1.1 of another class"), b"250 5.1.1 of another class\r\n"),
    (Reply(250, b"", b"2.1.1234 is too long to be a status"), b"250 2.1.1234 is too long to be a status\r\n"),
]


def replies_in(data: bytes, step: int) -> list[Reply]:
    buffer = LineBuffer()
    reader = ReplyReader(buffer)
    seen = []
    for at in range(0, len(data), step):
        buffer.feed(data[at : at + step])
        while reply := reader.next():
            seen.append(reply)
    return seen


@pytest.mark.parametrize(("reply", "data"), BOTH_WAYS)
def test_reply_is_the_same_in_both_directions_whole_and_byte_by_byte(reply: Reply, data: bytes) -> None:
    assert format_reply(reply) == data
    assert replies_in(data, len(data)) == [reply]
    assert replies_in(data, 1) == [reply]
    assert replies_in(data[:-1], 1) == []
    assert replies_in(data + b"250 next\r\n", 7) == [reply, Reply(250, b"", b"next")]


def test_lenient_where_only_one_reading_is_possible() -> None:
    assert replies_in(b"250\r\n250-a\n250 b\n250-2.0.0 a\r\n250 b\r\n", 3) == [
        Reply(250),
        Reply(250, b"", b"a\nb"),
        Reply(250, b"2.0.0", b"a\nb"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 x\r\n",
        b"150 x\r\n",
        b"600 x\r\n",
        b"2500 x\r\n",
        b"250_x\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-a\r\n251 b\r\n",
        "\uff12\uff15\uff10 x\r\n".encode(),
        b"250 " + b"x" * MAX_REPLY_LINE + b"\r\n",
        (b"250-" + b"x" * 500 + b"\r\n") * (MAX_REPLY // 500 + 1),
    ],
)
def test_what_is_no_reply_is_a_fault_of_the_peer(data: bytes) -> None:
    for step in (1, len(data)):
        with pytest.raises(PeerProblem):
            replies_in(data, step)


def test_reply_without_end_is_refused_before_it_fills_the_memory() -> None:
    buffer = LineBuffer()
    reader = ReplyReader(buffer)
    with pytest.raises(PeerProblem):
        for _ in range(1000):
            buffer.feed(b"250-" + b"x" * 1000 + b"\r\n")
            assert reader.next() is None
    assert reader.inside_reply


@given(
    st.integers(200, 599),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=80),
    st.booleans(),
)
def test_round_trip_of_any_printable_words(code: int, words: str, with_status: bool) -> None:
    status = b"%d.7.1" % (code // 100) if with_status and code // 100 != 3 else b""
    text = words.encode().lstrip(b" ")
    sent = Reply(code, status, text if status else b"x" + text)
    assert replies_in(format_reply(sent), 4) == [sent]


@given(st.binary(max_size=1000))
def test_no_words_can_make_a_second_reply(text: bytes) -> None:
    data = format_reply(Reply(550, b"5.0.0", text))
    assert len(replies_in(data, len(data))) == 1
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert all(len(line) <= 510 for line in data.split(b"\r\n"))


@pytest.mark.parametrize(("code", "status"), [(199, b""), (600, b""), (250, b"5.1.1"), (550, b"5.1"), (354, b"3.0.0")])
def test_codes_that_do_not_exist_are_not_sent(code: int, status: bytes) -> None:
    with pytest.raises(ValueError, match="code"):
        format_reply(Reply(code, status, b"x"))


def test_extensions_are_found_in_any_case_with_their_parameters() -> None:
    reply = Reply(250, b"", b"hub greets you\nPipelining\nSIZE 1000\nAUTH PLAIN\nAUTH=PLAIN LOGIN\n-odd\n8BITMIME ")
    assert parse_extensions(reply) == {
        b"PIPELINING": (),
        b"SIZE": (b"1000",),
        b"AUTH": (b"PLAIN", b"LOGIN"),
        b"8BITMIME": (),
    }


def test_reply_in_a_log_cannot_move_the_cursor() -> None:
    assert str(Reply(550, b"5.1.1", b"no\x1b[2J \xc3\xa9\xff\nuser")) == "550 5.1.1 no\\x1b[2J é\\xff user"
    assert str(Reply(250)) == "250"
