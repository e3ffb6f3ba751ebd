"""The credentials of one account: how they are made, and what stands in for them where there is no such account.

A password is not kept. For PLAIN and LOGIN there is an Argon2id hash (RFC 9106), for SCRAM-SHA-256 the keys of
RFC 5802, and for CRAM-MD5, which no hash can serve, the two states of HMAC-MD5, and those only for a generated secret.

A stand-in is derived from the name of the account and a random key that is kept beside the accounts: an unknown name
has its own salt, the same at every try and after every restart, as a known one has.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bsmtp_batch.wire.sasl.md5 import KeyStates, key_states
from bsmtp_batch.wire.sasl.scram import Salting, scram_keys
from bsmtp_batch.wire.sasl.values import ScramKeys, plain_ascii

SECRET_OCTETS = 20
"""Random octets in a generated secret: 160 bits, 32 letters and digits."""
MIN_PASSWORD = 12
"""The least length of a password that somebody else has chosen."""
ITERATIONS = 100_000
"""Rounds of PBKDF2 for SCRAM. Only the client pays for them, and whoever guesses from a stolen secrets file."""
SALT_OCTETS = 16

ARGON2_PASSES = 2
ARGON2_KIB = 19_456
ARGON2_LANES = 1
"""Argon2id as OWASP advises for servers: 19 MiB and two passes, which is tens of milliseconds on a small machine."""

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is kept of one account; ``created`` is a UTC time (RFC 3339). What is None was not asked for."""

    name: str
    created: str
    argon2: str | None = field(default=None, repr=False)
    scram: ScramKeys | None = field(default=None, repr=False)
    cram_md5: KeyStates | None = field(default=None, repr=False)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The mechanisms that these credentials serve."""
        kept = {"SCRAM-SHA-256": self.scram, "CRAM-MD5": self.cram_md5, "PLAIN": self.argon2, "LOGIN": self.argon2}
        return tuple(name for name, what in kept.items() if what)


def generated_secret(random: Random) -> str:
    """A new secret: 160 bits as lower-case letters and digits 2 to 7, so that no file and no shell needs quotes."""
    return base64.b32encode(random(SECRET_OCTETS)).decode("ascii").lower()


def fault_of(password: bytes) -> str | None:
    """What is wrong with a password that somebody chose, as the end of a sentence, or None."""
    if not plain_ascii(password):
        return "it has to be printable ASCII on one line: other characters reach a server in more than one spelling"
    if len(password) < MIN_PASSWORD:
        return f"it has to be {MIN_PASSWORD} characters or more"
    return None


def make(name: str, password: bytes, *, created: str, cram_md5: bool, random: Random) -> Credentials:
    """The credentials of a new account. ``cram_md5`` is for generated secrets only; the caller sees to that."""
    return Credentials(
        name,
        created,
        hashed(password, random(SALT_OCTETS)),
        scram_keys(password, Salting(random(SALT_OCTETS), ITERATIONS)),
        key_states(password) if cram_md5 else None,
    )


def hashed(password: bytes, salt: bytes) -> str:
    """The Argon2id hash of ``password`` in the usual text form."""
    from argon2.low_level import Type, hash_secret

    found = hash_secret(password, salt, ARGON2_PASSES, ARGON2_KIB, ARGON2_LANES, 32, Type.ID)
    return found.decode("ascii")


def matches(encoded: str, password: bytes) -> bool:
    """Whether ``password`` is the one that was hashed. The hash decides how much work that is.

    Raises :class:`CannotCheck`, and ``ImportError`` where argon2-cffi is missing.
    """
    from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    try:
        return verify_secret(encoded.encode("ascii"), password, Type.ID)
    except VerifyMismatchError:
        return False
    except (Argon2Error, InvalidHashError) as error:
        raise CannotCheck(str(error)) from error


class CannotCheck(Exception):
    """No memory for Argon2id at this moment, or a hash it does not know; the words are for the log."""


class StandIns:
    """Credentials for names that are no accounts, under the random ``key``.

    ``known`` are the credentials there are: a stand-in asks for as much work as one of them, so that a change of the
    parameters, after which old and new accounts differ, does not tell which names are accounts. Which one, is the same
    for a name as long as no new parameters come.
    """

    def __init__(self, key: bytes, known: Sequence[Credentials]) -> None:
        self._key = key
        self._rounds = sorted({one.scram.iterations for one in known if one.scram}) or [ITERATIONS]
        self._hashes = sorted({_head(one.argon2) for one in known if one.argon2}) or [_HEAD]

    def argon2(self, name: str) -> str:
        """A hash that no password has."""
        salt, tag = self._derived(b"argon2 salt", name)[:SALT_OCTETS], self._derived(b"argon2 hash", name)
        return "$".join([_of(self._hashes, self._derived(b"argon2 work", name)), _unpadded(salt), _unpadded(tag)])

    def scram(self, name: str) -> ScramKeys:
        """Keys that no password has."""
        return ScramKeys(
            self._derived(b"scram salt", name)[:SALT_OCTETS],
            _of(self._rounds, self._derived(b"scram work", name)),
            self._derived(b"scram stored", name),
            self._derived(b"scram server", name),
            real=False,
        )

    def cram_md5(self, name: str) -> KeyStates:
        """States that no secret has left."""
        states = self._derived(b"cram-md5", name)
        return KeyStates(states[:16], states[16:])

    def _derived(self, purpose: bytes, name: str) -> bytes:
        return hmac.digest(self._key, purpose + b"\0" + name.encode("utf-8", "surrogatepass"), "sha256")


_HEAD = f"$argon2id$v=19$m={ARGON2_KIB},t={ARGON2_PASSES},p={ARGON2_LANES}"

_Kind = TypeVar("_Kind")


def _head(encoded: str) -> str:
    """The part of a hash that says how much work it is."""
    return encoded.rsplit("$", 2)[0]


def _of(choices: Sequence[_Kind], chance: bytes) -> _Kind:
    return choices[int.from_bytes(chance[:8], "big") % len(choices)]


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")
