"""A secrets file with accounts, and logins against it, for the tests of more than one part."""

from __future__ import annotations

import base64
import random
from dataclasses import replace

from bsmtp_batch.accounts import credentials, store
from bsmtp_batch.accounts.format import empty
from bsmtp_batch.accounts.verify import FileSecrets, Policy, StoredVerifier
from bsmtp_batch.wire.events import Auth, AuthResponse
from bsmtp_batch.wire.sasl.client import ClientLogin
from bsmtp_batch.wire.sasl.scram import Salting, scram_keys
from bsmtp_batch.wire.sasl.server import KNOWN, ServerLogin

SECRET = "gkzr3gd35schtohsxp5jbad2k67lycbx"
ROUNDS = 4096  # quick, as far as the RFC allows


def seeded(seed):
    """Octets in place of the system's random source."""
    return random.Random(seed).randbytes


def account(name="aurora", secret=SECRET, *, cram_md5=True, hashed=True):
    """Credentials made quickly; without ``hashed`` the Argon2id hash is one that no password has."""
    chance = seeded(name)
    encoded = credentials.hashed(secret.encode(), chance(16)) if hashed else credentials.StandIns(b"k", ()).argon2(name)
    keys = scram_keys(secret.encode(), Salting(chance(16), ROUNDS))
    states = credentials.key_states(secret.encode()) if cram_md5 else None
    return credentials.Credentials(name, "2026-11-22T05:33:00Z", encoded, keys, states)


def written(path, *accounts):
    """The secrets file ``path`` with these accounts."""
    secrets = replace(empty(seeded(1)), accounts={one.name: one for one in accounts})
    store.write(str(path), secrets)
    return secrets


class CountedChecks:
    """In place of Argon2id: says yes to SECRET under one hash, and counts what is asked about which amount of work."""

    def __init__(self, right):
        self.right = right
        self.work = []

    def __call__(self, encoded, password):
        self.work.append(encoded.rsplit("$", 2)[0])
        return (encoded, password) == (self.right, SECRET.encode())


def verifier(path, policies=None, **kinds):
    """A verifier over the file; the account aurora may log in with everything."""
    policies = policies or {"aurora": Policy(cram_md5=True)}
    return StoredVerifier(FileSecrets(str(path)), policies, **kinds)


def server_login(asked, chance, *, offered=KNOWN, certificate=None):
    """One AUTH command at the server."""
    nonce = base64.b64encode(chance(18))
    return ServerLogin(asked, offered=offered, nonce=nonce, host=b"hub.example", certificate=certificate)


def walk(there, mechanism, name, secret, chance):
    """One login, to the first :class:`Claim` or verdict of the server and on behind it: a generator of steps that takes
    back, by ``send``, what became of each claim."""
    client = ClientLogin(mechanism, name.encode(), secret.encode(), nonce=base64.b64encode(chance(18)))
    request = client.start()
    while request is not None:
        step = there.start(request) if isinstance(request, Auth) else there.go_on(AuthResponse(request.data))
        step = yield step
        request = client.answer(step.reply)


def outcome(there, mechanism, name, secret, chance, settle=lambda step: step.settle()):
    """The last step of one login."""
    from bsmtp_batch.wire.sasl.values import Claim

    steps = walk(there, mechanism, name, secret, chance)
    step = next(steps)
    while True:
        if isinstance(step, Claim):
            step = settle(step)
        try:
            step = steps.send(step)
        except StopIteration:
            return step
