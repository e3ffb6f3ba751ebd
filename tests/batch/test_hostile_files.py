"""Whole files and command lines that are wrong, strange or only unusual, and what each severity makes of them."""

from __future__ import annotations

import pytest
from support.wirefiles import faults, messages, read, simple, write

from bsmtp_batch.batch.events import Severity

HELO = b"HELO hub.example\r\n"
EHLO = b"EHLO hub.example\r\n"
ENVELOPE = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
TEXT = b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
ONE = ENVELOPE + TEXT
QUIT = b"QUIT\r\n"


def with_mail(line):
    return EHLO + line + b"\r\nRCPT TO:<c@d>\r\n" + TEXT + QUIT


def with_rcpt(line):
    return EHLO + b"MAIL FROM:<a@b>\r\n" + line + b"\r\n" + TEXT + QUIT


def between(line):
    return HELO + ONE + line + b"\r\n" + ONE + QUIT


def lf(data):
    return data.replace(b"\r\n", b"\n")


# number, octets, messages and faults in strict, messages and faults in tolerant ("F" the file, "M" one message)
FILES = [
    # harmless variety
    (1, HELO + ONE + QUIT, "1", "1"),
    (2, EHLO + ONE + ONE + QUIT, "2", "2"),
    (3, HELO + QUIT, "0", "0"),
    (4, QUIT, "0F", "0"),
    (5, ONE, "0F", "1"),
    (6, HELO + ONE, "1F", "1"),
    (7, HELO + lf(ONE) + QUIT, "0F", "0F"),
    (8, lf(HELO + ONE + QUIT), "0F", "1"),
    (9, lf(HELO + ONE) + ONE, "0F", "1F"),
    (10, HELO + ONE + b"QUIT", "1F", "1"),
    (11, HELO + ONE + QUIT + b"\x1a", "1F", "1"),
    (12, HELO + ONE + b"\x1a" * 100, "1F", "1"),
    (13, b"\xef\xbb\xbf" + HELO + ONE + QUIT, "0F", "1"),
    (14, HELO + ONE + QUIT + HELO + ONE + QUIT, "1F", "2"),
    (15, HELO + ONE + QUIT + ONE, "1F", "2"),
    (16, HELO + ONE + QUIT + lf(HELO + ONE + QUIT), "1F", "2"),
    (17, HELO + ONE + HELO + ONE + QUIT, "1F", "2"),
    (18, b"From a@b Sun Nov 22 05:33:00 2026\r\n" + ONE, "0F", "1"),
    (19, HELO + ENVELOPE + b"DATA\r\n.\r\n" + QUIT, "1", "1"),
    # nothing, or not enough
    (20, b"", "0F", "0F"),
    (21, b"\r\n\r\n", "0F", "0F"),
    (22, b"\x1a", "0F", "0F"),
    (23, HELO, "0F", "0F"),
    (24, HELO[:-2], "0F", "0F"),
    (25, HELO + ENVELOPE, "0F", "0F"),
    (26, HELO + b"MAIL FROM:<a@b>\r\n", "0F", "0F"),
    (27, HELO + ENVELOPE + b"DATA\r\n", "0F", "0F"),
    (28, HELO + ENVELOPE + b"DATA\r\n.", "0F", "0F"),
    (29, HELO + ENVELOPE + b"DATA\r\n.\r", "0F", "0F"),
    (30, HELO + ONE[:-2], "0F", "0F"),
    (31, HELO + ONE + b"QUI", "1F", "1F"),
    (32, HELO + ENVELOPE + QUIT, "0F", "0M"),
    (33, HELO + ENVELOPE + b"DATA\r\nx\r\n" + QUIT, "0F", "0F"),
    # something behind the end
    (35, HELO + ONE + QUIT + b"\r\n", "1F", "1"),
    (36, HELO + ONE + QUIT + b"x\r\n", "1F", "1F"),
    (37, HELO + ONE + QUIT + b"\0", "1F", "1F"),
    (38, HELO + ONE + QUIT + b"\x1a\r\n" + ONE, "1F", "1F"),
    (39, HELO + ONE + QUIT + QUIT, "1F", "1"),
    # order
    (40, HELO + b"RCPT TO:<c@d>\r\n" + TEXT + ONE + QUIT, "0F", "1M"),
    (41, HELO + b"RCPT TO:<x@y>\r\n" + ONE + ONE + QUIT, "0F", "1M"),
    (42, HELO + TEXT + ONE + QUIT, "0F", "1M"),
    (43, HELO + b"MAIL FROM:<a@b>\r\n" + TEXT + ONE + QUIT, "0F", "1M"),
    (44, HELO + b"MAIL FROM:<x@y>\r\n" + ONE + QUIT, "0F", "1"),
    (45, HELO + ENVELOPE + ONE + QUIT, "0F", "1"),
    (46, HELO + ENVELOPE + HELO + ONE + QUIT, "0F", "1"),
    (47, HELO + ENVELOPE + b"RSET\r\n" + ONE + QUIT, "0F", "1"),
    (48, HELO + ENVELOPE + b"x\r\n.\r\n" + QUIT, "0F", "0F"),
    # commands between messages
    (50, between(b"RSET"), "1F", "2"),
    (51, between(b"NOOP anything"), "1F", "2"),
    (52, between(b"VERB ON"), "1F", "2"),
    (53, between(b"TICK 0815"), "1F", "2"),
    (54, between(b"HELP"), "1F", "2"),
    (55, between(b"VRFY a"), "1F", "2"),
    (56, between(b"EXPN a"), "1F", "2"),
    (57, between(b""), "1F", "2"),
    (58, between(b"   "), "1F", "2"),
    (59, between(b"250 OK"), "1F", "2"),
    (60, between(b"250-go\r\n250 on"), "1F", "2"),
    (61, between(b"From a@b Sun Nov 22 05:33:00 2026"), "1F", "2"),
    (62, between(b"BDAT 5 LAST\r\nhello"), "1F", "1F"),
    (63, between(b"STARTTLS"), "1F", "1F"),
    (64, between(b"AUTH PLAIN AGEAYg=="), "1F", "1F"),
    (65, between(b"ATRN b.example"), "1F", "1F"),
    (66, between(b"TURN"), "1F", "1F"),
    (67, between(b"ETRN b.example"), "1F", "1F"),
    (68, between(b"XCLIENT ADDR=127.0.0.1"), "1F", "1F"),
    (69, between(b"XFORWARD NAME=x"), "1F", "1F"),
    (70, between(b"QSND b.example"), "1F", "1F"),
    (71, between(b"DEBUG"), "1F", "1F"),
    (72, between(b"LHLO x"), "1F", "1F"),
    (73, between(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2"), "1F", "1F"),
    (74, between(b"RSET now"), "1F", "1F"),
    (75, between(b"QUIT now"), "1F", "1F"),
    (76, between(b"hello"), "1F", "1F"),
    (77, between(b"."), "1F", "1F"),
    (78, between(b"NO\0OP"), "1F", "1F"),
    (79, between(b"NOOP\r"), "1F", "1F"),
    (80, between(b"NOOP \rMAIL FROM:<x@y>"), "1F", "1F"),
    (81, HELO + ENVELOPE + b"DATA now\r\nx\r\n.\r\n" + QUIT, "0F", "0F"),
    (82, HELO + ENVELOPE + b"data \r\nx\r\n.\r\n" + QUIT, "0F", "1"),
    (83, HELO + ENVELOPE + b"250 OK\r\nDATA\r\n354 go on\r\nx\r\n.\r\n250 OK\r\n" + QUIT, "0F", "1"),
    # greetings
    (90, b"HELO\r\n" + ONE + QUIT, "0F", "1"),
    (91, b"helo x\r\n" + ONE + QUIT, "0F", "1"),
    (92, b"HELO  x\r\n" + ONE + QUIT, "0F", "1"),
    (93, b"HELO x y\r\n" + ONE + QUIT, "0F", "1"),
    (94, b"HELO Hub.Example\r\n" + ONE + QUIT, "0F", "1"),
    (95, b"HELO [192.0.2.1]\r\n" + ONE + QUIT, "0F", "1"),
    (96, b"HELO hub.example \r\n" + ONE + QUIT, "0F", "1"),
    # envelopes
    (100, with_mail(b"MAIL FROM:<>"), "1", "1"),
    (101, with_mail(b"MAIL FROM:<a@b> BODY=8BITMIME SIZE=3"), "1", "1"),
    (102, with_mail(b"MAIL FROM: <a@b>"), "0F", "1"),
    (103, with_mail(b"MAIL FROM:a@b"), "0F", "1"),
    (104, with_mail(b"mail from:<a@b>"), "0F", "1"),
    (105, with_mail(b"MAIL FROM:<a@b> "), "0F", "1"),
    (106, with_mail(b"MAIL FROM:<@x,@y:a@b>"), "0F", "1"),
    (107, with_mail(b"MAIL FROM:<a@b"), "0F", "0M"),
    (108, with_mail(b"MAIL FROM:<a b@c>"), "0F", "0M"),
    (109, with_mail(b"MAIL FROM:<a@b> FROB=1"), "0F", "0M"),
    (110, with_mail(b"MAIL FROM:<a@b> BODY=BINARYMIME"), "0F", "0M"),
    (111, with_mail(b"MAIL FROM:<a\x01@b>"), "0F", "0M"),
    (112, with_mail(b"MAIL FROM:<a\0@b>"), "0F", "0M"),
    (113, with_mail(b'MAIL FROM:<"a\rb"@c>'), "0F", "0F"),
    (114, with_mail(b'MAIL FROM:<"a\nRCPT TO:<x@y>"@c>'), "0F", "0F"),
    (115, with_mail(b"MAIL FROM:<\xff@b>"), "0F", "0M"),
    (116, with_mail(b"MAIL FROM:<\xc3\xbc@b> SMTPUTF8"), "1", "1"),
    (117, with_mail(b"MAIL"), "0F", "0M"),
    (118, with_mail(b"MAIL FROM:<a@b>").replace(EHLO, HELO), "1", "1"),
    (119, with_mail(b"MAIL FROM:<a@b> SIZE=3").replace(EHLO, HELO), "0F", "1"),
    (130, with_rcpt(b"RCPT TO:<>"), "0F", "0M"),
    (131, with_rcpt(b"RCPT TO:<c@d> NOTIFY=NEVER"), "1", "1"),
    (132, with_rcpt(b"RCPT TO:<-oQ/tmp@d>"), "1", "1"),
    (133, with_rcpt(b"RCPT TO:<|/bin/sh@d>"), "1", "1"),
    (134, with_rcpt(b'RCPT TO:<"| sh"@d>'), "1", "1"),
    (135, with_rcpt(b"RCPT TO:</etc/passwd@d>"), "1", "1"),
    (136, with_rcpt(b"RCPT TO:<c@d> <e@f>"), "0F", "0M"),
    (137, with_rcpt(b"RCPT TO:<c@d><e@f>"), "0F", "0M"),
    (138, with_rcpt(b"RCPT TO:<c@d>\r\nRCPT TO:<bad bad>"), "0F", "0M"),
    (139, with_rcpt(b"RCPT TO:<postmaster>"), "1", "1"),
    (140, with_rcpt(b"RCPT TO:<" + b"c" * 300 + b"@d>"), "0F", "0M"),
    # other encodings of the whole file
    (150, (HELO + ONE + QUIT).decode().encode("utf-16"), "0F", "0F"),
    (151, (HELO + ONE + QUIT).decode().encode("utf-16-be"), "0F", "0F"),
    (152, (HELO + ONE + QUIT).decode().encode("utf-32"), "0F", "0F"),
    (153, (HELO + ONE + QUIT).decode().encode("cp037"), "0F", "0F"),
    (154, b"SEVMTyBodWIuZXhhbXBsZQ0K\r\n", "0F", "0F"),
    (155, (HELO + ONE + QUIT).replace(b"\r\n", b"=0D=0A"), "0F", "0F"),
    (156, (HELO + ONE + QUIT).replace(b"\r\n", b"\r"), "0F", "0F"),
    (157, (HELO + ONE + QUIT).replace(b"\r\n", b"\n\r"), "0F", "0F"),
    (158, (HELO + ONE + QUIT).replace(b"\r\n", b"\r\r\n"), "0F", "0F"),
    (159, b"\x1f\x8b\x08\0\0\0\0\0", "0F", "0F"),
    (160, b"Return-Path: <a@b>\r\nSubject: no batch at all\r\n\r\ntext\r\n", "0F", "0F"),
]


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize(("number", "data", "strict", "tolerant"), FILES, ids=[str(f[0]) for f in FILES])
def test_each_file_gives_these_messages_and_faults(number, data, strict, tolerant, severity):
    events, summary = read(data, severity)

    found = messages(events)
    scopes = {"file": "F", "message": "M"}
    outcome = f"{len(found)}" + "".join(scopes[f.scope] for f in faults(events))
    assert outcome == (strict if severity is Severity.STRICT else tolerant), [str(f) for f in faults(events)]
    assert summary.messages == len(found)
    for fault in faults(events):
        assert 0 <= fault.offset <= len(data)
        assert fault.line == data.count(b"\n", 0, fault.offset) + 1
        assert fault.message == len(found) + 1 or fault.scope == "message"


def test_a_bad_message_in_a_sound_file_does_not_take_its_neighbours_with_it():
    bad = ONE.replace(b"RCPT TO:<c@d>", b"RCPT TO:<c d>")

    events, summary = read(HELO + ONE + bad + ONE + QUIT, Severity.TOLERANT)

    assert [m.number for m in messages(events)] == [1, 3]
    assert [str(f) for f in faults(events)] == [
        "message 2, line 10, byte 93: in RCPT, the local part holds a character that it may have between quotes only"
    ]
    assert (summary.messages, summary.refused) == (2, 1)


def test_a_recipient_named_too_early_is_not_lost_in_silence():
    events, _ = read(HELO + b"RCPT TO:<early@d>\r\n" + ONE + QUIT, Severity.TOLERANT)

    assert [f.reason for f in faults(events)] == ["RCPT stands before MAIL"]


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_oddities_are_told_with_the_message_they_came_before(newline):
    data = (HELO + ENVELOPE + ONE + ONE + QUIT + ONE).replace(b"\r\n", newline)

    events, summary = read(data, Severity.TOLERANT)

    assert [m.warnings for m in messages(events)] == [
        ("line 4: another MAIL instead of DATA: an envelope without text is dropped",),
        (),
        ("line 19: a message without a greeting",),
    ]
    assert summary.warnings[-1] == "line 26: no QUIT at the end"
    assert summary.sessions == 2


def test_a_batch_cut_anywhere_is_refused_and_gives_its_whole_messages():
    data = write([simple(1), simple(2, b".\r\n..\r\nx\r\n"), simple(3)])
    ends = [m.offset + m.wire_size + 3 for m in messages(read(data, Severity.STRICT)[0])]

    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends)
        events, summary = read(data[:cut], Severity.STRICT)
        assert [m.number for m in messages(events)] == list(range(1, whole + 1))
        assert [f.scope for f in faults(events)] == ["file"]
        assert faults(events)[0].message == whole + 1

        events, summary = read(data[:cut], Severity.TOLERANT)
        assert [m.number for m in messages(events)] == list(range(1, whole + 1))
        if cut in ends:
            assert summary.warnings[-1].endswith("no QUIT at the end")
        elif data[:cut].endswith(b"QUIT") or data[:cut].endswith(b"QUIT\r"):
            assert summary.warnings[-1].endswith("the last line has no line end")
        else:
            assert [f.scope for f in faults(events)] == ["file"]
