"""What stands in the secrets file: one line for each credential, readable with any pager. No disk here.

::

    bsmtp-batch-secrets 1
    stand-in KEY                                  random; what unknown names are answered with is derived from it
    account NAME CREATED                          comes before the credentials of NAME
    argon2id NAME $argon2id$v=19$...              PLAIN and LOGIN
    scram-sha-256 NAME ROUNDS SALT STORED SERVER  RFC 5802, base64
    cram-md5 NAME INNER OUTER                     the states of HMAC-MD5 (RFC 2104 section 4), hexadecimal

Blanks separate. Lines that begin with ``#`` are passed over, and are lost at the next change. A line of any other kind
is a fault: a credential that is not understood must not be dropped by the next ``account add``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bsmtp_batch.accounts.credentials import Credentials, Random
from bsmtp_batch.accounts.names import valid
from bsmtp_batch.wire.sasl.md5 import KeyStates
from bsmtp_batch.wire.sasl.scram import MAX_ITERATIONS, MIN_ITERATIONS, from_base64
from bsmtp_batch.wire.sasl.values import ScramKeys

FIRST_LINE = "bsmtp-batch-secrets 1"
MAX_FILE = 64_000_000
"""Octets; room for a hundred thousand accounts."""
_KEY_OCTETS = 32
_MAX_KIB = 1_048_576
_CREATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,7}),t=([1-9][0-9]?),p=([1-9][0-9]?)\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"
)
_STATE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Secrets:
    """What the file holds: the key of the stand-ins, and the accounts by name."""

    stand_in_key: bytes = field(repr=False)
    accounts: Mapping[str, Credentials]


class Fault(ValueError):
    """A file that cannot be understood; says the line, and never what stands in it."""


def empty(random: Random) -> Secrets:
    """A file without accounts."""
    return Secrets(random(_KEY_OCTETS), {})


def formatted(secrets: Secrets) -> bytes:
    """The text of the file."""
    lines = [
        FIRST_LINE,
        "# Written by `bsmtp-batch account`. Whoever reads this can guess at passwords and log in by CRAM-MD5.",
        f"stand-in {_written(secrets.stand_in_key)}",
    ]
    for _, one in sorted(secrets.accounts.items()):
        lines.append(f"account {one.name} {one.created}")
        if one.argon2:
            lines.append(f"argon2id {one.name} {one.argon2}")
        if keys := one.scram:
            told = " ".join(map(_written, (keys.salt, keys.stored, keys.server)))
            lines.append(f"scram-sha-256 {one.name} {keys.iterations} {told}")
        if states := one.cram_md5:
            lines.append(f"cram-md5 {one.name} {states.inner.hex()} {states.outer.hex()}")
    return ("\n".join(lines) + "\n").encode("ascii")


def parsed(text: bytes) -> Secrets:
    """What :func:`formatted` wrote; :class:`Fault` for anything else."""
    lines = text.decode("utf-8", "replace").splitlines()
    if len(text) > MAX_FILE or not lines or lines[0] != FIRST_LINE:
        raise Fault(f"it does not begin with {FIRST_LINE!r}; it is of another kind, or of a newer version")
    reading = _Reading()
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if words and not line.startswith("#"):
            try:
                reading.take(*words)
            except (ValueError, TypeError):  # TypeError: too few words or too many
                raise Fault(f"line {number} is not as it was written") from None
    if not reading.key:
        raise Fault("the line with the stand-in key is missing")
    return Secrets(reading.key, reading.accounts)


class _Reading:
    """The file so far. The methods raise ``ValueError`` or ``TypeError`` for a line that is not as it was written."""

    def __init__(self) -> None:
        self.key = b""
        self.accounts: dict[str, Credentials] = {}

    def take(self, kind: str, *words: str) -> None:
        """One line."""
        if kind == "stand-in":
            _require(not self.key)
            self.key = _read(*words, length=_KEY_OCTETS)
        elif kind == "account":
            self._account(*words)
        else:
            name, *rest = words
            _require(name in self.accounts)
            one = self.accounts[name]
            self.accounts[name] = _KINDS.get(kind, _unknown)(one, *rest)

    def _account(self, name: str, created: str) -> None:
        _require(valid(name) and name not in self.accounts and _CREATED.fullmatch(created))
        self.accounts[name] = Credentials(name, created)


def _unknown(_: Credentials, *__: str) -> Credentials:
    raise ValueError


def _argon2(one: Credentials, encoded: str) -> Credentials:
    found = _ARGON2.fullmatch(encoded)
    _require(one.argon2 is None and found and int(found[1]) <= _MAX_KIB)
    return replace(one, argon2=encoded)


def _scram(one: Credentials, rounds: str, salt: str, stored: str, server: str) -> Credentials:
    _require(one.scram is None and rounds.isascii() and MIN_ITERATIONS <= int(rounds) <= MAX_ITERATIONS)
    keys = ScramKeys(_read(salt, length=16), int(rounds), _read(stored, length=32), _read(server, length=32))
    return replace(one, scram=keys)


def _cram_md5(one: Credentials, inner: str, outer: str) -> Credentials:
    _require(one.cram_md5 is None and _STATE.fullmatch(inner) and _STATE.fullmatch(outer))
    return replace(one, cram_md5=KeyStates(bytes.fromhex(inner), bytes.fromhex(outer)))


_KINDS: dict[str, Callable[..., Credentials]] = {"argon2id": _argon2, "scram-sha-256": _scram, "cram-md5": _cram_md5}


def _require(holds: object) -> None:
    if not holds:
        raise ValueError


def _read(text: str, *, length: int) -> bytes:
    data = from_base64(text.encode("ascii"))
    _require(data is not None and len(data) == length)
    assert data is not None
    return data


def _written(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
