"""Going back for a text gives what was hashed, and a file that changed under our hands is noticed."""

from __future__ import annotations

import hashlib
import io

import pytest
from support.wirefiles import simple, write

from bsmtp_batch.batch import file as batch_file
from bsmtp_batch.batch.events import Severity
from bsmtp_batch.batch.file import BatchFile, Changed
from bsmtp_batch.wire.dots import stuff

CONTENT = b".\r\n..\r\nx\r\n" * 50
BATCH = write([simple(1), simple(2, CONTENT), simple(3)])


@pytest.fixture(params=[1, 2, 3, 7, 64, 1 << 18], autouse=True)
def chunk(request, monkeypatch):
    monkeypatch.setattr(batch_file, "CHUNK", request.param)


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_texts_come_out_the_same_for_any_chunk(newline):
    data = BATCH.replace(b"\r\n", newline)
    file = BatchFile(io.BytesIO(data))

    found = list(file.scan(Severity.TOLERANT))

    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert file.summary.messages == 3
    assert b"".join(file.content(found[1])) == CONTENT
    assert b"".join(file.wire(found[1])) == stuff(CONTENT)


def test_a_single_dot_is_doubled_on_its_way_to_the_wire():
    data = b"HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.x\r\n..y\r\n.\r\nQUIT\r\n"
    file = BatchFile(io.BytesIO(data))

    (message,) = file.scan(Severity.STRICT)

    assert not message.exact
    assert b"".join(file.content(message)) == b"x\r\n.y\r\n"
    assert b"".join(file.wire(message)) == b"x\r\n..y\r\n"


def test_size_and_hash_cover_the_whole_file_behind_a_fault():
    data = b"nonsense\r\n" + BATCH
    file = BatchFile(io.BytesIO(data))

    list(file.scan(Severity.STRICT))

    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_file_that_shrank_gives_an_error_and_not_a_short_text():
    inside = io.BytesIO(BATCH)
    file = BatchFile(inside)
    message = list(file.scan(Severity.STRICT))[1]
    inside.truncate(message.offset + 5)

    with pytest.raises(Changed):
        list(file.content(message))
