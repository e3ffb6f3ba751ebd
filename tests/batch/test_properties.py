"""What holds for every batch: reading gives back what was written, and how the bytes arrive makes no difference."""

from __future__ import annotations

import hashlib
import io

from hypothesis import given, settings
from hypothesis import strategies as st
from support.wirefiles import (
    almost,
    canonical,
    contents,
    cuts,
    faults,
    messages,
    read,
    texts,
    write,
    written,
)

from bsmtp_batch.batch.events import Limits, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.wire.dots import END

BOTH = st.sampled_from(Severity)
SMALL = Limits(command=64, line=50, recipients=2, message_size=200)


@given(written, BOTH, cuts)
def test_what_was_written_is_read_back(batch, severity, cuts):
    data = write(batch)

    events, summary = read(data, severity, cuts=cuts)

    found = messages(events)
    assert not faults(events)
    assert [(m.mail, m.rcpts) for m in found] == [(mail, rcpts) for mail, rcpts, _ in batch]
    assert contents(data, events) == [content for _, _, content in batch]
    assert [m.sha256 for m in found] == [hashlib.sha256(content).hexdigest() for _, _, content in batch]
    assert [m.size for m in found] == [len(content) for _, _, content in batch]
    assert all(m.exact for m in found)
    assert (summary.messages, summary.recipients) == (len(batch), sum(len(rcpts) for _, rcpts, _ in batch))


@given(almost(), BOTH)
def test_what_was_read_is_written_back_and_read_the_same(data, severity):
    events, _ = read(data, severity)
    found = messages(events)

    again = write([(m.mail, m.rcpts, c) for m, c in zip(found, contents(data, events), strict=True)])
    events, _ = read(again, Severity.STRICT)

    assert not faults(events)
    assert [(m.mail, m.rcpts, m.sha256) for m in messages(events)] == [(m.mail, m.rcpts, m.sha256) for m in found]


@given(almost())
def test_a_strict_batch_is_the_only_way_to_write_it(data):
    events, _ = read(data, Severity.STRICT)
    found = messages(events)
    if faults(events) or not all(m.exact for m in found):
        return

    bodies = contents(data, events)
    esmtp, node = data.startswith(b"EHLO"), data[5 : data.index(b"\r")].decode()
    assert write([(m.mail, m.rcpts, c) for m, c in zip(found, bodies, strict=True)], node=node, esmtp=esmtp) == data


@settings(max_examples=300)
@given(almost(), BOTH, cuts, st.sampled_from((None, SMALL)))
def test_how_the_bytes_arrive_makes_no_difference(data, severity, cuts, limits):
    whole = read(data, severity, limits=limits)

    assert read(data, severity, limits=limits, cuts=cuts) == whole
    assert read(data, severity, limits=limits, cuts=range(len(data))) == whole


@given(texts, BOTH, cuts)
def test_raw_text_in_a_batch_reads_the_same_in_any_pieces(text, severity, cuts):
    data = b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + text + b"\r\n.\r\nQUIT\r\n"

    assert read(data, severity, cuts=cuts) == read(data, severity, cuts=range(len(data)))


@given(almost())
def test_whatever_is_strict_is_tolerated_and_means_the_same(data):
    events, _ = read(data, Severity.STRICT)
    if not faults(events):
        assert messages(read(data, Severity.TOLERANT)[0]) == messages(events)


@given(st.binary(max_size=200), BOTH)
def test_garbage_is_refused_and_never_raises(data, severity):
    events, _ = read(data, severity)

    assert faults(events) or b"QUIT" in data.upper()  # hypothesis does find the shortest batch there is
    assert all(f.reason.isprintable() and 0 <= f.offset <= len(data) and f.line >= 1 for f in faults(events))


@given(almost(), BOTH)
def test_after_a_fault_of_the_file_nothing_more_is_given(data, severity):
    events, _ = read(data, severity)

    scopes = [f.scope for f in faults(events)]
    assert "file" not in scopes or events[-1] is faults(events)[-1]
    assert scopes.count("file") <= 1
    assert [getattr(e, "number", getattr(e, "message", 0)) for e in events] == list(range(1, len(events) + 1))


@given(almost(), BOTH)
def test_what_goes_to_the_wire_holds_no_end_of_message(data, severity):
    events, _ = read(data, severity)
    file = BatchFile(io.BytesIO(data))

    for message in messages(events):
        wire = b"".join(file.wire(message))
        content = b"".join(file.content(message))
        assert b"\r\n" + END not in b"\r\n" + wire
        assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
        assert canonical(content) == content
        assert hashlib.sha256(content).hexdigest() == message.sha256
