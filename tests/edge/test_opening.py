"""Compressed batches: known by their first octets, one layer, counted while they grow, damage named."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import os
import shutil
import threading
import tracemalloc

import pytest

from bsmtp_batch.edge import inflate
from bsmtp_batch.edge.opening import open_plain
from bsmtp_batch.errors import Bad, Later, Usage

PLAIN = b"HELO x\r\nQUIT\r\n" * 10
MIB = 1 << 20


def zstd(data):
    try:
        return importlib.import_module("compression.zstd").compress(data)
    except ImportError:
        return importlib.import_module("backports.zstd").compress(data)


def compress(data):
    """What compress(1) would write for up to 250 octets, if it saw no repetition in them: 9 bits for each."""
    bits = sum(octet << (9 * n) for n, octet in enumerate(data))
    return b"\x1f\x9d\x90" + bits.to_bytes((9 * len(data) + 7) // 8, "little")


KINDS = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd, "compress": compress}
IN_LIBRARY = pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])


@pytest.fixture
def stored(tmp_path):
    def store(data, name="batch.bsmtp"):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return store


def plain_of(path, **options):
    opened, kind = open_plain(path, **options)
    with opened:
        assert opened.tell() == 0
        data = opened.read()
        opened.seek(3)
        assert opened.read(2) == data[3:5]
        return data, kind


def test_a_plain_file_is_handed_on_as_it_is(stored):
    assert plain_of(stored(PLAIN)) == (PLAIN, None)
    assert plain_of(stored(b"")) == (b"", None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["batch.bsmtp", "batch.bsmtp.gz", "batch.bsmtp.Z"])
def test_what_it_is_shows_in_its_octets_and_not_in_its_name(kind, name, stored):
    assert plain_of(stored(KINDS[kind](PLAIN), name)) == (PLAIN, kind)


@pytest.mark.skipif(not shutil.which("zstd"), reason="there is no zstd program here")
def test_zstd_works_by_its_program_where_no_library_is(stored, monkeypatch):
    monkeypatch.setattr(inflate, "_decoder", lambda kind: None)

    assert plain_of(stored(zstd(PLAIN))) == (PLAIN, "zstd")
    with pytest.raises(Bad, match="is damaged"):
        open_plain(stored(zstd(PLAIN)[:-3]))


@IN_LIBRARY
def test_concatenated_streams_and_zeros_behind_them_are_taken(kind, stored):
    one = KINDS[kind](PLAIN)

    assert plain_of(stored(one + KINDS[kind](b"second") + one)) == (PLAIN + b"second" + PLAIN, kind)
    assert plain_of(stored(one + bytes(512))) == (PLAIN, kind)
    assert plain_of(stored(one + bytes(1 << 19) + one)) == (PLAIN * 2, kind)


@IN_LIBRARY
def test_a_stream_cut_anywhere_is_damaged(kind, stored):
    whole = KINDS[kind](PLAIN)
    magic = {"gzip": 2, "xz": 6, "zstd": 4}[kind]

    for cut in range(magic, len(whole)):
        with pytest.raises(Bad, match=f"{kind} data in .* bytes of batch came out before"):
            open_plain(stored(whole[:cut]))


@IN_LIBRARY
@pytest.mark.parametrize("rest", [b"x", b"HELO x\r\n", b"\0\0x", b"\x1f", b"PK\x03\x04"])
def test_something_else_behind_a_stream_is_not_dropped_in_silence(kind, rest, stored):
    with pytest.raises(Bad, match="followed by something else"):
        open_plain(stored(KINDS[kind](PLAIN) + rest))


@IN_LIBRARY
def test_a_changed_octet_is_caught_by_the_stream_itself(kind, stored):
    whole = bytearray(KINDS[kind](os.urandom(2000)))
    whole[len(whole) // 2] ^= 0xFF
    if kind == "zstd":  # its checksum is optional, and off by default; raw blocks come out as they went in
        return
    with pytest.raises(Bad, match="is damaged"):
        open_plain(stored(bytes(whole)))


@IN_LIBRARY
def test_a_bomb_is_stopped_at_the_cap_in_little_memory(kind, stored):
    path = stored(KINDS[kind](bytes(64 * MIB)))

    tracemalloc.start()
    try:
        with pytest.raises(Bad, match=f"more than the {3 * MIB} octets"):
            open_plain(path, cap=3 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB  # of which xz takes 8 for its window
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cap_of_just_its_size_lets_a_batch_through(kind, stored):
    path = stored(KINDS[kind](PLAIN))

    assert plain_of(path, cap=len(PLAIN)) == (PLAIN, kind)
    with pytest.raises(Bad, match="more than"):
        open_plain(path, cap=len(PLAIN) - 1)


@pytest.mark.parametrize("outer", ["gzip", "xz", "zstd"])
@pytest.mark.parametrize("inner", [*KINDS, "bzip2"])
def test_one_layer_is_all_that_is_taken_off(outer, inner, stored):
    make = {**KINDS, "bzip2": bz2.compress}[inner]

    with pytest.raises(Bad, match=f"compressed twice: {inner} inside {outer}"):
        open_plain(stored(KINDS[outer](make(PLAIN))))


def test_ten_layers_are_refused_as_two_are(stored):
    data = PLAIN
    for _ in range(10):
        data = gzip.compress(data)

    with pytest.raises(Bad, match="compressed twice"):
        open_plain(stored(data))


@pytest.mark.parametrize(("data", "kind"), [(bz2.compress(PLAIN), "bzip2"), (b"\x1f\x9f\x80abc", "freeze")])
def test_what_is_not_taken_is_named_with_a_way_out(data, kind, stored):
    with pytest.raises(Bad, match=f"compressed with {kind}, which is not taken.*by hand"):
        open_plain(stored(data))


def test_a_window_that_would_fill_the_memory_is_refused(stored):
    hungry = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 100 * MIB}]

    with pytest.raises(Bad, match="is damaged"):
        open_plain(stored(lzma.compress(PLAIN, filters=hungry)))


def test_a_file_that_is_not_there_or_no_file_is_a_mistake_of_usage(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(Usage, match="cannot be opened"):
            open_plain(str(path))


@pytest.fixture
def standard_input():
    """Puts octets on descriptor 0 through a pipe, as a shell does."""
    kept = os.dup(0)

    def feed(data):
        read, write = os.pipe()
        os.write(write, data)
        os.close(write)
        os.dup2(read, 0)
        os.close(read)

    yield feed
    os.dup2(kept, 0)
    os.close(kept)


@pytest.mark.parametrize("kind", [None, "gzip", "compress"])
def test_standard_input_can_be_gone_back_in(kind, standard_input):
    standard_input(KINDS[kind](PLAIN) if kind else PLAIN)

    assert plain_of(None) == (PLAIN, kind)


def test_standard_input_is_capped_too(standard_input):
    standard_input(PLAIN)

    with pytest.raises(Bad, match="standard input holds more than"):
        open_plain(None, cap=10)


def test_no_room_for_the_copy_is_for_later(stored, tmp_path):
    with pytest.raises(Later, match=r"cannot be read.*TMPDIR"):
        open_plain(stored(gzip.compress(PLAIN)), directory=str(tmp_path / "gone"))


def test_nothing_is_left_in_the_directory_of_the_copies(stored, tmp_path):
    (tmp_path / "copies").mkdir()
    opened, _ = open_plain(stored(gzip.compress(PLAIN)), directory=str(tmp_path / "copies"))

    with opened:
        assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [gzip.compress(PLAIN)[:-2], gzip.compress(gzip.compress(PLAIN)), bz2.compress(PLAIN)],
    ids=["cut", "twice", "bzip2"],  # gzip puts the time into its header, and test ids have to be the same everywhere
)
def test_a_refusal_leaves_no_open_file(data, stored):
    path = stored(data)
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(Bad):
        open_plain(path)

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.timeout(30)
def test_a_named_pipe_is_read_and_one_nobody_writes_to_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.edge.opening._PIPE_SECONDS", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Usage, match="nobody writes to it"):
        open_plain(str(pipe))

    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(PLAIN),))
    writer.start()
    assert plain_of(str(pipe)) == (PLAIN, "gzip")
    writer.join()
