"""Somebody else writes to a batch while it is imported: nobody gets what he was not meant to get."""

from __future__ import annotations

import os

import pytest
from support.importing import Letter, batch, letters, run
from support.sink import Data, Sink

from bsmtp_batch.replay import source

LONG_AGO = 1_000_000_000


def same_size(found):
    """As many octets, the other way round: each text stands where that of another message stood."""
    return [Letter(to=(b"d@site.example",), content=one.content) for one in reversed(found)]


@pytest.fixture(autouse=True)
def a_connection_for_each_message(monkeypatch):
    monkeypatch.setattr(source, "WORTH", 1)


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("lines", [1, 1000, 20_000])
def test_a_text_that_was_written_over_is_ended_for_nobody(tmp_path, connections, lines):
    found = [Letter(content=b"Subject: %d\r\n\r\n" % n + b"number %d\r\n" % n * lines) for n in range(1, 9)]
    path = tmp_path / "mail.bsmtp"
    path.write_bytes(batch(found))
    os.utime(path, (LONG_AGO, LONG_AGO))

    def answer(asked):
        if isinstance(asked.request, Data) and asked.messages >= 3 and path.stat().st_mtime == LONG_AGO:
            with open(path, "r+b") as file:
                file.write(batch(same_size(found)))

    spool = tmp_path / "spool"
    spool.mkdir()
    with Sink(answer) as sink:
        note = run(spool, sink.url, path, connections=connections, patience=1)
        assert note.code == 75
        assert note.said("changed after it was verified")
        assert {(one.to[0], one.content) for one in sink.taken} <= {(one.to[0], one.content) for one in found}
        assert len(sink.taken) < 8


def test_a_batch_that_was_only_looked_at_is_not_taken_for_changed(tmp_path):
    path = tmp_path / "mail.bsmtp"
    path.write_bytes(batch(letters(5)))
    spool = tmp_path / "spool"
    spool.mkdir()
    with Sink(lambda asked: path.read_bytes() and None) as sink:
        assert run(spool, sink.url, path, connections=3).code == 0
