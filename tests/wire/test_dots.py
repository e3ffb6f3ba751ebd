"""Line ends, NUL, stray CR and dots: no text may come out as an end of message, or as other text than it was."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bsmtp_batch.wire.dots import END, Canonicaliser, NotStuffed, NulRefused, Unstuffer, stuff, unstuff

AWKWARD = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b".", b"..", b"\0", b"x", b"From ", b"From a b\n", b"F", b" ", b"\x85", b"\xe2\x80\xa8"]
    ),
    max_size=30,
).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=8)
OPTIONS = st.fixed_dictionaries({"stuffed": st.booleans(), "remove_nul": st.booleans(), "from_line": st.booleans()})


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def canonical(data: bytes | list[bytes], **options: bool) -> tuple[bytes | str, int, bool]:
    """The wire form (or the fault), the size and whether something was altered."""
    canonicaliser = Canonicaliser(**options)
    try:
        fed = [canonicaliser.feed(piece) for piece in ([data] if isinstance(data, bytes) else data)]
        fed.append(canonicaliser.close())
    except (NulRefused, NotStuffed) as fault:
        return f"{type(fault).__name__} at {fault.offset}", 0, False
    return b"".join(fed), canonicaliser.size, canonicaliser.altered


def plainly(data: bytes) -> bytes:
    """The rules of canonical content, one octet at a time without any cleverness; content with CRLF, not stuffed."""
    out = bytearray()
    data = data.replace(b"\0", b"")
    for at, octet in enumerate(data):
        if octet == 0x0A:
            out += b"\r\n"
        elif octet == 0x0D:
            out += b"" if data[at + 1 : at + 2] == b"\n" else b" "
        else:
            out.append(octet)
    if out and not out.endswith(b"\r\n"):
        out += b"\r\n"
    return bytes(out)


LINE_ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r"]


def ends_seen(wire: bytes, *, nul_blind: bool) -> set[int]:
    """Where lax readers see an end of message in a body followed by its end mark: places counted from the end.

    One reader for each mix of line ends around the dot (CVE-2023-51764 and its kin): every such mix begins and ends its
    line with a CR or an LF, so what any of them takes is a dot between two such octets.
    """
    stream = b"\r\n" + wire + END
    if nul_blind:
        stream = stream.replace(b"\0", b"")
    return {
        len(stream) - at
        for at, octet in enumerate(stream)
        if octet == 0x2E and stream[:at].endswith((b"\r", b"\n")) and stream[at + 1 :].startswith((b"\r", b"\n"))
    }


@given(AWKWARD, CUTS, OPTIONS)
@example(b"\n.", [], {"stuffed": True, "remove_nul": True, "from_line": False})
@example(b"From ", [3], {"stuffed": True, "remove_nul": True, "from_line": True})
@example(b"\n.\n\0", [2], {"stuffed": True, "remove_nul": False, "from_line": False})
def test_the_cutting_of_the_input_changes_nothing(data: bytes, cuts: list[int], options: dict[str, bool]) -> None:
    whole = canonical(data, **options)
    assert canonical(pieces(data, cuts), **options) == whole
    assert canonical([bytes([octet]) for octet in data], **options) == whole


@given(AWKWARD)
def test_the_result_is_what_the_plain_rules_say(data: bytes) -> None:
    wire, size, altered = canonical(data)
    assert wire == stuff(plainly(data))
    assert size == len(plainly(data))
    assert altered == (b"\0" in data or b"\r" in data.replace(b"\0", b"").replace(b"\r\n", b""))


@given(AWKWARD)
def test_no_nul_and_no_bare_line_end_comes_out(data: bytes) -> None:
    wire, _, _ = canonical(data)
    assert isinstance(wire, bytes)
    rest = wire.replace(b"\r\n", b"")
    assert b"\0" not in rest and b"\r" not in rest and b"\n" not in rest
    assert not wire or wire.endswith(b"\r\n")


@given(AWKWARD)
def test_no_line_of_the_output_begins_with_a_single_dot(data: bytes) -> None:
    wire, _, _ = canonical(data)
    assert isinstance(wire, bytes)
    assert all(line[:2] == b".." for line in wire.split(b"\r\n") if line.startswith(b"."))


@given(AWKWARD)
def test_unstuffing_gives_the_content_back(data: bytes) -> None:
    wire, _, _ = canonical(data)
    assert isinstance(wire, bytes)
    assert unstuff(wire) == plainly(data)
    assert canonical(unstuff(wire))[0] == wire


@given(AWKWARD)
def test_text_that_is_canonical_already_is_left_as_it_is(data: bytes) -> None:
    content = plainly(data)
    wire, size, altered = canonical(content)
    assert (unstuff(wire), size, altered) == (content, len(content), False)  # type: ignore[arg-type]


@given(AWKWARD)
def test_dots_that_the_mta_doubled_are_not_doubled_twice(data: bytes) -> None:
    doubled = b"\n".join(b"." + line if line.startswith(b".") else line for line in data.split(b"\n"))
    assert canonical(doubled, stuffed=True) == canonical(data)


@given(AWKWARD, CUTS)
def test_the_unstuffer_gives_the_same_for_any_cutting(data: bytes, cuts: list[int]) -> None:
    wire = stuff(data)
    unstuffer = Unstuffer()
    got = b"".join([unstuffer.feed(piece) for piece in pieces(wire, cuts)]) + unstuffer.close()
    assert got == data == unstuff(wire)


@pytest.mark.parametrize("before", [*LINE_ENDS, b"\r\0\n", b"\n\0", b"\0\n", b"\r\n\0", b""], ids=repr)
@pytest.mark.parametrize("after", [*LINE_ENDS, b"\r\0\n", b"\0\n", b"\0\r\n", b"\n\0", b""], ids=repr)
@pytest.mark.parametrize("dots", [b".", b"..", b"\0.", b".\0"], ids=repr)
def test_no_lax_reader_sees_an_end_that_the_message_did_not_have(before: bytes, dots: bytes, after: bytes) -> None:
    forged = b"MAIL FROM:<evil@x>\r\nRCPT TO:<y@z>\r\nDATA\r\nforged"
    for content in (b"harmless" + before + dots + after + forged, dots + after + forged, b"harmless" + before + dots):
        wire, _, _ = canonical(content)
        assert isinstance(wire, bytes)
        assert ends_seen(wire, nul_blind=True) == ends_seen(wire, nul_blind=False) == {len(END)}


@given(AWKWARD)
def test_no_lax_reader_sees_a_second_end_whatever_the_message(data: bytes) -> None:
    wire, _, _ = canonical(data)
    assert isinstance(wire, bytes)
    assert ends_seen(wire, nul_blind=True) == {len(END)}


@pytest.mark.parametrize(
    ("given_", "wire"),
    [
        (b"", b""),
        (b".", b"..\r\n"),
        (b"a", b"a\r\n"),
        (b"\r", b" \r\n"),
        (b"a\r\0\nb", b"a\r\nb\r\n"),
        (b"a\r\r\n.b", b"a \r\n..b\r\n"),
        (b"\0.\n", b"..\r\n"),
        (b"a\n\0.\n", b"a\r\n..\r\n"),
        (b"a\r.\r\n", b"a .\r\n"),
        (b"From x\ny\n", b"From x\r\ny\r\n"),
    ],
    ids=repr,
)
def test_known_cases_come_out_as_written_down(given_: bytes, wire: bytes) -> None:
    assert canonical(given_)[0] == wire


@pytest.mark.parametrize(
    ("given_", "wire"),
    [
        (b"From a@b Mon Jan  1\nSubject: x\n", b"Subject: x\r\n"),
        (b"From a@b\r\n\r\n", b"\r\n"),
        (b"From a@b", b""),
        (b"From ", b""),
        (b"From", b"From\r\n"),
        (b"From: a@b\n", b"From: a@b\r\n"),
        (b"\nFrom x\n", b"\r\nFrom x\r\n"),
        (b"From a\nFrom b\n", b"From b\r\n"),
        (b"From a\n.\n", b"..\r\n"),
        (b">From a\n", b">From a\r\n"),
    ],
    ids=repr,
)
def test_the_from_line_goes_and_nothing_else_that_begins_with_from(given_: bytes, wire: bytes) -> None:
    assert canonical(given_, from_line=True)[0] == wire


def test_a_from_line_of_any_length_is_dropped_without_being_held() -> None:
    canonicaliser = Canonicaliser(from_line=True)
    assert canonicaliser.feed(b"From ") == b""
    for _ in range(50):
        assert canonicaliser.feed(b"x" * 1000) == b""
    assert canonicaliser.feed(b"\nbody\n") + canonicaliser.close() == b"body\r\n"


@pytest.mark.parametrize(
    ("given_", "offset"),
    [(b".", 0), (b"a\n.\n", 2), (b"..a\n.b", 4), (b"a\r\n.", 3), (b"..\n...\n.x\n..", 7)],
    ids=repr,
)
def test_a_single_dot_where_all_should_be_doubled_is_a_fault_at_its_place(given_: bytes, offset: int) -> None:
    assert canonical(given_, stuffed=True)[0] == f"NotStuffed at {offset}"


def test_the_single_dot_is_found_behind_a_from_line_too() -> None:
    assert canonical(b"From x\n.\n", stuffed=True, from_line=True)[0] == "NotStuffed at 7"


@pytest.mark.parametrize(("given_", "offset"), [(b"\0", 0), (b"ab\ncd\0", 5), (b"\r\0", 1)], ids=repr)
def test_nul_is_refused_at_its_place_where_the_route_says_so(given_: bytes, offset: int) -> None:
    assert canonical(given_, remove_nul=False)[0] == f"NulRefused at {offset}"


def test_a_nul_at_the_start_of_a_doubled_line_does_not_hide_the_dot() -> None:
    # The MTA saw a line that begins with NUL and doubled nothing; with the NUL gone the dot has to be stuffed.
    assert canonical(b"\0.\n", stuffed=True)[0] == b"..\r\n"


def test_a_long_body_keeps_its_octets() -> None:
    body = b"".join(b"." * (n % 5) + b"x" * (n % 71) + b"\r\n" for n in range(20_000))
    canonicaliser = Canonicaliser()
    wire = b"".join(canonicaliser.feed(body[at : at + 65_536]) for at in range(0, len(body), 65_536))
    assert unstuff(wire + canonicaliser.close()) == body
    assert canonicaliser.size == len(body)
