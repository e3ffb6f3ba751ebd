"""Envelopes: nothing an address or a parameter holds may become another command, and nothing legal may be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.wire.command import (
    MAX_COMMAND,
    MAX_PATH,
    BadAddress,
    BadCommand,
    Mail,
    Rcpt,
    envelope_lines,
    format_mail,
    format_rcpt,
    needs_utf8,
    parse_address,
    parse_mail,
    parse_rcpt,
    split_domain,
)

GOOD = [
    b"a@b",
    b"postmaster",
    b"a..b@example.org",
    b"a.@docomo.example",
    b".a@example.org",
    b"-oXlog@example.org",
    b"|/bin/sh@example.org",
    b"/etc/passwd@example.org",
    b"user%other@example.org",
    b"relay!user@example.org",
    b'"a b"@example.org',
    b'"a@b"@example.org',
    b'"a>b"@example.org',
    b'"a\\"b"@example.org',
    b'"\\\\"@example.org',
    b'""@example.org',
    b'"postmaster"',
    b"a@[192.0.2.1]",
    b"a@[IPv6:2001:db8::1]",
    b"a@under_score.example",
    b"a@x--y.example",
    "grüße@bücher.example".encode(),
    '"ü ü"@example.org'.encode(),
    b"SRS0=" + b"x" * 80 + b"@example.org",
    b"!#$%&'*+-/=?^_`{|}~@example.org",
]
BAD = [
    b"a@b\r\nRCPT TO:<evil@x>",
    b"a@b\n",
    b"a\r@b",
    b"a\0@b",
    b"a\t@b",
    b"a\x7f@b",
    b'"a\r\nb"@c',
    b"a b@c",
    b"a@b c",
    b"a>b@c",
    b"a@b>",
    b"a<b@c",
    b"<a@b",
    b"a@b> SIZE=1",
    b"<a@b><c@d>",
    b"<<a@b>>",
    b"a@b,c@d",
    b"a@b@c",
    b"@b",
    b"@a,@b",
    b"@a:@b",
    b"@a,b:c@d",
    b"@:c@d",
    b"@[:c@d",
    b"a@",
    b"a@.b",
    b"a@b.",
    b"a@b..c",
    b"a@b/c",
    b"a@[",
    b"a@[]",
    b"a@[1.2.3.4",
    b"a@[1.2.3.4]x",
    b"a@[a]b]",
    b'"a@b',
    b'"a"b@c',
    b'a"b"@c',
    b'"a\\"@c',
    b"a@b\xff",
    b"\xc3@b",
    "a\u0085@b".encode(),
    "a\u2028@b".encode(),
    "a\ud800@b".encode("utf-8", "surrogatepass"),
    b"x" * MAX_PATH + b"@b",
    b">",
    b"<",
]


@pytest.mark.parametrize("address", GOOD, ids=repr)
def test_a_real_address_passes_with_and_without_brackets(address: bytes) -> None:
    assert parse_address(address) == parse_address(b"<" + address + b">") == address
    assert parse_rcpt(format_rcpt(Rcpt(address))[:-2]) == Rcpt(address)
    assert parse_mail(format_mail(Mail(address))[:-2]) == Mail(address)


@pytest.mark.parametrize("address", BAD, ids=lambda address: repr(address[:30]))
def test_a_hostile_or_broken_address_never_gets_through(address: bytes) -> None:
    with pytest.raises(BadAddress):
        parse_address(address)
    for write in (lambda: format_rcpt(Rcpt(address)), lambda: format_mail(Mail(address))):
        with pytest.raises((BadAddress, BadCommand)):
            write()
    for tolerant in (False, True):
        with pytest.raises((BadAddress, BadCommand)):
            parse_rcpt(b"RCPT TO:<" + address + b">", tolerant=tolerant)


def test_the_null_path_is_for_senders_only() -> None:
    assert parse_address(b"<>", null=True) == parse_address(b"", null=True) == b""
    assert parse_mail(b"MAIL FROM:<>") == Mail(b"")
    assert format_mail(Mail(b"")) == b"MAIL FROM:<>\r\n"
    for refused in (lambda: parse_address(b"<>"), lambda: parse_rcpt(b"RCPT TO:<>"), lambda: format_rcpt(Rcpt(b""))):
        with pytest.raises(BadAddress):
            refused()


@pytest.mark.parametrize(
    "route", [b"@a:", b"@a,@b:", b"@[192.0.2.1]:", b"@[IPv6:::1],@b:", b"@[IPv6:::1],@[IPv6:::2]:"], ids=repr
)
def test_a_source_route_is_taken_off(route: bytes) -> None:
    assert parse_address(route + b'"c@d"@e') == b'"c@d"@e'
    assert parse_rcpt(b"RCPT TO:<" + route + b"c@d>", tolerant=True) == Rcpt(b"c@d")
    with pytest.raises(BadCommand):  # we never write one
        parse_rcpt(b"RCPT TO:<" + route + b"c@d>")


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"a@b", (b"a", b"b")),
        (b'"a@b"@c', (b'"a@b"', b"c")),
        (b'"a@b"', (b'"a@b"', b"")),
        (b"postmaster", (b"postmaster", b"")),
        (b"a@[IPv6:::1]", (b"a", b"[IPv6:::1]")),
        (b"", (b"", b"")),
    ],
    ids=repr,
)
def test_the_domain_is_what_stands_behind_the_last_at_outside_quotes(path: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_domain(path) == parts


def test_only_octets_above_127_need_smtputf8() -> None:
    assert needs_utf8("ü@x".encode())
    assert not needs_utf8(b"u@x")


MAIL_LINES = [
    b"MAIL FROM:<a@b> SIZE=12345678901234567890",
    b"MAIL FROM:<a@b> BODY=8BITMIME SIZE=1 SMTPUTF8",
    b"MAIL FROM:<a@b> BODY=7bit",
    b"MAIL FROM:<> RET=HDRS ENVID=a+2Bb+3Dc",
    b'MAIL FROM:<"> SIZE=1"@b> SIZE=2',
]
RCPT_LINES = [
    b"RCPT TO:<a@b> NOTIFY=NEVER",
    b"RCPT TO:<a@b> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Bb@c",
    b"RCPT TO:<a@b> ORCPT=utf-8;a\\x{FC}@b",
    "RCPT TO:<a@b> ORCPT=utf-8;ü@b".encode(),
]


@pytest.mark.parametrize("line", MAIL_LINES + RCPT_LINES, ids=repr)
def test_parameters_travel_as_they_were_given(line: bytes) -> None:
    if line.startswith(b"MAIL"):
        assert format_mail(parse_mail(line)) == line + b"\r\n"
    else:
        assert format_rcpt(parse_rcpt(line)) == line + b"\r\n"


@pytest.mark.parametrize(
    "tail",
    [
        b" SIZE",
        b" SIZE=",
        b" SIZE=-1",
        b" SIZE=123456789012345678901",
        b" SIZE=1 SIZE=2",
        b" BODY=BINARYMIME",
        b" BODY",
        b" SMTPUTF8=1",
        b" RET=ALL",
        b" RET",
        b" ENVID=a=b",
        b" ENVID=a+0Ab",
        b" ENVID=a+0",
        b" ENVID=+zz",
        b" ENVID=",
        b" ENVID=" + b"a" * 101,
        b" AUTH=\xff",
        b" AUTH",
        b" XYZZY",
        b" XYZZY=1",
        b" NOTIFY=NEVER",
        b" =1",
        b" SIZE=1\r\nRCPT TO:<x@y>",
        b" SIZE=1\0",
        b"SIZE=1",
        b" SIZE=\xc2\xb2",
        b" ENVID=" + b"a" * MAX_COMMAND,
    ],
    ids=lambda tail: repr(tail[:30]),
)
def test_a_parameter_the_standard_does_not_have_is_refused(tail: bytes) -> None:
    for tolerant in (False, True):
        with pytest.raises(BadCommand):
            parse_mail(b"MAIL FROM:<a@b>" + tail, tolerant=tolerant)


@pytest.mark.parametrize(
    "tail",
    [
        b" NOTIFY=NEVER,DELAY",
        b" NOTIFY=",
        b" NOTIFY",
        b" NOTIFY=SUCCESS,",
        b" ORCPT=a@b",
        b" ORCPT=;a@b",
        b" ORCPT=rfc822;",
        b" ORCPT=rfc822;a b",
        b" ORCPT=rfc822;a+0Aevil",
        b" ORCPT=rfc822;\xc3\xbc@b",
        b" ORCPT=utf-8;\xff@b",
        b" ORCPT=" + b"x" * 400 + b";" + b"y" * 100,
        b" ORCPT",
        b" SIZE=1",
    ],
    ids=lambda tail: repr(tail[:30]),
)
def test_a_recipient_parameter_the_standard_does_not_have_is_refused(tail: bytes) -> None:
    for tolerant in (False, True):
        with pytest.raises(BadCommand):
            parse_rcpt(b"RCPT TO:<a@b>" + tail, tolerant=tolerant)


@pytest.mark.parametrize("verb", [b"MAIL FROM:<a@b> AUTH=<>", b"MAIL FROM:<a@b> AUTH=x+3D@y"], ids=repr)
def test_a_claim_of_authentication_is_dropped_from_foreign_batches_and_never_ours(verb: bytes) -> None:
    assert parse_mail(verb, tolerant=True) == Mail(b"a@b")
    with pytest.raises(BadCommand):
        parse_mail(verb)


@pytest.mark.parametrize(
    "line",
    [
        b"mail from:<a@b> SIZE=1",
        b"Mail From: <a@b> size=1",
        b"MAIL FROM:a@b SIZE=1",
        b"MAIL FROM: a@b SIZE=1 ",
        b"MAIL FROM : <a@b>   SIZE=1",
        b"MAIL  FROM:<a@b> SIZE=1",
        b" MAIL FROM:<a@b> SIZE=1",
    ],
    ids=repr,
)
def test_what_others_write_is_read_and_what_we_write_is_written_one_way_only(line: bytes) -> None:
    assert parse_mail(line, tolerant=True) == Mail(b"a@b", ((b"SIZE", b"1"),))
    with pytest.raises(BadCommand):
        parse_mail(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"MAIL",
        b"MAIL FROM",
        b"MAIL FROM:",
        b"MAIL FROM: ",
        b"MAILFROM:<a@b>",
        b"MAIL TO:<a@b>",
        b"SEND FROM:<a@b>",
        b"MAIL FROM:<a@b>\r",
        b"MAIL FROM:<a@b>x",
        b"MAIL FROM:<a@b",
        b'MAIL FROM:<"a@b>',
        b"MAIL FROM:<" + b"a" * MAX_COMMAND + b">",
        b"RCPT TO:<a@b>",
    ],
    ids=lambda line: repr(line[:30]),
)
def test_a_line_that_is_no_mail_command_is_refused_whatever_the_severity(line: bytes) -> None:
    for tolerant in (False, True):
        with pytest.raises((BadCommand, BadAddress)):
            parse_mail(line, tolerant=tolerant)


ADDRESSES = st.one_of(
    st.sampled_from(GOOD + BAD),
    st.lists(st.sampled_from([b"a", b"@", b".", b'"', b"\\", b"<", b">", b" ", b"\r\n", b"[", b"]", b":", b"\xc3\xbc"]))
    .map(b"".join)
    .filter(lambda text: len(text) < 60),
    st.binary(max_size=40),
)
PARAMS = st.lists(
    st.tuples(
        st.sampled_from([b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"ENVID", b"AUTH", b"NOTIFY", b"ORCPT", b"X", b"size"]),
        st.one_of(
            st.none(), st.sampled_from([b"1", b"7BIT", b"FULL", b"NEVER", b"rfc822;a@b", b"", b"a b"]), st.binary()
        ),
    ),
    max_size=3,
).map(tuple)


@given(ADDRESSES, PARAMS)
def test_what_is_written_reads_back_the_same_or_is_not_written(
    path: bytes, params: tuple[tuple[bytes, bytes | None], ...]
) -> None:
    for command in (Mail(path, params), Rcpt(path, params)):
        try:
            line = format_mail(command) if isinstance(command, Mail) else format_rcpt(command)
        except (BadAddress, BadCommand):
            continue
        assert line.endswith(b"\r\n") and not set(line[:-2]) & set(b"\r\n\0") and len(line) <= MAX_COMMAND
        read = parse_mail if isinstance(command, Mail) else parse_rcpt
        assert read(line[:-2]) == read(line[:-2], tolerant=True) == command


@given(st.lists(ADDRESSES, min_size=1, max_size=4), st.booleans())
def test_the_short_way_to_an_envelope_writes_the_same(addresses: list[bytes], utf8: bool) -> None:
    try:
        sender, *rcpts = [parse_address(address) for address in addresses]
    except BadAddress:
        return
    long_way = format_mail(Mail(sender, ((b"SMTPUTF8", None),) if utf8 else ()))
    long_way += b"".join(format_rcpt(Rcpt(rcpt)) for rcpt in rcpts)
    assert envelope_lines(sender, rcpts, smtputf8=utf8) == long_way


@given(ADDRESSES)
def test_an_address_that_passed_once_passes_unchanged_ever_after(text: bytes) -> None:
    try:
        path = parse_address(text)
    except BadAddress as bad:
        assert bad.reason.isprintable()
        return
    assert parse_address(path) == path
    local, domain = split_domain(path)
    assert (local + b"@" + domain if domain else local) == path


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda tail: b"MAIL FROM:<a@b>" + tail)))
def test_any_octets_are_read_or_refused_and_strict_takes_no_more_than_tolerant(line: bytes) -> None:
    def read(tolerant: bool) -> Mail | None:
        try:
            return parse_mail(line, tolerant=tolerant)
        except (BadAddress, BadCommand):
            return None

    strict = read(False)
    assert strict is None or strict == read(True)


def test_commands_are_equal_by_value_and_never_across_kinds() -> None:
    assert Mail(b"a@b") == Mail(b"a@b") and hash(Mail(b"a@b")) == hash(Mail(b"a@b"))
    assert Mail(b"a@b") != Mail(b"a@c") and Mail(b"a@b") != Mail(b"a@b", ((b"SMTPUTF8", None),))
    assert Mail(b"a@b") != Rcpt(b"a@b") and Mail(b"a@b") != b"a@b"
    assert repr(Rcpt(b"a@b")) == "Rcpt(b'a@b', ())"
