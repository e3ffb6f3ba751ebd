"""TLS in the middle of a connection: nothing that was said before it is carried out behind it."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from pathlib import Path

import pytest
from support.accounts import SECRET
from support.certificates import certificate, server_context, trusting
from support.desk import Desk, plain
from support.odmr_raw import cram_md5, log_in
from support.served import Served, dial

from bsmtp_batch.accounts.verify import Policy
from bsmtp_batch.edge.serving_tls import server_context as product_context

INJECTED = [
    b"NOOP\r\n",
    b"EHLO mallory\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"ATRN\r\n",
    b"ETRN site.example\r\n",
    b"MAIL FROM:<mallory@x.org>\r\nRCPT TO:<a@site.example>\r\nDATA\r\nx\r\n.\r\n",
    b"EHLO mallory\r\nNOOP XSTAY\r\n",
    b"EH",
    b"\r\n",
]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return server_context(tmp_path_factory.mktemp("tls"), "hub.example")


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def served(desk, context):
    with Served(desk.hub, tls=context) as running:
        yield running
    assert running.told == []


def greeted(served):
    wire = dial(served.port)
    assert wire.reply().startswith(b"220")
    assert b"STARTTLS" in wire.ask(b"EHLO site.example")
    return wire


def nothing_was_done(desk):
    return not (desk.outbound.asked or desk.triggers.asked or desk.sinks or desk.session.account)


@pytest.mark.parametrize("injected", INJECTED, ids=range(len(INJECTED)))
def test_what_came_with_starttls_is_not_carried_out_and_tls_does_not_begin(served, desk, injected):
    wire = greeted(served)
    wire.socket.sendall(b"STARTTLS\r\n" + injected)

    assert wire.reply().startswith(b"554 ")
    assert wire.line() == b""
    wire.close()
    assert nothing_was_done(desk)
    assert desk.triggers.knocks == []


@pytest.mark.parametrize("injected", INJECTED, ids=range(len(INJECTED)))
def test_what_came_between_the_220_and_the_handshake_is_no_command(served, desk, injected):
    wire = greeted(served)
    assert wire.ask(b"STARTTLS").startswith(b"220")
    wire.socket.sendall(injected)
    wire.socket.shutdown(socket.SHUT_WR)
    rest = wire.reader.read()  # an alert of TLS at most, and the end

    assert not rest.startswith((b"2", b"3", b"5"))
    wire.close()
    assert nothing_was_done(desk)


@pytest.mark.parametrize("size", [65536, 131072])
def test_a_command_at_the_end_of_a_large_read_hides_none_behind_it(served, desk, size):
    """What is read at once is bounded somewhere; commands beyond that bound must not wait there for TLS."""
    wire = greeted(served)
    end = b"\r\nSTARTTLS\r\n"
    wire.socket.sendall(b"x" * (size - len(end)) + end + b"EHLO mallory\r\nETRN site.example\r\n" * 4000)
    said = wire.reply()
    assert said.startswith(b"500 ")
    try:
        rest = wire.reader.read()
    except ConnectionError:
        rest = b""
    wire.close()
    assert nothing_was_done(desk)
    assert b"250" not in rest


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"220 site.example ESMTP\r\n", b"MAIL FROM:<a@x.org>\r\n", b"\0"])
def test_what_came_with_atrn_ends_the_connection_before_mail_is_touched(served, desk, behind):
    wire = dial(served.port)
    log_in(wire, "aurora", SECRET, trusting())
    wire.socket.sendall(b"ATRN\r\n" + behind)

    assert wire.reply().startswith(b"554 ")
    assert wire.line() == b""
    wire.close()
    assert desk.outbound.asked == []


def test_a_login_from_before_tls_is_none_behind_it(served, desk):
    wire = greeted(served)
    challenge = wire.ask(b"AUTH CRAM-MD5")
    assert wire.ask(cram_md5("aurora", SECRET, base64.b64decode(challenge[4:]))).startswith(b"235")
    assert wire.ask(b"STARTTLS").startswith(b"220")
    wire.encrypt(trusting())
    assert wire.ask(b"ATRN").startswith(b"503")
    assert b"PLAIN" in wire.ask(b"EHLO site.example")
    assert wire.ask(b"ATRN").startswith(b"530")
    assert wire.ask(plain().strip()).startswith(b"235")
    assert wire.ask(b"STARTTLS").startswith(b"503")
    assert wire.ask(b"ATRN").startswith(b"250")
    wire.close()


def test_a_handshake_that_fails_is_the_end_and_no_fault(served):
    wire = greeted(served)
    assert wire.ask(b"STARTTLS").startswith(b"220")
    wire.socket.sendall(b"\x16\x03\x01\x00\x05hello")
    wire.reader.read()
    wire.close()


# --- certificates of clients --------------------------------------------------------------------------------------


def showing(directory, name):
    """A client's TLS with a certificate for ``name``, and the file of the certificate, which is its own issuer."""
    made, key = certificate(directory, name)
    context = trusting()
    context.load_cert_chain(made, key)
    return context, made


def fingerprint(path):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(path).read_text())).hexdigest()


@pytest.fixture
def hub_files(tmp_path):
    return certificate(tmp_path, "hub.example")


def external(served, context):
    wire = dial(served.port)
    wire.reply()
    wire.ask(b"EHLO x")
    assert wire.ask(b"STARTTLS").startswith(b"220")
    try:
        wire.encrypt(context)
        offered = wire.ask(b"EHLO x")
        said = wire.ask(b"AUTH EXTERNAL =")
        turned = wire.ask(b"ATRN")
    except (OSError, AssertionError):
        wire.socket.close()
        return None
    wire.close()
    return b"EXTERNAL" in offered, said[:3], turned[:3]


def test_the_certificate_of_an_account_lets_in_by_name_and_no_other_does(tmp_path, hub_files):
    (tmp_path / "desk").mkdir()
    aurora, issuer = showing(tmp_path, "aurora.example")
    stranger, _ = showing(tmp_path, "stranger.example")
    desk = Desk(tmp_path / "desk")
    with Served(desk.hub, tls=product_context(*hub_files, client_ca=issuer)) as served:
        assert external(served, aurora) == (True, b"235", b"250")
        assert external(served, stranger) is None, "nobody has issued it: the handshake ends"
        assert external(served, trusting()) == (False, b"504", b"530")
    assert served.told == []


def test_a_fingerprint_says_which_account_a_good_certificate_stands_for(tmp_path, hub_files):
    (tmp_path / "desk").mkdir()
    client, issuer = showing(tmp_path, "whoever.example")
    desk = Desk(tmp_path / "desk", policies={"aurora": Policy(certificate=fingerprint(issuer)), "boreas": Policy()})
    with Served(desk.hub, tls=product_context(*hub_files, client_ca=issuer)) as served:
        assert external(served, client) == (True, b"235", b"250")
    assert desk.outbound.asked == [("aurora", (), False)]
