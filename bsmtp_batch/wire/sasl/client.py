"""A login as the client sees it: which mechanism, and what to say in it. Values in, values out.

::

    mechanism = choose(session.extensions.get(b"AUTH", ()), secure=session.secure)
    login = ClientLogin(mechanism, b"aurora", password, nonce=nonce)
    request = login.start()
    while request is not None:                  # an Auth, then AuthResponse events
        write(session.send(request))
        request = login.answer(next_reply())
    login.result                                # None: we are in. Otherwise why not, and for how long
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from bsmtp_batch.wire.events import Auth, AuthResponse, Reply
from bsmtp_batch.wire.sasl.md5 import key_states
from bsmtp_batch.wire.sasl.scram import (
    base64,
    client_key,
    from_base64,
    mac,
    read_server_final,
    read_server_first,
    salted_password,
    server_key,
    written_name,
    xor,
)
from bsmtp_batch.wire.sasl.values import CLEAR, CRAM_MD5, EXTERNAL, LOGIN, PLAIN, SCRAM, name_of, plain_ascii

PREFERENCE = (SCRAM, CRAM_MD5, PLAIN, LOGIN)
"""From what tells the server least to what tells it everything."""
_MAX_INITIAL = 512
"""An AUTH line with its initial response is no longer than this, as some servers take no more."""


def choose(offered: Collection[bytes], *, secure: bool, allowed: Collection[bytes] = PREFERENCE) -> bytes | None:
    """The best of the mechanisms ``offered`` by the server and ``allowed`` here, or None; without TLS (``secure``)
    none that shows the password. EXTERNAL is taken where it is allowed, which it is not by default: only the caller
    knows whether a certificate was shown."""
    upper = {name.upper() for name in offered}
    for mechanism in (EXTERNAL, *PREFERENCE):
        if mechanism in upper and mechanism in allowed and (secure or mechanism not in {*CLEAR, EXTERNAL}):
            return mechanism
    return None


@dataclass(frozen=True, slots=True)
class Failure:
    """A login that did not succeed. ``later``: the same may succeed another time; otherwise somebody has to change
    something. ``reason`` is for the log and holds the server's words, printable."""

    reason: str
    later: bool


class _Mechanism(Protocol):
    @property
    def proven(self) -> bool:
        """Whether the server may say that we are in: all was said, and it has proved itself where it can."""
        ...

    def initial(self) -> bytes | None:
        """The first message, or None where the server speaks first."""
        ...

    def respond(self, challenge: bytes) -> bytes | None:
        """The answer to a challenge, or None for one that cannot be right."""
        ...


class ClientLogin:
    """One AUTH command. ``nonce``: as for the server. The empty ``account`` is for EXTERNAL.

    ``ValueError`` for a name or a password that is not plain ASCII: SASLprep (RFC 4013) could change it on its way, and
    then it works with one server and not with the next.
    """

    def __init__(self, mechanism: bytes, account: bytes, password: bytes = b"", *, nonce: bytes) -> None:
        self.result: Failure | None = Failure("nothing was said yet", later=True)
        self._name = mechanism
        self._mechanism: _Mechanism = _made(mechanism, account, password, nonce)
        self._gave_up: Failure | None = None
        self._kept: bytes | None = None

    def start(self) -> Auth:
        """The AUTH command, with an initial response where it fits into a line."""
        initial = self._mechanism.initial()
        if initial is None:
            return Auth(self._name)
        text = base64(initial) or b"="
        if len(b"AUTH ") + len(self._name) + 1 + len(text) + 2 <= _MAX_INITIAL:
            return Auth(self._name, text)
        self._kept = initial
        return Auth(self._name)

    def answer(self, reply: Reply) -> AuthResponse | None:
        """What to say after ``reply``; None at the end, when :attr:`result` tells how it went. Never raises."""
        if reply.code != 334:
            self.result = self._verdict(reply)
            return None
        challenge = from_base64(reply.text)
        said: bytes | None = None
        if self._kept is not None and challenge == b"":
            said, self._kept = self._kept, None
        elif self._kept is None and challenge is not None and self._gave_up is None:
            said = self._mechanism.respond(challenge)
        if said is not None:
            return AuthResponse(base64(said))
        if self._gave_up is not None:  # it was told so and asks on
            self.result = self._gave_up
            return None
        self._gave_up = Failure(f"{self._name.decode()}: the server's challenge is not what it has to be", later=False)
        return AuthResponse(b"*")

    def _verdict(self, reply: Reply) -> Failure | None:
        if self._gave_up is not None:
            return self._gave_up
        if reply.ok:
            if self._mechanism.proven:
                return None
            return Failure(f"{self._name.decode()}: a yes before the server has proved that it knows us", later=False)
        return Failure(f"the server refuses the login: {reply}", later=reply.temporary)


