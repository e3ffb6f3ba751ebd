"""Copies for the road: what is expanded is what was compressed, and nothing that came makes more of itself."""

from __future__ import annotations

import errno
import gzip
import importlib
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsmtp_batch.edge import inflate, road
from bsmtp_batch.edge.road import SUFFIXES, compress, expand
from bsmtp_batch.errors import Bad, Later

MIB = 1 << 20
PLAIN = b"EHLO hub\r\nMAIL FROM:<a@x.org>\r\n" * 200
FORMS = pytest.mark.parametrize("form", list(SUFFIXES))
COMPRESSED = pytest.mark.parametrize("form", ["gzip", "xz", "zstd"])


def silent(_):
    pass


def zstd(data):
    return inflate.zstd_library().compress(data)


MAKE = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd}


@pytest.fixture
def road_of(tmp_path):
    """Compress ``data``; the path and the octets of the copy."""

    def make(data, form, tick=silent):
        (tmp_path / "plain").write_bytes(data)
        copy = tmp_path / f"copy{SUFFIXES[form]}"
        assert compress(str(tmp_path / "plain"), str(copy), form, tick) == copy.stat().st_size
        return copy

    return make


@pytest.fixture
def expanded(tmp_path):
    """Expand ``data``; what came of it."""

    def make(data, form, size, tick=silent):
        (tmp_path / "came").write_bytes(data)
        expand(str(tmp_path / "came"), str(tmp_path / "out"), form, size, tick)
        return (tmp_path / "out").read_bytes()

    return make


@pytest.fixture(params=["library", "program"])
def way(request, monkeypatch):
    """zstd by its library and by its program."""
    if request.param == "program":
        if not shutil.which("zstd"):
            pytest.skip("there is no zstd program here")
        without_library(monkeypatch)
    return request.param


def without_library(monkeypatch):
    monkeypatch.setattr(inflate, "zstd_library", lambda: None)
    monkeypatch.setattr(road, "zstd_library", lambda: None)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(SUFFIXES)), st.binary(max_size=5000), st.integers(1, 60))
def test_what_is_expanded_is_what_was_compressed(form, data, times):
    with tempfile.TemporaryDirectory() as place:
        with open(f"{place}/a", "wb") as file:
            file.write(data * times)
        compress(f"{place}/a", f"{place}/b", form, silent)
        expand(f"{place}/b", f"{place}/c", form, len(data) * times, silent)
        with open(f"{place}/c", "rb") as file:
            assert file.read() == data * times


def test_zstd_by_library_and_by_program_read_each_other(way, road_of, expanded, monkeypatch):
    data = os.urandom(3 * MIB) + bytes(3 * MIB)
    ticks = []
    copy = road_of(data, "zstd", ticks.append).read_bytes()
    monkeypatch.undo()

    assert sum(ticks) == len(data)
    assert expanded(copy, "zstd", len(data)) == data
    without_library(monkeypatch)
    assert expanded(copy, "zstd", len(data)) == data


@COMPRESSED
def test_the_same_batch_becomes_the_same_octets_wherever_and_whenever_it_is_compressed(form, tmp_path):
    """Otherwise a transfer that was cut could not go on with a copy made anew."""
    made = []
    for name in ("one", "another"):
        (tmp_path / name).write_bytes(PLAIN)
        os.utime(tmp_path / name, (len(made), len(made)))
        compress(str(tmp_path / name), str(tmp_path / f"{name}.copy"), form, silent)
        made.append((tmp_path / f"{name}.copy").read_bytes())

    assert made[0] == made[1]
    assert len(made[0]) < len(PLAIN)


@COMPRESSED
def test_common_programs_read_what_was_compressed(form, road_of):
    program = form if form != "gzip" else "gunzip"
    if not shutil.which(program):
        pytest.skip(f"there is no {program} here")

    done = subprocess.run([program, "-dc", road_of(PLAIN, form)], capture_output=True, check=True)

    assert done.stdout == PLAIN


