"""Each request has one form on the wire, and what is none gets the reply it deserves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import (
    Atrn,
    Auth,
    AuthResponse,
    Bdat,
    Connect,
    Data,
    Etrn,
    Expn,
    Helo,
    Help,
    MailFrom,
    Noop,
    PeerProblem,
    Quit,
    RcptTo,
    Reply,
    Request,
    Rset,
    StartTls,
    Violation,
    Vrfy,
    Xforward,
)
from bsmtp_batch.wire.verbs import MAX_AUTH, Protocol, format_request, parse_request, parse_response, usual_request

SMTP = Protocol.SMTP

LENIENT = [
    (b"ehlo me\r\n", Helo(b"me")),
    (b"helo  me \r\n", Helo(b"me", extended=False)),
    (b"mail from: a@example.org\r\n", MailFrom(Mail(b"a@example.org"))),
    (b"Mail From:<> size=10\r\n", MailFrom(Mail(b"", ((b"SIZE", b"10"),)))),
    (b"RCPT TO:<@x.org:a@example.org>\r\n", RcptTo(Rcpt(b"a@example.org"))),
    (b"data \r\n", Data()),
    (b"bdat 10 last\r\n", Bdat(10, last=True)),
    (b"BDAT 007\r\n", Bdat(7)),
    (b"rset\t\r\n", Rset()),
    (b"noop  two words\r\n", Noop(b"two words")),
    (b"help\r\n", Help()),
    (b"HELP MAIL\r\n", Help(b"MAIL")),
    (b"vrfy root\r\n", Vrfy(b"root")),
    (b"expn list\r\n", Expn(b"list")),
    (b"quit\r\n", Quit()),
    (b"starttls\r\n", StartTls()),
    (b"auth plain\r\n", Auth(b"PLAIN")),
    (b"AUTH plain =\r\n", Auth(b"PLAIN", b"=")),
    (b"atrn\r\n", Atrn()),
    (b"ATRN example.org,example.net\r\n", Atrn((b"example.org", b"example.net"))),
    (b"ETRN @example.org\r\n", Etrn(b"example.org", b"@")),
    (b"etrn #queue\r\n", Etrn(b"queue", b"#")),
    (b"xforward ident=4Fk+2BA  name=[unavailable]\r\n", Xforward(((b"IDENT", b"4Fk+A"), (b"NAME", b"")))),
]

REFUSED = [
    (b"\r\n", 500),
    (b"FOO\r\n", 500),
    (b"LHLO me\r\n", 500),
    (b"XFORWARD\r\n", 501),
    (b"XFORWARD IDENT\r\n", 501),
    (b"XFORWARD IDENT=a+0\r\n", 501),
    (b"XFORWARD IDENT=a IDENT=b\r\n", 501),
    (b"TURN\r\n", 500),
    (b" NOOP\r\n", 500),
    (b"NOOP\n", 500),
    (b"NOOP\r\r\n", 500),
    (b"NOOP\rRSET\r\n", 500),
    (b"NO\0OP\r\n", 500),
    (b"NOOP a\0b\r\n", 500),
    (b"VRFY a\rb\r\n", 500),
    (b"NOOP " + b"x" * 2042 + b"\r\n", 500),
    (b"EHLO\r\n", 501),
    (b"EHLO two names\r\n", 501),
    (b"MAIL FROM:<a@b\r\n", 501),
    (b"MAIL FROM:<a b@c>\r\n", 501),
    (b"MAIL FROM:<a@b> FOO=1\r\n", 501),
    (b"MAIL\r\n", 501),
    (b"RCPT TO:<>\r\n", 501),
    (b"RCPT TO:<a\x01@b>\r\n", 501),
    (b"DATA now\r\n", 501),
    (b"QUIT now\r\n", 501),
    (b"STARTTLS x\r\n", 501),
    (b"VRFY\r\n", 501),
    (b"AUTH\r\n", 501),
    (b"AUTH PLAIN *\r\n", 501),
    (b"AUTH PLAIN not!base64\r\n", 501),
    (b"AUTH TWENTY-ONE-LETTERS-AAA\r\n", 501),
    (b"ATRN nodot\r\n", 501),
    (b"ATRN example.org, example.net\r\n", 501),
    (b"ATRN example.org.\r\n", 501),
    (b"ATRN ../../etc.x\r\n", 501),
    (b"ETRN\r\n", 501),
    (b"ETRN two names\r\n", 501),
    (b"ATRN " + b",".join([b"a.b"] * 10000) + b"\r\n", 500),
]


@pytest.mark.parametrize(("line", "request_"), LENIENT)
def test_any_case_and_blanks_behind_are_read(line: bytes, request_: Request) -> None:
    assert parse_request(line, SMTP) == request_


@pytest.mark.parametrize(("line", "code"), REFUSED)
def test_faulty_line_gets_its_reply_and_nothing_of_it_is_repeated(line: bytes, code: int) -> None:
    with pytest.raises(PeerProblem) as caught:
        parse_request(line, SMTP)
    assert caught.value.reply.code == code
    assert not caught.value.fatal
    argument = line.strip().partition(b" ")[2]
    assert len(argument) < 4 or argument not in caught.value.reply.text


@pytest.mark.parametrize("line", [b"BDAT\r\n", b"BDAT x\r\n", b"BDAT -1\r\n", b"BDAT 1 FIRST\r\n", b"BDAT 1e3\r\n"])
def test_chunk_of_unknown_size_ends_the_session_because_its_end_is_unknown(line: bytes) -> None:
    with pytest.raises(PeerProblem) as caught:
        parse_request(line, SMTP)
    assert caught.value.fatal


def test_lmtp_says_lhlo_and_knows_neither_ehlo_nor_helo() -> None:
    assert parse_request(b"LHLO me\r\n", Protocol.LMTP) == Helo(b"me")
    assert format_request(Helo(b"me"), Protocol.LMTP) == b"LHLO me\r\n"
    for line in (b"EHLO me\r\n", b"HELO me\r\n"):
        with pytest.raises(PeerProblem):
            parse_request(line, Protocol.LMTP)
    with pytest.raises(ValueError, match="HELO"):
        format_request(Helo(b"me", extended=False), Protocol.LMTP)


def test_initial_response_of_a_login_may_be_longer_than_other_commands() -> None:
    initial = b"A" * (MAX_AUTH - 20)
    assert parse_request(b"AUTH GSSAPI " + initial + b"\r\n", SMTP) == Auth(b"GSSAPI", initial)


@pytest.mark.parametrize("data", [b"", b"AGFiYwBkZWY=", b"*"])
def test_response_to_a_challenge_is_taken_as_it_is(data: bytes) -> None:
    assert parse_response(data + b"\r\n") == AuthResponse(data)
    assert format_request(AuthResponse(data), SMTP) == data + b"\r\n"


@pytest.mark.parametrize("line", [b"not base64\r\n", b"AAA\n", b"A\0\r\n", b"**\r\n"])
def test_what_is_no_response_ends_the_login(line: bytes) -> None:
    with pytest.raises(PeerProblem) as caught:
        parse_response(line)
    assert caught.value.reply.code == 501


def test_secrets_do_not_show_in_a_repr() -> None:
    assert "c2VjcmV0" not in repr(Auth(b"PLAIN", b"c2VjcmV0")) + repr(AuthResponse(b"c2VjcmV0"))


@pytest.mark.parametrize(
    "request_",
    [
        Helo(b"me\r\nQUIT"),
        Helo(b"two names"),
        Helo(b""),
        MailFrom(Mail(b"a@b>\r\nRSET")),
        RcptTo(Rcpt(b"")),
        RcptTo(Rcpt(b"a@b> NOTIFY=NEVER")),
        Noop(b"x\nQUIT"),
        Noop(b" leading blank"),
        Vrfy(b""),
        Auth(b"PLAIN", b"*"),
        AuthResponse(b"A\r\nQUIT"),
        Atrn((b"a.b\r\nQUIT",)),
        Atrn((b"a.b,c.d",)),
        Etrn(b"@x"),
        Bdat(-1),
        Connect(),
        Violation(Reply(500), "x"),
    ],
)
def test_what_would_be_read_as_something_else_is_not_sent(request_: Request) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        format_request(request_, SMTP)


@given(st.binary(max_size=80), st.sampled_from(list(Protocol)))
def test_no_line_makes_the_parser_fall_over(line: bytes, protocol: Protocol) -> None:
    for text in (
        line + b"\r\n",
        b"MAIL FROM:" + line + b"\r\n",
        b"RCPT TO:" + line + b"\r\n",
        b"AUTH " + line + b"\r\n",
        b"XFORWARD IDENT=" + line + b"\r\n",
    ):
        try:
            request = parse_request(text, protocol)
        except PeerProblem as problem:
            assert 500 <= problem.reply.code <= 503
        else:
            assert parse_request(format_request(request, protocol), protocol) == request


_PIECES = [
    b"MAIL FROM:<",
    b"RCPT TO:<",
    b"a@b.example",
    b"..@x",
    b"@",
    b".",
    b"-_",
    b">",
    b"\r\n",
    b" ",
    b" SIZE=12",
    b" BODY=7BIT",
]
_PIECES += [
    b" BODY=8BITMIME",
    b" ORCPT=rfc822;a@b",
    b"+2B",
    b"+",
    b"=",
    b'"',
    b"\xc3\xa9",
    b"DATA",
    b"QUIT",
    b"x" * 130,
    b"rcpt to:",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=9).map(b"".join), st.sampled_from(list(Protocol)))
def test_the_short_way_for_usual_lines_never_reads_anything_else_than_the_long_way(
    line: bytes, protocol: Protocol
) -> None:
    for text in (line, line + b"\r\n", b"MAIL FROM:<" + line + b"\r\n", b"RCPT TO:<a@b" + line + b"\r\n"):
        found = usual_request(text)
        if found is not None:
            assert found == parse_request(text, protocol)


def test_the_short_way_is_taken_for_what_an_mta_says_to_every_message() -> None:
    for line in (b"MAIL FROM:<>\r\n", b"MAIL FROM:<a+b@x.example> SIZE=1 BODY=8BITMIME\r\n", b"DATA\r\n"):
        assert usual_request(line) == parse_request(line, SMTP)
    line = b"RCPT TO:<a@b.example> ORCPT=rfc822;a@b.example\r\n"
    assert usual_request(line) == RcptTo(Rcpt(b"a@b.example", ((b"ORCPT", b"rfc822;a@b.example"),)))
