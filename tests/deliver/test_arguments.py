"""The command line: a fault in it is "later", and what stands behind the route is never an option."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.deliver.answers import LATER, Answer, from_error, one_line, shown
from bsmtp_batch.deliver.arguments import Request, parse, parse_old


def summary(request: Request) -> tuple[bytes | None, bytes, list[bytes], bool]:
    return request.sender, request.route, request.rcpts, request.stuffed


def test_every_option_is_taken_in_both_spellings() -> None:
    apart = parse(
        ["--spool", "/s", "--queue-id", "Q", "--size", "5", "--dots", "stuffed", "-f", "a@b", "--", "r", "c@d", "e@f"]
    )
    glued = parse(["--spool=/s", "--queue-id=Q", "--size=5", "--dots=stuffed", "-fa@b", "r", "c@d", "e@f"])
    for request in (apart, glued):
        assert summary(request) == (b"a@b", b"r", [b"c@d", b"e@f"], True)
        assert (request.spool, request.queue_id, request.size) == ("/s", b"Q", 5)


def test_nothing_behind_the_route_is_an_option() -> None:
    request = parse(["-f", "", "r", "-f", "--", "--spool", "-x@y"])
    assert summary(request) == (b"", b"r", [b"-f", b"--", b"--spool", b"-x@y"], False)


def test_a_value_may_begin_with_a_hyphen() -> None:
    request = parse(["-f", "-x@y", "--queue-id", "--", "--", "r", "a"])
    assert (request.sender, request.queue_id, request.rcpts) == (b"-x@y", b"--", [b"a"])


def test_octets_that_are_no_text_come_through() -> None:
    request = parse(["-f", "\udcff@b", "r", "c"])
    assert request.sender == b"\xff@b"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-tr", "-fa@b", "c@d"], (b"a@b", b"r", [b"c@d"], True)),
        (["-t", "r", "-f", "a@b", "c@d"], (b"a@b", b"r", [b"c@d"], True)),
        (["-f", "a@b", "-t", "r", "c@d"], (b"a@b", b"r", [b"c@d"], True)),
        (["-t", "r", "-f", "a@b", "-d", "c@d"], (b"a@b", b"r", [b"c@d"], False)),
        (["-d", "-tr", "-fa@b", "c@d"], (b"a@b", b"r", [b"c@d"], False)),
        (["-f", "a@b", "r", "c@d", "e@f"], (b"a@b", b"r", [b"c@d", b"e@f"], True)),
        (["-f", "", "r", "c@d"], (b"", b"r", [b"c@d"], True)),
        (["-t", "r", "-f", "", "c@d"], (b"", b"r", [b"c@d"], True)),
        (["-tr", "-f", "c@d", "e@f"], (b"", b"r", [b"c@d", b"e@f"], True)),  # -f$sender with nothing to glue
        (["-tr", "-fa@b", "-fred@x", "-tom@x"], (b"a@b", b"r", [b"-fred@x", b"-tom@x"], True)),
        (["-tr", "-fa@b", "-dave@x", "c@d"], (b"a@b", b"r", [b"-dave@x", b"c@d"], True)),
        (["-tr", "-fa@b", "-d", "-dave@x"], (b"a@b", b"r", [b"-dave@x"], False)),
        (["-tr", "-fa@b", "--", "-d"], (b"a@b", b"r", [b"-d"], True)),
        (["-fa@b", "r", "-x@y"], (b"a@b", b"r", [b"-x@y"], True)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_old_program_understands_what_master_cf_entries_say(
    argv: list[str], expected: tuple[bytes | None, bytes, list[bytes], bool]
) -> None:
    assert summary(parse_old(argv)) == expected


@pytest.mark.parametrize(
    "argv", [[], ["-t"], ["-tr"], ["-tr", "-fa@b"], ["-f", "a@b", "r"], ["r", "c@d"], ["-d"]], ids=" ".join
)
def test_the_old_program_says_what_is_missing(argv: list[str]) -> None:
    with pytest.raises(Answer, match="bsmtp -t ROUTE") as refused:
        parse_old(argv)
    assert refused.value.code == LATER


@given(
    st.lists(
        st.sampled_from(
            ["-f", "-t", "-d", "--", "--size", "--spool", "-fx", "-tx", "1", "r", "a@b", "", "-", "=", "--size=2"]
        )
    )
)
def test_any_command_line_is_a_request_or_later(argv: list[str]) -> None:
    for read in (parse, parse_old):
        try:
            request = read(argv)
        except Answer as refused:
            assert (refused.code, refused.text[:6]) == (LATER, "4.3.0 ")
        else:
            assert request.sender is not None and request.rcpts


@given(st.text(), st.binary())
def test_an_answer_is_one_line_of_printable_ascii(text: str, octets: bytes) -> None:
    line = one_line(text + shown(octets))
    assert (line.endswith(b"\n") and line[:-1].decode("ascii").isprintable()) or line == b"\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "x"),
        PermissionError(13, "x", "/y"),
        MemoryError(),
        KeyboardInterrupt(),
        SystemExit(0),
        ValueError("ü\n"),
    ],
    ids=repr,
)
def test_every_failure_is_later(error: BaseException) -> None:
    answer = from_error(error)
    assert (answer.code, answer.text[:6]) == (LATER, "4.3.0 ")
