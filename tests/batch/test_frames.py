"""The second reading finds every message where the first found it, and takes nothing else for one."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wirefiles import almost, canonical, cuts, messages, read, simple, texts, write, written

from bsmtp_batch.batch import file as batch_file
from bsmtp_batch.batch.events import Fault, Severity
from bsmtp_batch.batch.file import BatchFile, Changed
from bsmtp_batch.batch.frames import Framer, Torn
from bsmtp_batch.wire.command import Mail, Rcpt

TO = (Rcpt(b"c@d"), Rcpt(b"e@f.example", ((b"NOTIFY", b"NEVER"),)), Rcpt(b'"g>"@h'))
usual = st.lists(
    st.tuples(
        st.sampled_from((Mail(b""), Mail(b"a@b.example"), Mail(b"a@b", ((b"SIZE", b"3"),)), Mail(b'"a> b"@c'))),
        st.lists(st.sampled_from(TO), min_size=1).map(tuple),
        texts.map(canonical),
    ),
    max_size=6,
)


def framed(data, pieces):
    framer = Framer()
    found = [frame for piece in pieces for frame in framer.feed(piece)]
    framer.close()
    return found


def cut(data, cuts):
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def alike(data, pieces):
    events, _ = read(data, Severity.STRICT)
    found = framed(data, pieces)
    assert [(f.number, *f.envelope(), f.offset, f.wire_size) for f in found] == [
        (m.number, m.mail, m.rcpts, m.offset, m.wire_size) for m in messages(events)
    ]


@given(usual | written, cuts)
def test_every_message_is_where_the_first_reading_found_it(batch, cuts):
    data = write(batch)

    alike(data, [data])
    alike(data, cut(data, cuts))
    alike(data, cut(data, range(len(data))))


@given(almost(), cuts)
def test_whatever_the_strict_reader_takes_is_framed_alike(data, cuts):
    events, _ = read(data, Severity.STRICT)
    if not any(isinstance(event, Fault) for event in events):
        alike(data, cut(data, cuts))


@given(almost() | st.binary(max_size=100), cuts)
def test_anything_else_raises_torn_or_is_framed_and_nothing_else(data, cuts):
    try:
        for frame in framed(data, cut(data, cuts)):
            frame.envelope()
    except Torn:
        pass


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 18])
def test_texts_may_be_read_between_frames(chunk, monkeypatch):
    monkeypatch.setattr(batch_file, "CHUNK", chunk)
    batch = [simple(n, b".\r\n..\r\nx\r\n" * n) for n in (1, 2, 3)]
    file = BatchFile(io.BytesIO(write(batch)))
    found = list(file.scan(Severity.STRICT))

    for frame, message in zip(file.frames(), found, strict=True):
        assert b"".join(file.content(message)) == batch[frame.number - 1][2]


@pytest.mark.parametrize("cut_at", [-1, -6, -7, -30])
def test_a_batch_that_became_shorter_is_not_taken_for_a_smaller_one(cut_at):
    file = BatchFile(io.BytesIO(write([simple(1), simple(2)])[:cut_at]))

    with pytest.raises(Changed):
        list(file.frames())
