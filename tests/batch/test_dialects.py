"""The batch files of other programs, as they are known to write them."""

from __future__ import annotations

import pytest
from support.wirefiles import contents, faults, messages, read, simple, write

from bsmtp_batch.batch.events import Severity
from bsmtp_batch.wire.command import Mail, Rcpt

EXIM = (
    b"MAIL FROM:<a@x.example>\nRCPT TO:<b@y.example>\nRCPT TO:<c@y.example>\nDATA\n"
    b"Received: from x\n\tby y\nSubject: dots\n\n..\n..two\nend\n.\n"
    b"MAIL FROM:<>\nRCPT TO:<b@y.example>\nDATA\nSubject: bounce\n\ntext\n.\n"
)
FETCHMAIL = (
    b"MAIL FROM:<a@x.example> BODY=8BITMIME\r\nRCPT TO:<b@localhost>\r\nDATA\r\n"
    b"Received: from pop\r\n\tby here with POP3 (fetchmail)\r\nSubject: \xfc\r\n\r\n..dot\r\n.\r\n"
    b"MAIL FROM:<c@x.example> BODY=7BIT\r\nRCPT TO:<b@localhost>\r\nDATA\r\nSubject: 2\r\n\r\ntext\r\n.\r\n"
)
BITNET = (
    b"HELO CUNYVM.BITNET      \r\nVERB ON                 \r\nTICK 00017              \r\n"
    b"MAIL FROM:<MAINT@CUNYVM.BITNET>     \r\nRCPT TO:<POSTMAST@OTHER.BITNET>     \r\nDATA           \r\n"
    b"Date: x  \r\nFrom: MAINT\r\n\r\nTEXT   \r\n.\r\nQUIT      \r\n"
)
SESSION = (
    b"220 there ESMTP\nHELO here\n250 there\nMAIL FROM:<a@x.example>\n250 2.1.0 Ok\nRCPT TO:<b@y.example>\n250-2.1.5\n"
    b"250 Ok\nDATA\n354 End data with <CR><LF>.<CR><LF>\nSubject: recorded\n\n354 in the text stays\n.\n250 Ok\nQUIT\n"
    b"221 Bye\n"
)


def tolerated(data):
    events, summary = read(data, Severity.TOLERANT)
    assert not faults(events), [str(f) for f in faults(events)]
    return messages(events), contents(data, events), summary


def test_exim_appends_transactions_with_lf_and_no_frame():
    found, texts, summary = tolerated(EXIM)

    assert [(m.mail, m.rcpts) for m in found] == [
        (Mail(b"a@x.example"), (Rcpt(b"b@y.example"), Rcpt(b"c@y.example"))),
        (Mail(b""), (Rcpt(b"b@y.example"),)),
    ]
    assert texts[0] == b"Received: from x\r\n\tby y\r\nSubject: dots\r\n\r\n.\r\n.two\r\nend\r\n"
    assert [m.exact for m in found] == [False, False]
    assert summary.warnings == ["line 20: no QUIT at the end"]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_exim_with_a_greeting_before_each_message(newline):
    data = EXIM.replace(b"MAIL FROM", b"HELO hub.example\nMAIL FROM").replace(b"\n", newline)

    found, _, summary = tolerated(data)

    assert len(found) == 2
    assert summary.sessions == 2


def test_fetchmail_appends_transactions_with_parameters_and_no_frame():
    found, texts, _ = tolerated(FETCHMAIL)

    assert [m.mail.params for m in found] == [((b"BODY", b"8BITMIME"),), ((b"BODY", b"7BIT"),)]
    assert texts[0].endswith(b"\r\n\r\n.dot\r\n")
    assert [(m.exact, m.eight_bit) for m in found] == [(True, True), (True, False)]


def without_cr_in_texts(data):
    """What fetchmail does under ``stripcr``: the commands and the line with the dot keep their CR."""
    lines, inside = [], False
    for line in data.splitlines(keepends=True):
        inside = inside and line != b".\r\n"
        lines.append(line.replace(b"\r", b"") if inside else line)
        inside = inside or line == b"DATA\r\n"
    return b"".join(lines)


def test_fetchmail_without_cr_in_texts_is_taken_while_all_texts_are_so():
    found, texts, summary = tolerated(without_cr_in_texts(FETCHMAIL))

    assert texts == tolerated(FETCHMAIL)[1]
    assert [m.newline for m in found] == [b"\n", b"\n"]
    assert any("texts in LF" in w for w in summary.warnings)


