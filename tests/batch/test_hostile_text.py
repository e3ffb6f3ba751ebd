"""Octets in a text that some reader somewhere takes for its end, each with what becomes of it here, one by one.

Every sequence stands between harmless text and a complete forged transaction: taken for an end, it would bring a
message to life. It is tried in the first, a middle and the last message, raw in a file and as content to be written.
"""

from __future__ import annotations

import hashlib

import pytest
from support.wirefiles import canonical, contents, faults, messages, read, simple, write

from bsmtp_batch.batch.events import Severity
from bsmtp_batch.batch.manifest import Manifest

TEXT, REFUSED, END = "text", "refused", "end"

# number, octets, in a file whose line ends are CRLF, in one whose line ends are LF
CASES = [
    # a lone dot between every mix of line ends
    (1, b"\r\n.\r\n", END, REFUSED),
    (2, b"\n.\n", REFUSED, END),
    (3, b"\r.\r", REFUSED, REFUSED),
    (4, b"\r.\n", REFUSED, REFUSED),
    (5, b"\n.\r", REFUSED, REFUSED),
    (6, b"\n.\r\n", REFUSED, REFUSED),
    (7, b"\r\n.\n", REFUSED, REFUSED),
    (8, b"\r.\r\n", REFUSED, REFUSED),
    (9, b"\r\n.\r", REFUSED, REFUSED),
    (10, b"\r\r\n.\r\n", REFUSED, REFUSED),
    (11, b"\r\n.\r\r\n", REFUSED, REFUSED),
    (12, b"\r\r\n.\r\r\n", REFUSED, REFUSED),
    (13, b"\n\r.\r\n", REFUSED, REFUSED),
    (14, b"\n\r.\n\r", REFUSED, REFUSED),
    (15, b"\r\n.\n\r", REFUSED, REFUSED),
    (16, b"\r\n\r.\r\n", REFUSED, REFUSED),
    (17, b"\r\n\n.\r\n", REFUSED, REFUSED),
    (18, b"\n\n.\n\n", REFUSED, END),
    (19, b"\r\n\r\n.\r\n\r\n", END, REFUSED),
    (20, b"\r\r.\r\r", REFUSED, REFUSED),
    (21, b"\n\r\n.\r\n", REFUSED, REFUSED),
    (22, b"\r\n.\r\n.\r\n", END, REFUSED),
    # NUL around the dot and inside the line end
    (30, b"\r\n\0.\r\n", REFUSED, REFUSED),
    (31, b"\r\n.\0\r\n", REFUSED, REFUSED),
    (32, b"\r\0\n.\r\n", REFUSED, REFUSED),
    (33, b"\r\n.\r\0\n", REFUSED, REFUSED),
    (34, b"\0\r\n.\r\n", REFUSED, REFUSED),
    (35, b"\r\n.\r\n\0", END, REFUSED),
    (36, b"\n\0.\n", REFUSED, REFUSED),
    (37, b"\n.\0\n", REFUSED, REFUSED),
    (38, b"a\0b", REFUSED, REFUSED),
    # lines that merely resemble the end
    (40, b"\r\n. \r\n", TEXT, REFUSED),
    (41, b"\r\n.\t\r\n", TEXT, REFUSED),
    (42, b"\r\n .\r\n", TEXT, REFUSED),
    (43, b"\r\n\t.\r\n", TEXT, REFUSED),
    (44, b"\r\n..\r\n", TEXT, REFUSED),
    (45, b"\r\n...\r\n", TEXT, REFUSED),
    (46, b"\r\n.x\r\n", TEXT, REFUSED),
    (47, b"\r\n.\x0b\r\n", TEXT, REFUSED),
    (48, b"\r\n.\x0c\r\n", TEXT, REFUSED),
    (49, b"\r\n\x08.\r\n", TEXT, REFUSED),
    (50, b"\r\n.\x1a\r\n", TEXT, REFUSED),
    (51, b"\r\n.\x7f\r\n", TEXT, REFUSED),
    (52, b"\n. \n", REFUSED, TEXT),
    (53, b"\n..\n", REFUSED, TEXT),
    (54, b"\n.x\n", REFUSED, TEXT),
    # dots and line ends made of other characters
    (60, b"\x0b.\x0b", TEXT, TEXT),
    (61, b"\x0c.\x0c", TEXT, TEXT),
    (62, b"\x1c.\x1c", TEXT, TEXT),
    (63, b"\x1d.\x1d", TEXT, TEXT),
    (64, b"\x1e.\x1e", TEXT, TEXT),
    (65, b"\x85.\x85", TEXT, TEXT),
    (66, b"\xc2\x85.\xc2\x85", TEXT, TEXT),
    (67, b"\xe2\x80\xa8.\xe2\x80\xa8", TEXT, TEXT),
    (68, b"\xe2\x80\xa9.\xe2\x80\xa9", TEXT, TEXT),
    (69, b"\x8d\x8a.\x8d\x8a", TEXT, TEXT),
    (70, b"\r\n\xe3\x80\x82\r\n", TEXT, REFUSED),
    (71, b"\r\n\xae\r\n", TEXT, REFUSED),
    (72, b"\r\n\xef\xbc\x8e\r\n", TEXT, REFUSED),
    (73, b"\r\n\xc0\xae\r\n", TEXT, REFUSED),
    (74, b"%0d%0a.%0d%0a", TEXT, TEXT),
    (75, b"=0D=0A.=0D=0A", TEXT, TEXT),
    (76, b"&#13;&#10;.&#13;&#10;", TEXT, TEXT),
    (77, b"\\r\\n.\\r\\n", TEXT, TEXT),
    # words of SMTP and mbox in the text
    (80, b"\r\nQUIT\r\n", TEXT, REFUSED),
    (81, b"\r\nRSET\r\n", TEXT, REFUSED),
    (82, b"\r\nBDAT 5 LAST\r\nhello", TEXT, REFUSED),
    (83, b"\r\nFrom a@b Sun Nov 22 05:33:00 2026\r\n", TEXT, REFUSED),
    (84, b"\nFrom a@b Sun Nov 22 05:33:00 2026\n", REFUSED, TEXT),
    (85, b"\nQUIT\n", REFUSED, TEXT),
    (86, b"\x1a", TEXT, TEXT),
]
FORGED = [b"MAIL FROM:<forged@x>", b"RCPT TO:<victim@b.example>", b"DATA", b"forged", b"after", b""]
POSITIONS = pytest.mark.parametrize("position", [1, 2, 3])


