"""The answers that a server's login needs, out of the secrets file and the settings.

An account counts when it has its section in the settings; what it may log in with has to be allowed there and to be
in the secrets file. Any other name gets stand-ins and costs the same work to the end, and the same answer.

Nothing is remembered between two logins but the file itself, which is read again when it has changed: a removed account
is out with its next login.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bsmtp_batch.accounts import store
from bsmtp_batch.accounts.credentials import CannotCheck, Credentials, StandIns, matches
from bsmtp_batch.accounts.format import Secrets, empty
from bsmtp_batch.errors import Setting
from bsmtp_batch.wire.sasl.values import (
    CRAM_MD5,
    EXTERNAL,
    LOGIN,
    PLAIN,
    SCRAM,
    Certificate,
    CramKeys,
    ScramKeys,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What an account may log in with. ``certificate``: the fingerprint (64 hex digits) or the host name in the client
    certificate that stands for it, or nothing."""

    plain: bool = True
    cram_md5: bool = False
    certificate: str = ""


class FileSecrets:
    """The secrets file ``path``, read when it has changed. ``owner`` as in :func:`store.read`."""

    def __init__(self, path: str, *, owner: int | None = None, random: Callable[[int], bytes] = os.urandom) -> None:
        self._path = path
        self._owner = owner
        self._none = empty(random)
        self._read: tuple[store.Version, Held] | None = None  # one value: logins are settled in more than one thread

    def current(self) -> Held:
        """What it holds now; without a file, no accounts. Raises :class:`~bsmtp_batch.errors.Setting` while it cannot
        be used."""
        known = self._read
        if known is not None and known[0] == store.version_of(self._path):
            return known[1]
        found = store.read(self._path, owner=self._owner)
        if found is None:
            self._read = None
            return _held(self._none)
        secrets, version = found
        held = _held(secrets)
        self._read = (version, held)
        return held


@dataclass(frozen=True, slots=True)
class Held:
    """The secrets, and what is said in place of those that are not there."""

    secrets: Secrets
    stand_ins: StandIns = field(repr=False)


def _held(secrets: Secrets) -> Held:
    return Held(secrets, StandIns(secrets.stand_in_key, list(secrets.accounts.values())))


class StoredVerifier:
    """:class:`bsmtp_batch.wire.sasl.values.Verifier` over ``secrets`` and the ``policies`` of the accounts by name.

    ``check`` is what hashes and compares a password; it is called once for each login, whoever asks.
    """

    def __init__(
        self,
        secrets: FileSecrets,
        policies: Mapping[str, Policy],
        *,
        check: Callable[[str, bytes], bool] = matches,
    ) -> None:
        self._secrets = secrets
        self._policies = policies
        self._check = check

    def offered(self, *, clear: bool, certificate: bool) -> tuple[bytes, ...]:
        """The mechanisms that some account may use, best first. ``clear``: whether a password may be sent here as it
        is (under TLS, or where the listener says so); ``certificate``: whether the client showed one."""
        policies = self._policies.values()
        able = {
            EXTERNAL: certificate and any(one.certificate for one in policies),
            SCRAM: True,
            CRAM_MD5: any(one.cram_md5 for one in policies),
            **{name: clear and any(one.plain for one in policies) for name in (PLAIN, LOGIN)},
        }
        return tuple(name for name, yes in able.items() if yes)

    def password(self, account: str, password: bytes) -> bool:
        """Whether this is the password of ``account``, and it may log in with it."""
        held = self._held()
        known = self._known(held, account)
        encoded = known.argon2 if known and known.argon2 and self._policies[account].plain else None
        try:
            same = self._check(encoded or held.stand_ins.argon2(account), password)
        except (ImportError, CannotCheck) as error:
            raise Unavailable(f"passwords cannot be checked: {error}") from error
        return same and encoded is not None

    def cram_md5(self, account: str) -> CramKeys:
        """The states of ``account``, or a stand-in."""
        held = self._held()
        stand_in = held.stand_ins.cram_md5(account)  # made in any case: the work is the same
        known = self._known(held, account)
        states = known.cram_md5 if known and self._policies[account].cram_md5 else None
        return CramKeys(states or stand_in, real=states is not None)

    def scram(self, account: str) -> ScramKeys:
        """The keys of ``account``, or a stand-in."""
        held = self._held()
        stand_in = held.stand_ins.scram(account)
        known = self._known(held, account)
        return known.scram if known and known.scram else stand_in

    def external(self, certificate: Certificate, account: str) -> str | None:
        """The account for which ``certificate`` stands: ``account`` if that is one of them, without it the only one."""
        found = [name for name, policy in self._policies.items() if _stands_for(certificate, policy.certificate)]
        if account:
            return account if account in found else None
        return found[0] if len(found) == 1 else None

    def _held(self) -> Held:
        try:
            return self._secrets.current()
        except (Setting, OSError) as error:
            raise Unavailable(str(error)) from error

    def _known(self, held: Held, account: str) -> Credentials | None:
        return held.secrets.accounts.get(account) if account in self._policies else None


def _stands_for(certificate: Certificate, wanted: str) -> bool:
    """A fingerprint is compared whatever the chain; the names are there only where the chain was verified."""
    if not wanted:
        return False
    by_print = hmac.compare_digest(wanted.encode(), certificate.fingerprint.encode())
    return by_print or wanted in certificate.names
