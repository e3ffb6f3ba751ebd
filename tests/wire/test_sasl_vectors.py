"""The examples of the RFCs: a mechanism that only agrees with itself logs nobody in anywhere else."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.wire.events import Auth, AuthResponse, Reply
from bsmtp_batch.wire.sasl.client import ClientLogin
from bsmtp_batch.wire.sasl.md5 import KeyStates, key_states, md5
from bsmtp_batch.wire.sasl.scram import Salting, ScramServer, scram_keys
from bsmtp_batch.wire.sasl.simple import CramServer
from bsmtp_batch.wire.sasl.values import Accepted, Challenge, Claim, CramKeys

CRAM_CHALLENGE = b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
CRAM_ANSWER = b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"

# RFC 7677 section 3
SCRAM_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SCRAM_ASKED = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SCRAM_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SCRAM_SIGNED = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


class Keys:
    """A verifier with one account."""

    def __init__(self, secret):
        self.secret = secret

    def cram_md5(self, account):
        return CramKeys(key_states(self.secret))

    def scram(self, account):
        return scram_keys(self.secret, Salting(b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096))


def reply(text):
    return Reply(334, b"", text)


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        (b"1234567890" * 8, "57edf4a22be3c955ac49da2e2107b67a"),
    ],
)
def test_md5_is_that_of_rfc_1321(message, digest):
    assert md5(message).hex() == digest


@pytest.mark.parametrize(
    ("key", "message", "digest"),
    [
        (b"\x0b" * 16, b"Hi There", "9294727a3638bb1c13f48ef8158bfc9d"),
        (b"Jefe", b"what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"),
        (b"\xaa" * 80, b"Test Using Larger Than Block-Size Key - Hash Key First", "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
    ],
)
def test_the_states_of_a_key_give_the_hmac_of_rfc_2104_and_2202(key, message, digest):
    assert key_states(key).digest(message).hex() == digest


@given(st.binary(max_size=150), st.binary(max_size=300))
def test_the_states_agree_with_the_standard_library(key, message):
    assert md5(message) == hashlib.md5(message).digest()
    assert key_states(key).digest(message) == hmac.digest(key, message, "md5")


def test_a_state_of_another_length_is_refused():
    with pytest.raises(ValueError, match="16 octets"):
        KeyStates(b"short", bytes(16))


def test_cram_md5_of_rfc_2195_from_the_client():
    login = ClientLogin(b"CRAM-MD5", b"tim", b"tanstaaftanstaaf", nonce=b"x")

    assert login.start() == Auth(b"CRAM-MD5")
    assert login.answer(reply(CRAM_CHALLENGE)) == AuthResponse(CRAM_ANSWER)
    assert login.answer(Reply(235)) is None
    assert login.result is None


def test_cram_md5_of_rfc_2195_at_the_server():
    server = CramServer(Keys(b"tanstaaftanstaaf"), nonce=b"1896.697170952", host=b"postoffice.reston.mci.net")

    asked = server.respond(None)
    claim = server.respond(b64decode(CRAM_ANSWER))

    assert isinstance(asked, Challenge)
    assert asked.reply == reply(CRAM_CHALLENGE)
    assert isinstance(claim, Claim)
    assert claim.settle() == Accepted("tim")


def test_scram_of_rfc_7677_from_the_client():
    import base64

    login = ClientLogin(b"SCRAM-SHA-256", b"user", b"pencil", nonce=b"rOprNGfwEbeRWgbNEkqO")

    first = login.start()
    final = login.answer(reply(base64.b64encode(SCRAM_ASKED)))
    last = login.answer(reply(base64.b64encode(SCRAM_SIGNED)))

    assert b64decode(first.initial) == SCRAM_FIRST
    assert b64decode(final.data) == SCRAM_FINAL
    assert last == AuthResponse(b"")
    assert login.answer(Reply(235)) is None
    assert login.result is None


def test_scram_of_rfc_7677_at_the_server():
    server = ScramServer(Keys(b"pencil"), nonce=b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")

    assert server.respond(SCRAM_FIRST) == Challenge(SCRAM_ASKED)
    claim = server.respond(SCRAM_FINAL)
    assert isinstance(claim, Claim)
    assert (claim.account, claim.costly) == ("user", False)
    assert claim.settle() == Challenge(SCRAM_SIGNED)
    assert server.respond(b"") == Accepted("user")