def file_with(octets, position, newline):
    """A batch of three messages with ``octets`` and the forgery in one of them; the text that one has."""
    texts = [[b"Subject: %d" % n, b"", b"text", b""] for n in (1, 2, 3)]
    raw = newline.join([b"Subject: x", b"", b"before"]) + octets + newline.join(FORGED)
    lines = [b"HELO hub.example", b""]
    data = newline.join(lines)
    for n, text in enumerate(texts, 1):
        data += newline.join([b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", b""])
        data += (raw if n == position else newline.join(text)) + b"." + newline
    return data + b"QUIT" + newline, raw


def check(data, raw, position, severity, expected, newline):
    events, _ = read(data, severity)
    if expected is TEXT:
        assert not faults(events)
        assert len(messages(events)) == 3
        text = raw.replace(b"\n", b"\r\n") if newline == b"\n" else raw
        assert contents(data, events)[position - 1] == text.replace(b"\r\n.", b"\r\n")
    elif expected is REFUSED:
        assert [f.scope for f in faults(events)] == ["file"]
        assert faults(events)[0].message == position
        assert len(messages(events)) == position - 1
        start = data.index(raw)
        assert start <= faults(events)[0].offset < start + len(raw)
        assert faults(events)[0].line == data.count(b"\n", 0, faults(events)[0].offset) + 1
    else:
        # A complete end, however it got there, is perfect grammar, or visibly none: only a manifest knows better.
        assert faults(events) or len(messages(events)) == 4
        assert len(messages(events)) >= position


@POSITIONS
@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize(("number", "octets", "expected", "_"), CASES, ids=[str(c[0]) for c in CASES])
def test_only_crlf_dot_crlf_ends_a_text_in_a_crlf_file(number, octets, expected, _, position, severity):
    data, raw = file_with(octets, position, b"\r\n")

    check(data, raw, position, severity, expected, b"\r\n")


@POSITIONS
@pytest.mark.parametrize(("number", "octets", "_", "expected"), CASES, ids=[str(c[0]) for c in CASES])
def test_only_lf_dot_lf_ends_a_text_in_an_lf_file(number, octets, _, expected, position):
    data, raw = file_with(octets, position, b"\n")

    check(data, raw, position, Severity.TOLERANT, expected, b"\n")
    assert not messages(read(data, Severity.STRICT)[0])


@POSITIONS
@pytest.mark.parametrize(("number", "octets"), [c[:2] for c in CASES], ids=[str(c[0]) for c in CASES])
def test_as_content_it_stays_inside_its_message(number, octets, position):
    content = canonical(b"Subject: x\r\n\r\nbefore" + octets + b"\r\n".join(FORGED))
    batch = [simple(n, content if n == position else b"") for n in (1, 2, 3)]

    data = write(batch)

    for severity in Severity:
        events, _ = read(data, severity)
        assert not faults(events)
        assert contents(data, events) == [message[2] for message in batch]
        assert [m.rcpts for m in messages(events)] == [message[1] for message in batch]
    for lax in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r\r\n"):
        assert data.count(lax) == 0 or lax in b"\r\n.\r\n"


@POSITIONS
def test_a_message_that_was_slipped_in_is_caught_by_the_manifest_alone(position):
    sound = write([simple(n) for n in (1, 2, 3)])
    extra = write([simple(9)])[len(b"EHLO hub.example\r\n") : -len(b"QUIT\r\n")]
    place = [at for at in range(len(sound)) if sound.startswith(b"MAIL FROM", at)][position - 1]
    forged = sound[:place] + extra + sound[place:]
    manifest = Manifest(
        name="b.example.00000001.20261122T053300Z.hub.example.bsmtp",
        route="b.example",
        origin="hub.example",
        sequence=1,
        messages=3,
        recipients=3,
        bytes=len(sound),
        sha256=hashlib.sha256(sound).hexdigest(),
        created="2026-11-22T05:33:00Z",
    )

    events, summary = read(forged, Severity.STRICT)

    assert not faults(events)
    assert manifest.matches(len(forged), hashlib.sha256(forged).hexdigest(), summary.messages, summary.recipients) == (
        f"the batch has {len(forged)} bytes, its manifest says {len(sound)}"
    )
