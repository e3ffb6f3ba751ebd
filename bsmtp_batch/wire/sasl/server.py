"""A login as the server sees it: RFC 4954 around the mechanisms. Values in, values out.

::

    login = ServerLogin(verifier, offered=offered, nonce=nonce, host=b"hub.example", certificate=certificate)
    step = login.start(auth)                    # the Auth event; later: login.go_on(response), the AuthResponse event
    if isinstance(step, Claim):
        step = step.settle()                    # when back-off allows it; in a thread if step.costly
    out += session.send(step.reply)             # 334, 235, or why not

One object serves one AUTH command.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from bsmtp_batch.wire.events import Auth, AuthResponse, Reply
from bsmtp_batch.wire.sasl.scram import ScramServer, from_base64
from bsmtp_batch.wire.sasl.simple import CramServer, ExternalServer, LoginServer, PlainServer
from bsmtp_batch.wire.sasl.values import (
    CLEAR,
    CRAM_MD5,
    EXTERNAL,
    LOGIN,
    PLAIN,
    SCRAM,
    Accepted,
    Certificate,
    Challenge,
    Claim,
    Refused,
    Step,
    Unavailable,
    Verifier,
    malformed,
)

Mechanism = PlainServer | LoginServer | CramServer | ScramServer | ExternalServer

_TOO_SOON = Reply(454, b"4.7.0", b"not now, try again later")


class ServerLogin:
    """One AUTH command, from its first line to the verdict.

    ``nonce``: fresh random octets as printable ASCII without comma, blank and ``@``, 128 bits of chance or more; each
    login needs its own. ``host`` names us in challenges. ``offered``: the mechanisms of the reply to EHLO; no other is
    carried out. ``certificate``: what the TLS client showed. No method raises.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        offered: Collection[bytes],
        nonce: bytes,
        host: bytes,
        certificate: Certificate | None = None,
    ) -> None:
        self._verifier = verifier
        self._offered = offered
        self._nonce = nonce
        self._host = host
        self._certificate = certificate
        self._mechanism: Mechanism | None = None

    def start(self, auth: Auth) -> Step:
        """The step after the AUTH command, with or without an initial response."""
        if auth.mechanism not in self._offered:
            return _not_offered(auth.mechanism, self._offered)
        if auth.mechanism == CRAM_MD5 and auth.initial is not None:
            return malformed("CRAM-MD5: the client spoke first")
        self._mechanism = self._named(auth.mechanism)
        if auth.initial is None:
            return self._respond(None)
        return self._decoded(b"" if auth.initial == b"=" else auth.initial)

    def go_on(self, response: AuthResponse) -> Step:
        """The step after the client's line behind a 334."""
        if response.data == b"*":
            self._mechanism = None
            return Refused(Reply(501, b"5.0.0", b"given up"), "the client gave up")
        return self._decoded(response.data)

    def too_soon(self) -> Refused:
        """The answer to a :class:`Claim` that will not be settled because too many were wrong, or too much is going on.

        The proof is not looked at, so that the answer tells nothing about it.
        """
        self._mechanism = None
        return Refused(_TOO_SOON, "too many tries")

    def _named(self, name: bytes) -> Mechanism | None:
        match name:
            case b"PLAIN":
                return PlainServer(self._verifier)
            case b"LOGIN":
                return LoginServer(self._verifier)
            case b"CRAM-MD5":
                return CramServer(self._verifier, nonce=self._nonce, host=self._host)
            case b"SCRAM-SHA-256":
                return ScramServer(self._verifier, nonce=self._nonce)
            case b"EXTERNAL":
                return ExternalServer(self._verifier, self._certificate)
        return None

    def _decoded(self, text: bytes) -> Step:
        data = from_base64(text)
        if data is None:
            self._mechanism = None
            return Refused(Reply(501, b"5.5.2", b"this is no base64"), "a response that is not base64")
        return self._respond(data)

    def _respond(self, data: bytes | None) -> Step:
        if self._mechanism is None:
            return malformed("a response that nothing asked for")
        try:
            step = self._mechanism.respond(data)
        except Unavailable as error:
            step = _unavailable(error)
        if isinstance(step, Claim):
            return self._guarded(step)
        return self._noted(step)

    def _guarded(self, claim: Claim) -> Claim:
        """``claim``, settled at most once, and never with an exception."""
        mechanism, self._mechanism = self._mechanism, None

        def settle() -> Challenge | Accepted | Refused:
            nonlocal mechanism
            self._mechanism, mechanism = mechanism, None
            if self._mechanism is None:
                return malformed("a claim settled twice")
            try:
                return self._noted(claim.settle())
            except Unavailable as error:
                return self._noted(_unavailable(error))

        return replace(claim, settle=settle)

    def _noted(self, step: Challenge | Accepted | Refused) -> Challenge | Accepted | Refused:
        """``step``; behind a verdict nothing more is taken."""
        if not isinstance(step, Challenge):
            self._mechanism = None
        return step


KNOWN = frozenset({PLAIN, LOGIN, CRAM_MD5, SCRAM, EXTERNAL})
"""The mechanisms there are."""


def _not_offered(mechanism: bytes, offered: Collection[bytes]) -> Refused:
    if mechanism in CLEAR and SCRAM in offered and not CLEAR & frozenset(offered):
        reply = Reply(538, b"5.7.11", b"a password is taken over TLS only")
        return Refused(reply, "a password was offered without TLS")
    return Refused(Reply(504, b"5.5.4", b"this mechanism is not offered"), "a mechanism that is not offered")


def _unavailable(error: Unavailable) -> Refused:
    return Refused(Reply(454, b"4.7.0", b"no login possible at the moment"), str(error))