# --- what comes is not what it should be ------------------------------------------------------------------------------


@FORMS
def test_more_and_fewer_octets_than_announced_are_refused_and_leave_nothing(form, road_of, expanded, tmp_path):
    copy = road_of(PLAIN, form).read_bytes()

    for size, words in ((len(PLAIN) - 1, "more than"), (len(PLAIN) + 1, "octets of the"), (0, "more than")):
        with pytest.raises(Bad, match=words):
            expanded(copy, form, size)
        assert not (tmp_path / "out").exists()


@FORMS
def test_nothing_at_all_is_no_batch(form, expanded):
    with pytest.raises(Bad):
        expanded(b"", form, 5)
    if form != "plain":
        with pytest.raises(Bad, match="cut"):
            expanded(b"", form, 0)


@COMPRESSED
def test_a_copy_cut_anywhere_is_refused(form, expanded, tmp_path):
    whole = MAKE[form](PLAIN)

    for cut in range(len(whole)):
        with pytest.raises(Bad):
            expanded(whole[:cut], form, len(PLAIN))
        assert not (tmp_path / "out").exists()


@COMPRESSED
@pytest.mark.parametrize("rest", [b"x", b"\0\0x", b"HELO x\r\n"])
def test_something_behind_the_batch_is_refused(form, rest, expanded):
    with pytest.raises(Bad):
        expanded(MAKE[form](PLAIN) + rest, form, len(PLAIN))
    with pytest.raises(Bad):
        expanded(MAKE[form](PLAIN) + MAKE[form](b"one batch more"), form, len(PLAIN))


@COMPRESSED
def test_no_flipped_octet_yields_another_batch_of_that_size(form, road_of, expanded):
    """Each form ends with a checksum; what the header may say differently is harmless."""
    whole = road_of(PLAIN + os.urandom(300), form).read_bytes()
    refused = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        try:
            assert expanded(bytes(flipped), form, len(PLAIN) + 300)[: len(PLAIN)] == PLAIN
        except Bad:
            refused += 1

    assert refused >= len(whole) - 10  # gzip: time, extra flags and system; no other octet is without meaning


@COMPRESSED
@pytest.mark.parametrize("other", ["gzip", "xz", "zstd", "plain"])
def test_a_form_other_than_announced_is_not_guessed_at(form, other, expanded):
    if form != other:
        with pytest.raises(Bad, match="damaged"):
            expanded(PLAIN if other == "plain" else MAKE[other](PLAIN), form, len(PLAIN))


def test_a_second_layer_is_not_looked_for(expanded):
    inner = gzip.compress(PLAIN)

    assert expanded(gzip.compress(inner), "gzip", len(inner)) == inner


@COMPRESSED
def test_a_bomb_writes_no_more_than_was_announced(form, expanded, tmp_path, monkeypatch):
    written = []
    real = inflate.Sink.write
    monkeypatch.setattr(inflate.Sink, "write", lambda self, data: (real(self, data), written.append(len(data)))[0])

    with pytest.raises(Bad, match=f"more than the {3 * MIB} octets"):
        expanded(MAKE[form](bytes(64 * MIB)), form, 3 * MIB)

    assert sum(written) <= 3 * MIB
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_stopped_in_the_zstd_program_too(expanded, monkeypatch):
    if not shutil.which("zstd"):
        pytest.skip("there is no zstd program here")
    bomb = zstd(bytes(64 * MIB))
    without_library(monkeypatch)

    with pytest.raises(Bad, match="more than"):
        expanded(bomb, "zstd", 3 * MIB)


