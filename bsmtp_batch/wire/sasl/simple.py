"""The server's side of PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) and EXTERNAL (RFC 4422 appendix A).

Each is a class with ``respond(data)``: the client's next response, decoded, or None when the client has not sent one
yet; it gives a :data:`Step`. ``server.py`` puts RFC 4954 around them.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

from bsmtp_batch.wire.sasl.values import (
    CRAM_MD5,
    EXTERNAL,
    LOGIN,
    MAX_PASSWORD,
    PLAIN,
    Accepted,
    Certificate,
    Challenge,
    Claim,
    Refused,
    Step,
    Verifier,
    malformed,
    name_of,
    wrong,
)

_CRAM = re.compile(rb"(.+) ([0-9a-f]{32})", re.DOTALL)


def _password_claim(mechanism: bytes, verifier: Verifier, account: str, password: bytes) -> Claim:
    def settle() -> Accepted | Refused:
        return Accepted(account) if verifier.password(account, password) else wrong()

    return Claim(account, mechanism, True, settle)


class PlainServer:
    """One message: authorisation identity, name and password, with NUL between. Acting for another is not offered."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def respond(self, data: bytes | None) -> Step:
        """The next step."""
        if data is None:
            return Challenge(b"")
        parts = data.split(b"\0")
        if len(parts) != 3 or not 0 < len(parts[2]) <= MAX_PASSWORD:
            return malformed("PLAIN: not three parts, or a password of no usable length")
        other, name, password = parts
        account = name_of(name)
        if account is None:
            return malformed("PLAIN: the name is none")
        if other not in (b"", name):
            return malformed("PLAIN: asked to act for another account")
        return _password_claim(PLAIN, self._verifier, account, password)


class LoginServer:
    """The name, then the password; the challenges are words that some clients compare. No RFC has it, all MTAs do."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._account: str | None = None
        self._asked = False

    def respond(self, data: bytes | None) -> Step:
        """The next step; the name may come as an initial response, as many clients send it."""
        if data is None:
            return Challenge(b"Username:")
        if not self._asked:
            self._asked = True
            self._account = name_of(data)
            return Challenge(b"Password:") if self._account is not None else malformed("LOGIN: the name is none")
        if self._account is None or not 0 < len(data) <= MAX_PASSWORD:
            return malformed("LOGIN: a password of no usable length")
        return _password_claim(LOGIN, self._verifier, self._account, data)


class CramServer:
    """The client shows that it knows the secret, by an HMAC-MD5 of our challenge, which must never be used twice."""

    def __init__(self, verifier: Verifier, *, nonce: bytes, host: bytes) -> None:
        self._verifier = verifier
        self._challenge = b"<" + nonce + b"@" + host + b">"

    def respond(self, data: bytes | None) -> Step:
        """The next step; the server speaks first."""
        if data is None:
            return Challenge(self._challenge)
        found = _CRAM.fullmatch(data)
        account = name_of(found[1]) if found else None
        if found is None or account is None:
            return malformed("CRAM-MD5: not a name and a digest")
        digest = found[2]

        def settle() -> Accepted | Refused:
            keys = self._verifier.cram_md5(account)
            same = hmac.compare_digest(keys.states.digest(self._challenge).hex().encode(), digest)
            return Accepted(account) if same & keys.real else wrong()

        return Claim(account, CRAM_MD5, False, settle)


class ExternalServer:
    """The certificate of the TLS connection speaks; the client may name the account it wants to be by it."""

    def __init__(self, verifier: Verifier, certificate: Certificate | None) -> None:
        self._verifier = verifier
        self._certificate = certificate

    def respond(self, data: bytes | None) -> Step:
        """The next step."""
        if data is None:
            return Challenge(b"")
        account = name_of(data) if data else ""
        if account is None:
            return malformed("EXTERNAL: the name is none")
        return Claim(account, EXTERNAL, False, self._settling(account))

    def _settling(self, account: str) -> Callable[[], Accepted | Refused]:
        def settle() -> Accepted | Refused:
            if self._certificate is None:
                return wrong()
            found = self._verifier.external(self._certificate, account)
            return Accepted(found) if found is not None and account in ("", found) else wrong()

        return settle
