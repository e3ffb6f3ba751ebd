"""The mail server of the demonstration has to behave like a real one, or the demonstration proves nothing."""

from __future__ import annotations

import hashlib
import smtplib
from pathlib import Path

import pytest

from bsmtp_batch.demo.mta import MailServer, Taken

ANNA, BERT, BUSY = b"anna@site.example", b"bert@site.example", b"busy@site.example"


@pytest.fixture
def passed_on():
    return []


@pytest.fixture
def server(tmp_path, passed_on):
    def relay(sender, rcpts, content):
        passed_on.append((sender, rcpts, content))
        return b"full disk" not in content

    with MailServer("site.example", str(tmp_path), {ANNA, BERT, BUSY}, busy={BUSY}, relay=relay) as running:
        yield running


@pytest.fixture
def client(server):
    with smtplib.SMTP("127.0.0.1", server.port) as connected:
        connected.ehlo("client.example")
        yield connected


def stored(server, address):
    return [p.read_bytes() for p in sorted(Path(server.mailbox(address), "new").iterdir())]


def test_dots_and_eight_bit_octets_come_out_as_they_went_in(server, client):
    content = b".\n..\nTo: \xff\xfc\n.end\n"

    client.sendmail("", [ANNA.decode(), BERT.decode()], content.replace(b"\n", b"\r\n"))

    assert stored(server, ANNA) == stored(server, BERT) == [content]
    assert server.taken == [Taken(b"", (ANNA, BERT), hashlib.sha256(content).hexdigest())]


def test_an_unknown_user_is_refused_for_good(server, client):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        client.sendmail("a@b.example", ["nobody@site.example"], b"x\r\n")

    assert caught.value.recipients["nobody@site.example"][0] == 550
    assert server.taken == []


def test_a_busy_mailbox_takes_the_second_attempt(server, client):
    client.mail("a@b.example")

    assert client.rcpt(BUSY.decode())[0] == 451
    assert client.rcpt(BUSY.decode())[0] == 250
    assert server.refused == [BUSY]


def test_data_without_a_recipient_is_no_message(server, client):
    client.mail("a@b.example")
    client.rcpt("nobody@site.example")

    assert client.docmd("DATA")[0] in {503, 554}


def test_other_peoples_mail_is_passed_on_with_its_envelope(server, client, passed_on):
    client.sendmail("a@site.example", ["far@away.example"], b"hello\r\n")

    assert passed_on == [(b"a@site.example", (b"far@away.example",), b"hello\n")]


def test_what_cannot_be_passed_on_is_not_taken(server, client):
    with pytest.raises(smtplib.SMTPDataError) as caught:
        client.sendmail("a@site.example", ["far@away.example", ANNA.decode()], b"full disk\r\n")

    assert caught.value.smtp_code == 451
    assert not Path(server.mailbox(ANNA)).exists()


def test_without_a_relay_other_peoples_mail_is_refused(tmp_path):
    with (
        MailServer("site.example", str(tmp_path), {ANNA}) as server,
        smtplib.SMTP("127.0.0.1", server.port) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        client.sendmail("a@site.example", ["far@away.example"], b"hello\r\n")


def test_nonsense_is_answered_and_the_session_goes_on(server, client):
    assert client.docmd("ETRN", "site.example")[0] >= 500
    assert client.docmd("NONSENSE")[0] >= 500
    assert client.docmd("RSET")[0] == client.docmd("NOOP")[0] == 250


def test_a_client_that_hangs_up_leaves_nothing_behind(server, client):
    client.mail("a@b.example")
    client.rcpt(ANNA.decode())
    client.docmd("DATA")
    client.send(b"half a mess")
    client.close()

    assert server.taken == []
