"""What a target is told: nothing it did not offer, and nothing sent that it cannot carry."""

from __future__ import annotations

import pytest

from bsmtp_batch.replay.contract import Job
from bsmtp_batch.replay.parameters import Unfit, fitted
from bsmtp_batch.wire.command import Mail, Rcpt

FULL = {b"SIZE", b"8BITMIME", b"SMTPUTF8", b"DSN", b"PIPELINING"}


def job(mail=(), rcpt=(), *, sender=b"a@b.example", to=b"c@d.example", eight_bit=False):
    return Job(
        "n", Mail(sender, tuple(mail)), (Rcpt(to, tuple(rcpt)),), 42, eight_bit, lambda: iter(()), lambda: iter(())
    )


def test_size_is_counted_anew():
    mail, _ = fitted(job([(b"SIZE", b"7")]), FULL)
    assert mail.params == ((b"SIZE", b"42"),)


def test_a_plain_server_is_told_addresses_alone():
    given = job([(b"SIZE", b"7"), (b"RET", b"HDRS"), (b"ENVID", b"x"), (b"BODY", b"8BITMIME")], [(b"NOTIFY", b"NEVER")])

    assert fitted(given, set()) == (Mail(b"a@b.example"), (Rcpt(b"c@d.example"),))


def test_dsn_parameters_go_where_dsn_is_offered():
    given = job([(b"ENVID", b"x"), (b"RET", b"HDRS")], [(b"NOTIFY", b"NEVER"), (b"ORCPT", b"rfc822;x@y")])

    mail, rcpts = fitted(given, FULL)

    assert dict(mail.params) == {b"SIZE": b"42", b"ENVID": b"x", b"RET": b"HDRS"}
    assert rcpts == given.rcpts


def test_eight_bit_text_is_declared_also_when_the_batch_did_not():
    mail, _ = fitted(job(eight_bit=True), FULL)
    assert (b"BODY", b"8BITMIME") in mail.params


def test_eight_bit_text_is_not_sent_to_a_seven_bit_server():
    with pytest.raises(Unfit, match=r"5\.6\.3"):
        fitted(job(eight_bit=True), FULL - {b"8BITMIME"})


def test_seven_bit_text_goes_anywhere_whatever_was_declared():
    mail, _ = fitted(job([(b"BODY", b"8BITMIME"), (b"SMTPUTF8", None)]), set())
    assert mail.params == ()


@pytest.mark.parametrize(
    "given",
    [
        job(sender="ü@b.example".encode()),
        job(to="ü@d.example".encode()),
        job([(b"SMTPUTF8", None)], eight_bit=True),
        job(rcpt=[(b"ORCPT", "utf-8;ü@d.example".encode())]),
    ],
)
def test_an_internationalised_message_needs_smtputf8(given):
    assert (b"SMTPUTF8", None) in fitted(given, FULL)[0].params
    with pytest.raises(Unfit, match=r"5\.6\.7"):
        fitted(given, FULL - {b"SMTPUTF8"})
