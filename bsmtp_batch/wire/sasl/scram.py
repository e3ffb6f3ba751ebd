"""SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding: the grammar, the keys, the server's side.

The four messages, with ``gs2`` the client's word on channel binding::

    client  gs2 "n=" name ",r=" nonce              gs2 is "n,," or "y,," (or names the account a second time)
    server  "r=" nonce nonce ",s=" salt ",i=" iterations
    client  "c=" gs2 ",r=" nonce nonce ",p=" proof
    server  "v=" signature                         a challenge in SMTP, answered by an empty response

"y" says that the client could bind the channel and saw no offer of it: there is none here, so that is the truth.
"p=..." asks for a binding and is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable
from typing import NamedTuple

from bsmtp_batch.wire.sasl.values import (
    SCRAM,
    Accepted,
    Challenge,
    Claim,
    Refused,
    ScramKeys,
    Step,
    Verifier,
    malformed,
    name_of,
    wrong,
)

MIN_ITERATIONS = 4096
"""RFC 7677 section 4."""
MAX_ITERATIONS = 2_000_000
"""Seconds of work, which is what a client does at most for a server that it cannot trust yet."""

_NONCE = rb"[\x21-\x2b\x2d-\x7e]+"
_VALUE = rb"[^\x00,]"
_EXTRA = rb"(?:,[A-Za-z]=" + _VALUE + rb"+)*"
_CLIENT_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>[ny]|p=[A-Za-z0-9.-]+),(?:a=(?P<other>" + _VALUE + rb"+))?,)"
    rb"(?P<bare>n=(?P<name>" + _VALUE + rb"+),r=(?P<nonce>" + _NONCE + rb")" + _EXTRA + rb")"
)
_SERVER_FIRST = re.compile(
    rb"r=(?P<nonce>" + _NONCE + rb"),s=(?P<salt>[A-Za-z0-9+/]+={0,2}),i=(?P<iterations>[1-9][0-9]{0,9})" + _EXTRA
)
_CLIENT_FINAL = re.compile(
    rb"(?P<without>c=(?P<gs2>[A-Za-z0-9+/]+={0,2}),r=(?P<nonce>" + _NONCE + rb")" + _EXTRA + rb"),"
    rb"p=(?P<proof>[A-Za-z0-9+/]+={0,2})"
)
_SERVER_FINAL = re.compile(rb"v=(?P<signature>[A-Za-z0-9+/]+={0,2})" + _EXTRA)
_STRAY_EQUALS = re.compile(rb"=(?!2C|3D)")


class Salting(NamedTuple):
    """What turns a password into keys: salt and number of rounds."""

    salt: bytes
    iterations: int


class ServerFirst(NamedTuple):
    """The server's first message, read."""

    nonce: bytes
    salting: Salting


def salted_password(password: bytes, salting: Salting) -> bytes:
    """PBKDF2 over HMAC-SHA-256: 32 octets. The one slow step, and only a client (or ``account add``) takes it."""
    return hashlib.pbkdf2_hmac("sha256", password, salting.salt, salting.iterations)


def scram_keys(password: bytes, salting: Salting) -> ScramKeys:
    """What a server has to keep of ``password`` (printable ASCII)."""
    salted = salted_password(password, salting)
    return ScramKeys(salting.salt, salting.iterations, hashlib.sha256(client_key(salted)).digest(), server_key(salted))


def client_key(salted: bytes) -> bytes:
    """The key a client proves to have."""
    return mac(salted, b"Client Key")


def server_key(salted: bytes) -> bytes:
    """The key with which the server proves itself."""
    return mac(salted, b"Server Key")


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.digest(key, message, "sha256")


