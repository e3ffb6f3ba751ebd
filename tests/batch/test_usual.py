"""The quick way through a batch gives what the slow one gives, whatever is in the file and however it arrives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wirefiles import almost, canonical, cuts, faults, messages, rcpts, read, simple, texts, write, written

from bsmtp_batch.batch import reader as reader_module
from bsmtp_batch.batch import usual
from bsmtp_batch.batch.events import Limits, Severity
from bsmtp_batch.batch.reader import Reader
from bsmtp_batch.wire.command import Mail, Rcpt

BOTH = st.sampled_from(Severity)
LIMITS = st.sampled_from(
    (
        None,
        Limits(recipients=1),
        Limits(message_size=30),
        Limits(messages=1),
        Limits(messages=2, all_recipients=3),
        Limits(command=64),
        Limits(line=50),
    )
)


def slowly(data, severity, limits=None):
    """Events and summary with nothing but one command after the other, and lines of text looked at one by one."""
    reader = Reader(severity, limits, digests=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "_is_usual", lambda self: False)
        patch.setattr("bsmtp_batch.batch.body.text_piece", lambda buffer, pos: None)
        return reader.feed(data) + reader.close(), reader.summary


_SPICE = (
    *(b"\r", b"\n", b"\0", b"\r\n", b".", b"\r\n.", b"\r\n..", b"\r\n.\r", b"\r\n.\r\n", b"\n.\n", b"\n.\r\n"),
    *(b"\r\n.\n", b"\xff", b"x" * 997, b"x" * 1000, b">", b"<", b" ", b" SIZE=3", b"\x1a", b"250 OK\r\n", b"\ra\n"),
    *(b"DATA\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"QUIT\r\n", b"RSET\r\n"),
    b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
)


@st.composite
def spiced(draw):
    """A sound batch with odd octets put in, written over, or cut out, anywhere."""
    data = write(draw(written), esmtp=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(_SPICE)) + data[at + draw(st.sampled_from((0, 0, 1, 2, 5, 60))) :]
    return data


@settings(max_examples=600)
@given(spiced() | almost(), BOTH, LIMITS, cuts)
def test_the_quick_way_gives_what_the_slow_one_gives(data, severity, limits, cuts):
    due = slowly(data, severity, limits)

    assert read(data, severity, limits=limits) == due
    assert read(data, severity, limits=limits, cuts=cuts) == due


@settings(max_examples=300)
@given(spiced() | almost(), BOTH, cuts)
def test_waiting_for_the_rest_of_a_message_changes_nothing(data, severity, cuts):
    due = slowly(data, severity)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "_PATIENCE", 1)
        assert read(data, severity, cuts=cuts) == due
        assert read(data, severity, cuts=range(len(data))) == due
        patch.setattr(reader_module, "HOLD", 40)
        assert read(data, severity, cuts=cuts) == due
        assert read(data, severity, cuts=range(len(data))) == due


@given(texts, BOTH)
def test_any_text_in_the_middle_of_sound_messages_is_read_in_one_way(text, severity):
    before, behind = (write([simple(n)]) for n in (1, 2))
    data = before[:-6] + b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + text + b"\r\n.\r\n" + behind[18:]

    assert read(data, severity) == slowly(data, severity)


def taken(data):
    """How many messages of ``data`` go the quick way."""
    facts = usual.Facts(data)
    reader = Reader(Severity.STRICT)
    bounds = usual.Bounds(Limits(), reader.summary)
    skim = usual.Skim(facts, data.index(b"MAIL"), base=0, line=2, number=1, esmtp=True, bounds=bounds)
    skim.run(parameters=True, digests=False)
    return len(skim.messages)


@pytest.mark.parametrize(
    "content",
    [b"", b"x\r\n", b".\r\n", b"..\r\n.x\r\n", b"\xff\r\n", b"x" * 998 + b"\r\n", b"\r\n\r\n"],
)
def test_usual_texts_go_the_quick_way(content):
    mail, to = Mail(b""), (Rcpt(b"c@d.example"),)

    assert taken(write([(mail, to, content)] * 5)) == 5


@pytest.mark.parametrize(
    ("mail", "to"),
    [
        (Mail(b"anna.b+c=d@x-y.example", ((b"SIZE", b"5"), (b"BODY", b"8BITMIME"))), (Rcpt(b"o'neil@b.example"),)),
        (Mail(b"a@b"), tuple(Rcpt(b"u%d@b.example" % n) for n in range(1000))),
        (Mail(b"a@b"), (Rcpt(b"c@d", ((b"NOTIFY", b"NEVER"), (b"ORCPT", b"rfc822;c@d"))), Rcpt(b"e@f"))),
    ],
)
def test_usual_envelopes_go_the_quick_way(mail, to):
    assert taken(write([(mail, to, b"x\r\n")] * 3)) == 3


@given(
    st.lists(st.tuples(st.just(Mail(b"a@b")), st.lists(rcpts, min_size=1, max_size=3).map(tuple), texts.map(canonical)))
)
def test_what_goes_the_quick_way_is_a_matter_of_speed_only(batch):
    data = write(batch)

    events, summary = read(data, Severity.STRICT)

    assert not faults(events)
    assert len(messages(events)) == summary.messages == len(batch)


@pytest.mark.parametrize("odd", [b"\ra\n", b"\r\na\n", b"\r\n.\n", b"\r\n.a\r\n", b"\r\r\n"])
@pytest.mark.parametrize("severity", Severity)
def test_odd_line_ends_just_before_the_end_of_a_piece_are_not_overlooked(odd, severity):
    data = write([simple(1)])[:-9] + odd + b".\r\nQUIT\r\n"
    due = slowly(data, severity)

    for cut in range(data.index(b"DATA"), len(data)):
        assert read(data, severity, cuts=[cut]) == due


@pytest.mark.parametrize("size", [1 << 10, 1 << 16, reader_module.HOLD - 5, reader_module.HOLD + 5, 3 << 20])
@pytest.mark.parametrize("piece", [1 << 14, 99_991, 1 << 18])
def test_messages_of_any_size_in_pieces_of_any_size(size, piece):
    dice = random.Random(size * piece)
    texts = (b"\r\n..x", b"\r\n", b"\r\n\r\n", b"a line of text\r\n", b"." * 30, b"\xe4" * 60)
    content = canonical(b"".join(dice.choices(texts, k=size // 14))[:size])
    data = write([simple(1), (*simple(2)[:2], content), simple(3), (*simple(4)[:2], content)])

    events, summary = read(data, Severity.STRICT, cuts=range(0, len(data), piece))

    assert (events, summary) == slowly(data, Severity.STRICT)
    assert not faults(events)
