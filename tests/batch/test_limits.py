"""Lengths: what is just inside, what is just over, and that nothing gigantic is ever held."""

from __future__ import annotations

import tracemalloc

import pytest
from support.wirefiles import contents, faults, messages, read, simple, write

from bsmtp_batch.batch.events import MAX_WARNINGS, Limits, Severity
from bsmtp_batch.batch.reader import Reader

HEAD = b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
TAIL = b".\r\nQUIT\r\n"
MIB = 1 << 20
BOTH = pytest.mark.parametrize("severity", Severity)


def peak_of(severity, pieces):
    """The most memory (octets) a reader takes over ``pieces``, and its last events."""
    reader = Reader(severity)
    events = []
    tracemalloc.start()
    try:
        for piece in pieces:
            events += reader.feed(piece)
        events += reader.close()
        return tracemalloc.get_traced_memory()[1], events
    finally:
        tracemalloc.stop()


@BOTH
@pytest.mark.parametrize(("line", "warned"), [(998, False), (999, True), (MIB, True)])
@pytest.mark.parametrize("dot", [b"", b"."])
def test_long_lines_of_text_are_kept_and_told(severity, line, warned, dot):
    text = dot + b"x" * (line - len(dot))
    data = write([(*simple(1)[:2], b"a\r\n" + text + b"\r\nb\r\n")])

    for cuts in ((), (5, 500, 1200, 3000)):
        events, summary = read(data, severity, cuts=cuts)
        assert contents(data, events) == [b"a\r\n" + text + b"\r\nb\r\n"]
        assert summary.warnings == (["line 6: a line of text is longer than 998 octets"] if warned else [])


@BOTH
@pytest.mark.parametrize("dot", [b"", b"."])
def test_a_line_over_a_mebibyte_refuses_the_file_at_the_place_where_it_begins(severity, dot):
    data = write([(*simple(1)[:2], b"a\r\n" + dot + b"x" * (MIB + 1 - len(dot)) + b"\r\n")])

    for cuts in ((), (5, 500, MIB, MIB + 30), range(0, len(data), 99_991)):
        events, _ = read(data, severity, cuts=cuts)
        assert [(f.line, f.offset) for f in faults(events)] == [(6, data.index(b"\r\na\r\n") + 5)]


def test_lines_of_an_lf_file_are_measured_without_their_line_end():
    for length, warned in ((998, 0), (999, 1)):
        data = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n" + b"x" * length + b"\n.\nQUIT\n"
        assert len(read(data, Severity.TOLERANT)[1].warnings) == warned


@BOTH
def test_a_gigantic_line_of_text_is_refused_in_little_memory(severity):
    piece = b"x" * MIB

    peak, events = peak_of(severity, [HEAD, *[piece] * 100, b"\r\n" + TAIL])

    assert "longer than 1048576" in faults(events)[0].reason
    assert peak < 6 * MIB


@BOTH
@pytest.mark.parametrize("start", [b"", b"HELO ", b"HELO x\r\nMAIL FROM:<", b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<"])
def test_a_gigantic_command_line_is_refused_in_little_memory(severity, start):
    piece = b"x" * MIB

    peak, events = peak_of(severity, [start, *[piece] * 100])

    assert faults(events)[0].reason == "a command line is longer than 2048 octets"
    assert faults(events)[0].offset == start.rfind(b"\n") + 1
    assert peak < 3 * MIB


def test_a_command_line_may_have_2048_octets_and_no_more():
    def read_noop(length):
        data = b"HELO x\r\nNOOP " + b"x" * (length - 7) + b"\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + TAIL
        return [faults(read(data, Severity.TOLERANT, cuts=c)[0]) for c in ((), (9, 2000), (2055, 2056, 2057))]

    assert read_noop(2048) == [[], [], []]
    assert [[f.offset for f in found] for found in read_noop(2049)] == [[8], [8], [8]]


@BOTH
def test_a_large_message_streams_by(severity):
    piece = (b"y" * 70 + b"\r\n.." + b"z" * 50 + b"\r\n") * 8000

    peak, events = peak_of(severity, [HEAD, *[piece] * 60, TAIL])

    assert messages(events)[0].wire_size == 60 * len(piece)
    assert peak < 12 * len(piece)


def test_recipients_over_the_limit_refuse_the_message_and_are_not_kept():
    lines = b"RCPT TO:<c@d>\r\n" * 30_000
    data = b"HELO x\r\nMAIL FROM:<a@b>\r\n" + lines + b"DATA\r\n.\r\n" + HEAD[8:] + TAIL

    events, summary = read(data, Severity.TOLERANT)

    assert [f.reason for f in faults(events)] == ["more than 1000 recipients"]
    assert [m.number for m in messages(events)] == [2]
    assert (summary.messages, summary.recipients) == (1, 1)
    assert faults(read(data, Severity.STRICT)[0])[0].scope == "file"


@BOTH
def test_a_thousand_recipients_are_taken(severity):
    mail, rcpts, text = simple(1)

    events, _ = read(write([(mail, rcpts * 1000, text)]), severity)

    assert len(messages(events)[0].rcpts) == 1000


def test_a_message_over_the_size_that_was_asked_for_is_refused_alone():
    data = write([simple(1), simple(2, b"x" * 100 + b"\r\n"), simple(3)])

    events, _ = read(data, Severity.TOLERANT, limits=Limits(message_size=101))

    assert [m.number for m in messages(events)] == [1, 3]
    assert [str(f) for f in faults(events)] == [
        "message 2, line 9, byte 106: the message has 102 octets, more than 101"
    ]


def test_a_file_of_oddities_does_not_fill_the_memory():
    summary = read(b"MAIL FROM:<a@b>\r\n" * 5000 + b"RSET\r\n" + HEAD + TAIL, Severity.TOLERANT)[1]

    assert len(summary.warnings) == MAX_WARNINGS