def xor(one: bytes, other: bytes) -> bytes:
    """Octet by octet, of two values of one length."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def base64(data: bytes) -> bytes:
    """Base64 without line ends."""
    return b2a_base64(data, newline=False)


def from_base64(text: bytes) -> bytes | None:
    """The octets that ``text`` stands for, or None: no stray octet and no second spelling of a value is let through."""
    try:
        data = a2b_base64(text, strict_mode=True)
    except (Error, ValueError):
        return None
    return data if b2a_base64(data, newline=False) == text else None


def written_name(name: bytes) -> bytes:
    """A name as it stands in a message (RFC 5802 section 5.1)."""
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")


def read_name(text: bytes) -> str | None:
    """The name that :func:`written_name` wrote, or None."""
    if _STRAY_EQUALS.search(text):
        return None
    return name_of(text.replace(b"=2C", b",").replace(b"=3D", b"="))


def read_server_first(message: bytes, client_nonce: bytes) -> ServerFirst | None:
    """The server's first message, or None if it is none, does not go on from our nonce, or asks for too few or too many
    rounds."""
    found = _SERVER_FIRST.fullmatch(message)
    salt = from_base64(found["salt"]) if found else None
    if found is None or salt is None:
        return None
    nonce, iterations = found["nonce"], int(found["iterations"])
    if not nonce.startswith(client_nonce) or nonce == client_nonce:
        return None
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        return None
    return ServerFirst(nonce, Salting(salt, iterations))


def read_server_final(message: bytes) -> bytes | None:
    """The signature in the server's last message, or None."""
    found = _SERVER_FINAL.fullmatch(message)
    return from_base64(found["signature"]) if found else None


class ScramServer:
    """The server's side; ``nonce`` is our half, printable ASCII without a comma, never used twice."""

    def __init__(self, verifier: Verifier, *, nonce: bytes) -> None:
        self._verifier = verifier
        self._our_nonce = nonce
        self._turn: Callable[[bytes], Step] = self._first
        self._account = ""
        self._keys = ScramKeys(b"", 0, b"", b"", real=False)
        self._gs2 = b""
        self._nonce = b""
        self._said = b""

    def respond(self, data: bytes | None) -> Step:
        """The next step."""
        return Challenge(b"") if data is None else self._turn(data)

    def _first(self, data: bytes) -> Step:
        found = _CLIENT_FIRST.fullmatch(data)
        account = read_name(found["name"]) if found else None
        if found is None or account is None:
            return malformed("SCRAM: no proper first message")
        if found["flag"] not in (b"n", b"y"):
            return malformed("SCRAM: channel binding was asked for and not offered")
        if found["other"] is not None and read_name(found["other"]) != account:
            return malformed("SCRAM: asked to act for another account")
        self._account, self._gs2 = account, found["gs2"]
        self._keys = self._verifier.scram(account)
        self._nonce = found["nonce"] + self._our_nonce
        salt, rounds = base64(self._keys.salt), b"%d" % self._keys.iterations
        first = b"r=" + self._nonce + b",s=" + salt + b",i=" + rounds
        self._said = found["bare"] + b"," + first
        self._turn = self._final
        return Challenge(first)

    def _final(self, data: bytes) -> Step:
        found = _CLIENT_FINAL.fullmatch(data)
        proof = from_base64(found["proof"]) if found else None
        if found is None or proof is None or len(proof) != 32:
            return malformed("SCRAM: no proper final message")
        if found["gs2"] != base64(self._gs2) or not hmac.compare_digest(found["nonce"], self._nonce):
            return malformed("SCRAM: the final message belongs to another login")
        message = self._said + b"," + found["without"]

        def settle() -> Challenge | Refused:
            keys = self._keys
            key = xor(proof, mac(keys.stored, message))
            same = hmac.compare_digest(hashlib.sha256(key).digest(), keys.stored)
            if not same & keys.real:
                return wrong()
            self._turn = self._proved
            return Challenge(b"v=" + base64(mac(keys.server, message)))

        self._turn = self._over
        return Claim(self._account, SCRAM, False, settle)

    def _proved(self, data: bytes) -> Step:
        self._turn = self._over
        return malformed("SCRAM: something behind the last message") if data else Accepted(self._account)

    @staticmethod
    def _over(_: bytes) -> Step:
        return malformed("SCRAM: a message too many")
