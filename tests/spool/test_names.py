"""Names in the spool: nothing from outside may lead out of it, and no two things may be told apart wrongly."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.spool import names
from bsmtp_batch.spool.names import Limits

HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?){0,3}", fullmatch=True)
DIGEST = hashlib.sha256(b"fragment").digest()


@pytest.mark.parametrize(
    "name", [b"example.org", b"con", b"a", b"xn--bcher-kva.example", b"192.0.2.1", b"a" * 63 + b".b"], ids=repr
)
def test_a_host_name_in_lower_case_is_a_route(name: bytes) -> None:
    assert names.valid_route(name) and names.valid_node(name)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"../../etc/cron.d/x",
        b"/etc/passwd",
        b"a/b",
        b"a..b",
        b".a",
        b"a.",
        b"-a",
        b"a-",
        b"a.-b",
        b"Example.org",
        b"a\0",
        b"a\n",
        b"a b",
        b"a_b",
        b"a:b",
        b"a@b",
        b"a;b",
        b"*",
        b"~",
        "bücher.example".encode(),
        b"\xff",
        b"a" * 64,
        b"a." * 126 + b"ab",
    ],
    ids=lambda name: repr(name[:20]),
)
def test_anything_else_is_refused(name: bytes) -> None:
    assert not names.valid_route(name) and not names.valid_node(name)
    if name != b"Example.org":
        with pytest.raises(ValueError, match="not a host name"):
            names.route_name(name)


@given(st.binary(max_size=20))
def test_a_name_that_passes_is_one_harmless_part_of_a_path(name: bytes) -> None:
    if names.valid_route(name):
        assert not set(name) - set(b"abcdefghijklmnopqrstuvwxyz0123456789-.")
        assert name[:1] not in (b".", b"-") and b".." not in name


def test_a_next_hop_is_taken_in_any_case_and_with_its_brackets() -> None:
    assert names.route_name(b"Example.ORG") == names.route_name(b"[example.org]") == "example.org"
    for odd in (b"[[a]]", b"[a", b"a]", b"[]", b"[a]:25"):
        with pytest.raises(ValueError, match="not a host name"):
            names.route_name(odd)


def test_the_same_hand_in_has_the_same_key_and_another_one_has_not() -> None:
    key = names.key_of(b"4XyZ", DIGEST)
    assert names.key_of(b"4XyZ", DIGEST) == key
    assert names.key_of(b"4XyY", DIGEST) != key
    assert names.key_of(b"4XyZ", hashlib.sha256(b"other").digest()) != key
    assert names.parse_fragment(names.fragment_name(key, DIGEST.hex())) == (key, DIGEST.hex())


def test_two_equal_messages_without_queue_id_are_two() -> None:
    assert names.key_of(b"", DIGEST) != names.key_of(b"", DIGEST)


def test_a_key_is_made_of_a_whole_digest_only() -> None:
    with pytest.raises(ValueError, match="32 octets"):
        names.key_of(b"q", DIGEST.hex().encode())


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.b", "x" * 40 + "." + "0" * 64, "0" * 40 + "." + "0" * 63, "0" * 40 + "0" * 64, "0" * 40 + ".0" * 64,
     "0" * 40 + "." + "A" * 64, "0" * 39 + "/." + "0" * 64],
)  # fmt: skip
def test_a_foreign_file_is_no_fragment(name: str) -> None:
    assert names.parse_fragment(name) is None


@given(HOSTS, st.integers(0, 10**10), st.integers(0, 253_402_300_799), HOSTS)
def test_a_batch_name_reads_back(route: str, sequence: int, when: int, node: str) -> None:
    name = names.batch_name(route, sequence, when, node)
    assert names.parse_batch_name(name) == (route, sequence, when, node)
    assert not name.startswith("-") and not set(name) & set(":/ \n")


def test_a_batch_name_looks_as_documented() -> None:
    name = names.batch_name("example.org", 42, 1795325580.9, "hub.example.net")
    assert name == "example.org.00000042.20261122T053300Z.hub.example.net.bsmtp"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".bsmtp",
        "a.00000001.20261122T053300Z.bsmtp",
        "a.1.20261122T053300Z.n.bsmtp",
        "a.00000001.20261122t053300z.n.bsmtp",
        "a.00000001.20260230T000000Z.n.bsmtp",
        "a.00000001.20261122T053300Z.n",
        "a.00000001.20261122T053300Z.n.bsmtp.gz",
        "A.00000001.20261122T053300Z.n.bsmtp",
        "../a.00000001.20261122T053300Z.n.bsmtp",
        "a.-0000001.20261122T053300Z.n.bsmtp",
        "a.00000001.20261122T053300Z.20261122T053300Z.n.bsmtp",
        "a.00000001.20261122T053300Z..bsmtp",
        ".00000001.20261122T053300Z.n.bsmtp",
        "a.0000000１.20261122T053300Z.n.bsmtp",  # noqa: RUF001 - a digit that is not ASCII is the point
        "a.00000001.99999999T999999Z.n.bsmtp",
        "a.00000001.00000000T000000Z.n.bsmtp",
    ],
)
def test_a_name_we_would_not_write_is_no_batch_name(name: str) -> None:
    assert names.parse_batch_name(name) is None


@given(st.text(max_size=60))
def test_any_file_name_is_read_or_refused(name: str) -> None:
    for candidate in (name, name + ".00000001.20261122T053300Z.n.bsmtp"):
        parsed = names.parse_batch_name(candidate)
        assert parsed is None or names.batch_name(*parsed) == candidate


def test_a_batch_name_is_not_made_of_bad_parts() -> None:
    for route, sequence, node in (("../x", 1, "n"), ("r", -1, "n"), ("r", 1, "N"), ("r", 1, "ü")):
        with pytest.raises(ValueError, match="no batch name"):
            names.batch_name(route, sequence, 0, node)


@given(
    st.builds(
        lambda **values: Limits(**values),
        max_size=st.integers(0, 10**15),
        min_free=st.integers(0, 10**15),
        min_inodes=st.integers(0, 10**9),
        nul=st.sampled_from(["remove", "refuse"]),
        dialect=st.sampled_from(["esmtp", "classic"]),
        deadline=st.integers(1, 10**6),
        null_sender=st.sampled_from(["", "MAILER-DAEMON@hub.example", "<nobody>"]),
    )
)
def test_limits_read_back_as_written(limits: Limits) -> None:
    assert Limits.from_bytes(limits.to_bytes()) == limits


def test_limits_take_comments_and_leave_defaults() -> None:
    limits = Limits.from_bytes(b"# by hand\n\n  max_size 1000  \n")
    assert (limits.max_size, limits.nul, limits.deadline) == (1000, "remove", 300)
    assert Limits.from_bytes(b"") == Limits() != object()


@pytest.mark.parametrize(
    "line",
    [
        "max_size",
        "max_size -1",
        "max_size 1e9",
        "max_size ²",
        "deadline 0",
        "deadline 2147483648",
        "nul maybe",
        "dialect x",
        "speed 9",
    ],
)
def test_a_wrong_limit_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=f"limits: {line}"):
        Limits.from_bytes(f"min_free 5\n{line}\n".encode())
