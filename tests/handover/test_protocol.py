from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.handover.protocol import MAX_LINE, Line, Silence, Unspeakable, no, read_exactly, read_line

NAME = "example.org.00000001.20261122T053300Z.hub.bsmtp"


@pytest.mark.parametrize(
    "line",
    [
        Line("list"),
        Line("quit"),
        Line("get", NAME, ("0",)),
        Line("put", NAME, ("10", "300", "0")),
        Line("offer", NAME, ("gzip", "10", "300", "294")),
        Line("pack", NAME, ("plain",)),
        Line("sent", NAME),
        Line("size", NAME),
        Line("ack", NAME, ("ab" * 32,)),
        Line("READY", "", ("1",)),
        Line("GO", NAME, ("7",)),
    ],
)
def test_a_line_comes_back_as_it_was(line):
    assert read_line(io.BytesIO(line.to_bytes() + b"rest")) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LIST",
        "list all",
        "get",
        f"get {NAME}",
        f"get {NAME} -1",
        f"get {NAME} 1 2",
        f"get  {NAME} 1",
        "get ../../etc/passwd 0",
        f"get /{NAME} 0",
        f"get -{NAME} 0",
        f"put {NAME} 99999999999999999999 1 0",
        f"put {NAME} 1 99999999 0",
        f"put {NAME} 1 300 16385",
        f"pack {NAME} tar",
        f"offer {NAME} ../x 1 300 0",
        f"ack {NAME} {'g' * 64}",
        f"ack {NAME} {'A' * 64}",
        f"ack {NAME} x",
        "rm -rf /",
        "get \u0661 \u0661",
        "NO 1 x",
        "NO 65",
        "x" * (MAX_LINE + 1),
    ],
)
def test_anything_else_is_refused_before_it_means_anything(text):
    with pytest.raises(Unspeakable):
        read_line(io.BytesIO(text.encode() + b"\n"))


def test_a_line_that_breaks_off_is_no_line():
    with pytest.raises(Silence):
        read_line(io.BytesIO(b"lis"))
    with pytest.raises(Silence):
        read_exactly(io.BytesIO(b"abc"), 4)


@given(st.binary(max_size=100))
def test_no_octets_make_it_fail_in_another_way(data):
    try:
        read_line(io.BytesIO(data))
    except (Unspeakable, Silence):
        pass


@given(st.text())
def test_a_refusal_is_one_line_whatever_it_says(text):
    line = no(65, text)

    assert line.count(b"\n") == 1
    assert len(line) <= MAX_LINE
    if len(line) > len("NO 65 \n"):
        assert read_line(io.BytesIO(line)).values[0] == "65"
