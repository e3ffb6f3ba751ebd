"""A sum taken beside the reader is the sum, however much there is, and leaves no thread behind."""

from __future__ import annotations

import hashlib
import threading

import pytest

from bsmtp_batch.edge import hashing
from bsmtp_batch.edge.hashing import Sha256


@pytest.mark.parametrize("size", [0, 1, 1000, hashing.ALONE, hashing.ALONE + 1, 3 * hashing.ALONE + 7])
@pytest.mark.parametrize("piece", [100_000, 1 << 18])
def test_it_is_the_sum_of_all(size, piece):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    with Sha256() as found:
        for at in range(0, size, piece):
            found.update(data[at : at + piece])
        assert found.hexdigest() == hashlib.sha256(data).hexdigest()


def test_a_reader_that_gives_up_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(hashing, "ALONE", 0)
    before = threading.active_count()
    with pytest.raises(RuntimeError), Sha256() as found:
        found.update(b"x" * 1_000_000)
        raise RuntimeError
    assert threading.active_count() == before