def test_one_crlf_text_behind_lf_texts_refuses_the_file():
    first, second = FETCHMAIL.split(b"MAIL FROM:<c@")
    for data in (
        without_cr_in_texts(first) + b"MAIL FROM:<c@" + second,
        first + without_cr_in_texts(b"MAIL FROM:<c@" + second),
    ):
        events, _ = read(data, Severity.TOLERANT)
        assert [f.scope for f in faults(events)] == ["file"]
        assert len(messages(events)) == 1


def test_a_trace_line_with_crlf_makes_a_hidden_lf_end_harmless():
    forged = FETCHMAIL.replace(b"..dot\r\n", b"x\n.\r\nMAIL FROM:<f@x>\r\nRCPT TO:<v@y>\r\nDATA\r\nforged\n")

    events, _ = read(forged, Severity.TOLERANT)

    assert [f.reason for f in faults(events)] == [
        "a bare LF in the text: where a message ends could be read in two ways"
    ]
    assert not messages(events)


@pytest.mark.parametrize("text", [b".\nx\n", b"x\n.\ny\n", b"x\ny\r\n", b"x\n\ry\n", b"x\n\0\n"])
def test_lf_texts_between_crlf_commands_hold_nothing_ambiguous(text):
    data = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + text + b".\r\n"

    events, _ = read(data, Severity.TOLERANT)

    assert [f.scope for f in faults(events)] == ["file"]
    assert not messages(events)


def test_an_empty_text_decides_no_line_end():
    empty = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n"

    for rest in (FETCHMAIL, without_cr_in_texts(FETCHMAIL)):
        found, texts, _ = tolerated(empty + rest)
        assert len(found) == 3
        assert texts[0] == b""


def test_spamc_hands_back_the_frame_it_was_given():
    data = b"HELO x\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nX-Spam-Level: \nSubject: x\n\n..\n.\nQUIT\n"

    found, texts, _ = tolerated(data)

    assert texts == [b"X-Spam-Level: \r\nSubject: x\r\n\r\n.\r\n"]
    assert found[0].line == 2


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_bsmtpd_writes_a_frame_and_blank_lines_between(newline):
    first = [
        b"HELO site",
        b"MAIL FROM:<a@b>",
        b"RCPT TO:<c@d>",
        b"DATA",
        b"From a@b",
        b"x",
        b".",
        b"",
        b"",
        b"RSET",
    ]
    second = [b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", b"y", b".", b"QUIT", b""]
    data = newline.join([*first, *second])

    _, texts, _ = tolerated(data)

    assert texts == [b"From a@b\r\nx\r\n", b"y\r\n"]


def test_bitnet_pads_its_records_and_asks_for_replies():
    found, texts, _ = tolerated(BITNET)

    assert found[0].mail == Mail(b"MAINT@CUNYVM.BITNET")
    assert texts == [b"Date: x  \r\nFrom: MAINT\r\n\r\nTEXT   \r\n"]


def test_a_recorded_session_keeps_its_replies_out_of_the_text():
    for cuts in ((), range(len(SESSION))):
        events, _ = read(SESSION, Severity.TOLERANT, cuts=cuts)
        assert not faults(events)
        assert contents(SESSION, events) == [b"Subject: recorded\r\n\r\n354 in the text stays\r\n"]
        assert messages(events)[0].offset == SESSION.index(b"Subject")


def test_without_replies_before_it_a_354_is_text():
    data = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n354 pages\n.\n"

    assert tolerated(data)[1] == [b"354 pages\r\n"]


def test_batches_one_behind_the_other_each_have_their_own_line_ends():
    ours, exim = write([simple(1)]), b"HELO x\n" + EXIM + b"QUIT\n"

    for data in (ours + exim + ours, exim + ours + exim, ours + ours + b"\x1a"):
        found, _, summary = tolerated(data)
        assert summary.sessions == data.count(b"QUIT")
        assert len(found) == data.count(b"MAIL FROM")


@pytest.mark.parametrize("data", [EXIM, FETCHMAIL, BITNET, SESSION, without_cr_in_texts(FETCHMAIL)])
def test_none_of_them_passes_for_ours(data):
    events, _ = read(data, Severity.STRICT)

    assert not messages(events)
    assert [f.scope for f in faults(events)] == ["file"]
