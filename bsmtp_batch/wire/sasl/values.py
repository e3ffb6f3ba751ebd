"""What passes between a login and whoever carries it: challenges, claims, verdicts; what a server knows of accounts.

No secret is in any ``repr``, so that no log and no traceback can hold one.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.sasl.md5 import KeyStates

PLAIN = b"PLAIN"
LOGIN = b"LOGIN"
CRAM_MD5 = b"CRAM-MD5"
SCRAM = b"SCRAM-SHA-256"
EXTERNAL = b"EXTERNAL"

CLEAR = frozenset({PLAIN, LOGIN})
"""Mechanisms that send the password itself: for TLS only."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server asks for one more response; ``data`` is what stands behind the 334, before base64."""

    data: bytes = field(repr=False)

    @property
    def reply(self) -> Reply:
        """The 334."""
        return Reply(334, b"", b2a_base64(self.data, newline=False))


@dataclass(frozen=True, slots=True)
class Accepted:
    """The login succeeded: the peer is ``account``."""

    account: str
    reply: Reply = field(default=Reply(235, b"2.7.0", b"welcome"), repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The login failed. ``reason`` is a phrase for the log; the peer learns no more than ``reply`` says.

    ``guess`` tells whether a proof was examined and found wrong: only that counts as a try.
    """

    reply: Reply
    reason: str
    guess: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The peer claims to be ``account`` and has sent its proof, which nobody has looked at yet.

    The caller decides when that is worth the work (back-off, a bound on what runs at once), then calls ``settle()``,
    once. That never raises and gives the verdict, or for SCRAM the challenge that carries the server's own proof.
    ``account`` is the peer's word (printable, at most :data:`MAX_NAME` octets) and may be no account at all, or empty
    for EXTERNAL. ``costly``: settling hashes a password, which takes tens of milliseconds and of megabytes.
    """

    account: str
    mechanism: bytes
    costly: bool
    settle: Callable[[], Challenge | Accepted | Refused] = field(repr=False, compare=False)


Step = Challenge | Claim | Accepted | Refused
"""What a server's login gives for each line of the client."""

MAX_NAME = 255
"""Octets of the name of an account, as a peer may claim it."""
MAX_PASSWORD = 1024
"""Octets of a password."""


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps for SCRAM-SHA-256 (RFC 5802 section 3): with it nobody can log in elsewhere.

    ``real`` is False for the stand-in that unknown accounts get; then no proof is accepted, whatever it says.
    """

    salt: bytes
    iterations: int
    stored: bytes = field(repr=False)
    server: bytes = field(repr=False)
    real: bool = True


@dataclass(frozen=True, slots=True)
class CramKeys:
    """What a server keeps for CRAM-MD5: the states of HMAC-MD5 after the secret. As good as the secret for this
    mechanism, of no use for another. ``real`` as in :class:`ScramKeys`."""

    states: KeyStates = field(repr=False)
    real: bool = True


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate a TLS client showed. ``fingerprint``: sha256 of its DER, lower-case hex. ``names``: the host
    names in it, lower case, and only if its chain was verified against a CA that the listener trusts for this."""

    fingerprint: str
    names: tuple[str, ...] = ()


class Unavailable(Exception):
    """Accounts cannot be looked up now; the peer is told to come back (454). The words are for the log."""


class Verifier(Protocol):
    """What a server's login asks about accounts. Each method does the same work whether there is such an account or
    not, and raises nothing but :class:`Unavailable`."""

    def password(self, account: str, password: bytes) -> bool:
        """Whether this is the password of ``account``; may take tens of milliseconds."""
        ...

    def cram_md5(self, account: str) -> CramKeys:
        """The keys of ``account``, or a stand-in, the same one each time for the same name."""
        ...

    def scram(self, account: str) -> ScramKeys:
        """The keys of ``account``, or a stand-in, the same one each time for the same name."""
        ...

    def external(self, certificate: Certificate, account: str) -> str | None:
        """The account that ``certificate`` stands for; it has to be ``account`` where that is not empty."""
        ...


def name_of(octets: bytes) -> str | None:
    """The name in ``octets`` as text, or None for what cannot be one: empty, too long, not UTF-8, not printable.

    Nothing is prepared (RFC 4013): accounts have plain ASCII names, for which that changes nothing, and any other name
    is that of no account.
    """
    try:
        name = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return name if name and name.isprintable() and len(octets) <= MAX_NAME else None


def plain_ascii(password: bytes) -> bool:
    """Whether SASLprep (RFC 4013) surely leaves ``password`` as it is: printable ASCII, not empty, not too long."""
    return 0 < len(password) <= MAX_PASSWORD and all(32 <= octet < 127 for octet in password)


def wrong() -> Refused:
    """The one answer to every wrong proof: neither the words nor the code tell what was wrong."""
    return Refused(Reply(535, b"5.7.8", b"authentication failed"), "wrong name or proof", guess=True)


def malformed(reason: str) -> Refused:
    """The answer to what does not follow the mechanism's grammar; nothing was examined."""
    return Refused(Reply(501, b"5.5.2", b"this is not what the mechanism wants"), reason)