def _made(mechanism: bytes, account: bytes, password: bytes, nonce: bytes) -> _Mechanism:
    if mechanism == EXTERNAL:
        if account and name_of(account) is None:
            raise ValueError("the name cannot be that of an account")
        return _Spoken([account], first=True)
    if name_of(account) is None or not account.isascii():
        raise ValueError("the name of the account has to be printable ASCII")
    if not plain_ascii(password):
        raise ValueError("the password has to be printable ASCII, and not empty: others arrive differently spelt")
    if mechanism == PLAIN:
        return _Spoken([b"\0" + account + b"\0" + password], first=True)
    if mechanism == LOGIN:
        return _Spoken([account, password], first=False)
    if mechanism == CRAM_MD5:
        return _Cram(account, password)
    if mechanism == SCRAM:
        return _Scram(account, password, nonce)
    raise ValueError("there is no such mechanism here")


class _Spoken:
    """Mechanisms in which all is known beforehand: the challenges are prompts, which nobody reads."""

    def __init__(self, lines: list[bytes], *, first: bool) -> None:
        self._lines = lines
        self._first = first

    @property
    def proven(self) -> bool:
        return not self._lines

    def initial(self) -> bytes | None:
        return self._lines.pop(0) if self._first else None

    def respond(self, _: bytes) -> bytes | None:
        return self._lines.pop(0) if self._lines else None


class _Cram:
    """RFC 2195."""

    def __init__(self, account: bytes, password: bytes) -> None:
        self._account = account
        self._states = key_states(password)
        self.proven = False

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes | None:
        if self.proven or not challenge:
            return None
        self.proven = True
        return self._account + b" " + self._states.digest(challenge).hex().encode()


class _Scram:
    """RFC 5802: the server has to prove that it knows the keys before its yes counts."""

    _GS2 = b"n,,"

    def __init__(self, account: bytes, password: bytes, nonce: bytes) -> None:
        self._bare = b"n=" + written_name(account) + b",r=" + nonce
        self._password = password
        self._nonce = nonce
        self._signature = b""
        self.proven = False

    def initial(self) -> bytes | None:
        return self._GS2 + self._bare

    def respond(self, challenge: bytes) -> bytes | None:
        return self._checked(challenge) if self._signature else self._proof(challenge)

    def _proof(self, challenge: bytes) -> bytes | None:
        first = read_server_first(challenge, self._nonce)
        if first is None:
            return None
        without = b"c=" + base64(self._GS2) + b",r=" + first.nonce
        message = self._bare + b"," + challenge + b"," + without
        salted = salted_password(self._password, first.salting)
        key = client_key(salted)
        self._signature = mac(server_key(salted), message)
        return without + b",p=" + base64(xor(key, mac(_stored(key), message)))

    def _checked(self, challenge: bytes) -> bytes | None:
        signature = read_server_final(challenge)
        if self.proven or signature is None or not hmac.compare_digest(signature, self._signature):
            return None
        self.proven = True
        return b""


def _stored(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
