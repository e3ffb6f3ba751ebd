"""The notice to a sender: well formed whatever the original holds, and the same one when it is made again."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.replay.dsn import MAX_HEADERS, Failure, Notice, headers_of, report, wanted
from bsmtp_batch.wire.command import Mail, Rcpt

REFUSAL = Failure(Rcpt(b"gone@site.example"), "550 5.1.1 no such user here")


def notice(*failures, headers=b"Subject: hello\r\nFrom: a@b\r\n", mail=None):
    return Notice(
        node="hub.example",
        mail=mail or Mail(b"sender@far.example"),
        failures=failures or (REFUSAL,),
        headers=headers,
        identity="sha:1:1",
        target="smtp://127.0.0.1:25",
        when=1_800_000_000.0,
    )


def parsed(one):
    octets = report(one)
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    for part in message.walk():
        assert part.defects == []
    assert octets.endswith(b"\r\n")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\r" not in octets.replace(b"\r\n", b"")
    return message


def fields(message):
    status = list(message.iter_parts())[1]
    return status.get_payload()


def test_the_report_says_who_failed_and_why():
    message = parsed(notice(REFUSAL, Failure(Rcpt(b"full@site.example"), "552 5.2.2 mailbox full")))

    head, first, second, *_ = fields(message)
    assert head["Reporting-MTA"] == "dns; hub.example"
    assert first["Final-Recipient"] == "rfc822; gone@site.example"
    assert first["Action"] == "failed"
    assert first["Status"] == "5.1.1"
    assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user here"
    assert second["Status"] == "5.2.2"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["To"] == "sender@far.example"
    assert "gone@site.example" in message.get_body().get_content()


def test_the_headers_of_the_original_come_back_and_nothing_else():
    message = parsed(notice(headers=b"Subject: hello\r\nX-Long: a\r\n b\r\n"))

    assert list(message.iter_parts())[2].get_payload(decode=True) == b"Subject: hello\r\nX-Long: a\r\n b\r\n"


@pytest.mark.parametrize(
    "headers", [b"Subject: gr\xc3\xbc\xc3\x9fe\r\n", b"X: \xff\xfe\r\n", b"X: " + b"y" * 5000 + b"\r\n"]
)
def test_odd_headers_are_carried_in_plain_ascii(headers):
    octets = report(notice(headers=headers))

    assert octets.isascii()
    assert list(parsed(notice(headers=headers)).iter_parts())[2].get_payload(decode=True) == headers


def test_the_sender_gets_back_the_ids_it_gave():
    mail = Mail(b"sender@far.example", ((b"ENVID", b"QQ+2B314"),))
    rcpt = Rcpt(b"gone@site.example", ((b"ORCPT", b"rfc822;Gone+40Site.example"),))

    head, first, *_ = fields(parsed(notice(Failure(rcpt, "550 no"), mail=mail)))

    assert head["Original-Envelope-Id"] == "QQ+314"
    assert first["Original-Recipient"] == "rfc822; Gone@Site.example"
    assert first["Status"] == "5.0.0"


def test_an_internationalised_recipient_is_escaped():
    failure = Failure(Rcpt("bücher@site.example".encode()), "550 5.1.1 kein bücher")

    first = fields(parsed(notice(failure)))[1]

    assert first["Final-Recipient"] == r"utf-8; b\x{FC}cher@site.example"
    assert "bücher@site.example" in parsed(notice(failure)).get_body().get_content()


def test_a_report_made_twice_is_recognised_by_its_message_id():
    assert parsed(notice())["Message-ID"] == parsed(notice())["Message-ID"]


def test_a_sender_who_wants_no_notice_gets_none():
    assert wanted(Rcpt(b"a@b"))
    assert wanted(Rcpt(b"a@b", ((b"NOTIFY", b"SUCCESS,failure"),)))
    assert not wanted(Rcpt(b"a@b", ((b"NOTIFY", b"NEVER"),)))
    assert not wanted(Rcpt(b"a@b", ((b"NOTIFY", b"SUCCESS"),)))


def test_headers_end_at_the_empty_line_wherever_the_pieces_are_cut():
    content = b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\nmore\r\n"
    for size in range(1, len(content)):
        pieces = [content[i : i + size] for i in range(0, len(content), size)]
        assert headers_of(pieces) == b"A: 1\r\nB: 2\r\n"


def test_a_message_without_headers_or_without_an_end_of_them():
    assert headers_of([b"\r\nbody\r\n"]) == b""
    assert headers_of([b"only: this\r\n"]) == b"only: this\r\n"
    assert headers_of([]) == b""


def test_endless_headers_are_cut_at_a_line():
    lines = b"X: " + b"y" * 95 + b"\r\n"

    cut = headers_of([lines * 2000])

    assert MAX_HEADERS - 100 < len(cut) <= MAX_HEADERS
    assert cut.endswith(b"\r\n")


@given(
    reply=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=3000),
    headers=st.binary(max_size=300),
)
def test_no_reply_and_no_header_breaks_the_report(reply, headers):
    headers = headers.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\r\n\r\n", b"\r\n")

    parsed(notice(Failure(Rcpt(b"x@y"), "550 " + reply), headers=headers))