def test_a_window_that_would_fill_the_memory_is_refused(expanded):
    hungry = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 100 * MIB}]
    with pytest.raises(Bad, match="damaged"):
        expanded(lzma.compress(PLAIN, filters=hungry), "xz", len(PLAIN))

    library = inflate.zstd_library()
    what = library.CompressionParameter
    made = library.ZstdCompressor(options={what.window_log: 30})
    with pytest.raises(Bad, match="damaged"):
        expanded(made.compress(PLAIN) + made.flush(), "zstd", len(PLAIN))


MEASURE = """
import os, resource, sys
from bsmtp_batch.edge import road
form, place = sys.argv[1:]
road.compress(f"{place}/small", f"{place}/small.copy", form, lambda n: None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = os.path.getsize(f"{place}/large")
road.compress(f"{place}/large", f"{place}/copy", form, lambda n: None)
road.expand(f"{place}/copy", f"{place}/out", form, size, lambda n: None)
assert os.path.getsize(f"{place}/out") == size
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@FORMS
def test_memory_does_not_grow_with_the_batch(form, tmp_path):
    """200 MB, most of them a hole, so that it is quick."""
    block = os.urandom(MIB)
    with (tmp_path / "large").open("wb") as file:
        for place in (0, 90, 180):
            file.seek(place * MIB)
            file.write(block)
        file.truncate(200 * MIB)
    (tmp_path / "small").write_bytes(block * 6)

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, form, tmp_path], capture_output=True, text=True, check=True, timeout=50
    )

    assert int(done.stdout) < 16 * 1024  # KiB


# --- files and ticks --------------------------------------------------------------------------------------------------


@FORMS
def test_every_octet_read_is_told_of_and_never_more_than_a_mebibyte_at_a_time(form, road_of, expanded):
    data = os.urandom(5 * MIB + 17)
    there, back = [], []

    copy = road_of(data, form, there.append).read_bytes()
    expanded(copy, form, len(data), back.append)

    assert sum(there) == len(data)
    assert max(there) <= MIB
    assert max(back) <= MIB
    assert sum(back) >= len(copy) - 2 * MIB  # the last pieces have been read before the first of them is written


@COMPRESSED
def test_a_small_copy_that_becomes_large_ticks_all_the_same(form, expanded):
    ticks = []

    expanded(MAKE[form](bytes(32 * MIB)), form, 32 * MIB, ticks.append)

    assert len(ticks) >= 32


class Over(Exception):
    pass


@FORMS
def test_a_tick_may_end_the_work_and_nothing_is_left(form, road_of, expanded, tmp_path):
    def end(_):
        raise Over

    copy = road_of(PLAIN, form).read_bytes()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(Over):
        compress(str(tmp_path / "plain"), str(tmp_path / "second"), form, end)
    assert sorted(os.listdir(tmp_path)) == before
    with pytest.raises(Over):
        expanded(copy, form, len(PLAIN), end)
    assert not (tmp_path / "out").exists()


def test_a_tick_ends_the_program_too(way, road_of, tmp_path):
    def end(_):
        raise Over

    with pytest.raises(Over):
        road_of(os.urandom(8 * MIB), "zstd", end)
    assert os.listdir(tmp_path) == ["plain"]


def test_a_program_that_has_nothing_to_write_for_a_while_does_not_still_the_ticks(tmp_path, monkeypatch):
    without_library(monkeypatch)
    slow = tmp_path / "bin" / "zstd"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nread line\nwhile test -e %s; do :; done\necho end\n" % (tmp_path / "wait"))
    slow.chmod(0o755)
    monkeypatch.setenv("BSMTP_BATCH_PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(road, "_BEAT", 0.02)
    (tmp_path / "wait").touch()
    (tmp_path / "plain").write_bytes(PLAIN)
    ticks = []

    def tick(moved):
        ticks.append(moved)
        if len(ticks) == 5:
            (tmp_path / "wait").unlink()

    compress(str(tmp_path / "plain"), str(tmp_path / "copy"), "zstd", tick)

    assert len(ticks) >= 5
    assert (tmp_path / "copy").read_bytes() == b"end\n"


def test_a_program_that_fails_is_told_of_and_leaves_nothing(tmp_path, monkeypatch):
    without_library(monkeypatch)
    broken = tmp_path / "bin" / "zstd"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho half\necho it broke >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("BSMTP_BATCH_PATH", f"{broken.parent}:/usr/bin:/bin")
    (tmp_path / "plain").write_bytes(PLAIN)

    with pytest.raises(OSError, match="it broke"):
        compress(str(tmp_path / "plain"), str(tmp_path / "copy"), "zstd", silent)

    assert sorted(os.listdir(tmp_path)) == ["bin", "plain"]


def test_a_zstd_that_is_not_here_is_for_later_with_a_way_out(tmp_path, monkeypatch):
    without_library(monkeypatch)
    monkeypatch.setenv("BSMTP_BATCH_PATH", str(tmp_path))
    (tmp_path / "plain").write_bytes(PLAIN)

    with pytest.raises(Later, match=r'zstd.*compression = "gzip"'):
        compress(str(tmp_path / "plain"), str(tmp_path / "copy"), "zstd", silent)
    with pytest.raises(Later, match="install zstd"):
        expand(str(tmp_path / "plain"), str(tmp_path / "copy"), "zstd", 5, silent)

    assert os.listdir(tmp_path) == ["plain"]


def test_the_library_of_newer_pythons_comes_first(monkeypatch):
    asked = []

    def import_module(name):
        asked.append(name)
        raise ImportError

    monkeypatch.setattr(importlib, "import_module", import_module)

    assert inflate.zstd_library() is None
    assert asked == ["compression.zstd", "backports.zstd"]


@FORMS
def test_a_file_planted_under_the_name_is_replaced_and_not_written_to(form, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "plain").write_bytes(PLAIN)
    os.link(victim, tmp_path / "copy")
    (tmp_path / "out").symlink_to(victim)

    compress(str(tmp_path / "plain"), str(tmp_path / "copy"), form, silent)
    expand(str(tmp_path / "copy"), str(tmp_path / "out"), form, len(PLAIN), silent)

    assert victim.read_text() == "precious"
    assert (tmp_path / "out").read_bytes() == PLAIN
    assert {stat.S_IMODE(os.lstat(tmp_path / n).st_mode) for n in ("copy", "out")} == {0o600}


def test_a_link_or_a_pipe_is_not_read(tmp_path):
    (tmp_path / "plain").write_bytes(PLAIN)
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    os.mkfifo(tmp_path / "pipe")

    for name in ("link", "pipe", "none"):
        with pytest.raises(OSError):
            compress(str(tmp_path / name), str(tmp_path / "copy"), "gzip", silent)
        with pytest.raises(OSError):
            expand(str(tmp_path / name), str(tmp_path / "out"), "gzip", 5, silent)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe", "plain"]


@FORMS
def test_a_full_disk_is_told_as_such_and_leaves_nothing(form, road_of, tmp_path, monkeypatch):
    copy = road_of(PLAIN, form)
    real = open

    def full(file, mode="r", **options):
        opened = real(file, mode, **options)
        if "w" in mode:
            opened.close()
            opened = real("/dev/full", "wb")
        return opened

    monkeypatch.setattr(road, "open", full, raising=False)

    with pytest.raises(OSError) as told:
        expand(str(copy), str(tmp_path / "out"), form, len(PLAIN), silent)
    assert told.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as told:
        compress(str(tmp_path / "plain"), str(tmp_path / "second"), form, silent)
    assert told.value.errno == errno.ENOSPC
    assert sorted(os.listdir(tmp_path)) == sorted([copy.name, "plain"])


def test_a_form_that_is_none_is_a_mistake_of_ours(tmp_path):
    with pytest.raises(ValueError, match="bzip2"):
        compress(str(tmp_path / "plain"), str(tmp_path / "copy"), "bzip2", silent)
