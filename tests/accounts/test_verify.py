"""What is accepted, and that a name which is no account is not told from one, by answers or by work."""

from __future__ import annotations

import os

import pytest
from support.accounts import SECRET, CountedChecks, account, outcome, seeded, server_login, verifier, written

from bsmtp_batch.accounts import credentials
from bsmtp_batch.accounts.credentials import StandIns, fault_of, generated_secret, make, matches
from bsmtp_batch.accounts.verify import FileSecrets, Policy
from bsmtp_batch.wire.sasl.scram import salted_password
from bsmtp_batch.wire.sasl.values import Accepted, Certificate, Refused, Unavailable

MECHANISMS = [b"PLAIN", b"LOGIN", b"CRAM-MD5", b"SCRAM-SHA-256"]


@pytest.fixture
def path(tmp_path):
    written(tmp_path / "secrets", account())
    return tmp_path / "secrets"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_secret_gets_in_and_no_other(path, mechanism):
    chance = seeded(7)
    asked = verifier(path)

    assert outcome(server_login(asked, chance), mechanism, "aurora", SECRET, chance) == Accepted("aurora")
    assert isinstance(outcome(server_login(asked, chance), mechanism, "aurora", SECRET[:-1] + "y", chance), Refused)
    assert isinstance(outcome(server_login(asked, chance), mechanism, "boreas", SECRET, chance), Refused)


def test_a_generated_secret_gets_in_by_each_mechanism(tmp_path):
    secret = generated_secret(os.urandom)
    made = make("aurora", secret.encode(), created="2026-11-22T05:33:00Z", cram_md5=True, random=os.urandom)
    written(tmp_path / "secrets", made)
    asked = verifier(tmp_path / "secrets")

    assert (len(secret), fault_of(secret.encode())) == (32, None)
    for mechanism in MECHANISMS:
        assert outcome(server_login(asked, os.urandom), mechanism, "aurora", secret, os.urandom) == Accepted("aurora")
    assert len({generated_secret(os.urandom) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("policies", "shut"),
    [
        ({"aurora": Policy()}, {b"CRAM-MD5"}),
        ({"aurora": Policy(plain=False, cram_md5=True)}, {b"PLAIN", b"LOGIN"}),
        ({"boreas": Policy()}, {*MECHANISMS}),
    ],
)
def test_what_the_settings_do_not_allow_is_refused_as_a_wrong_secret_is(path, policies, shut):
    chance = seeded(7)
    for mechanism in MECHANISMS:
        step = outcome(server_login(verifier(path, policies), chance), mechanism, "aurora", SECRET, chance)
        assert isinstance(step, Refused) == (mechanism in shut), mechanism
        assert step.reply.code == (535 if mechanism in shut else 235)


@pytest.mark.parametrize("name", ["aurora", "nobody", "AURORA", "aurora ", "närrin", "shut", "secretless"])
def test_each_password_that_is_tried_costs_one_hash_of_the_same_work(tmp_path, name):
    written(tmp_path / "secrets", account(hashed=False), account("shut", hashed=False))
    checks = CountedChecks(right="none")
    policies = {"aurora": Policy(), "shut": Policy(plain=False), "secretless": Policy()}
    asked = verifier(tmp_path / "secrets", policies, check=checks)

    assert asked.password(name, b"wrong") is False

    assert checks.work == [credentials._HEAD]


def test_a_name_that_is_no_account_costs_the_real_hash_too(path):
    """Not only the same words: the stand-in is a hash that the library works through."""
    stand_in = StandIns(b"k" * 32, [account()]).argon2("nobody")

    assert matches(stand_in, b"x") is False
    assert stand_in.rsplit("$", 2)[0] == account().argon2.rsplit("$", 2)[0]
    assert [len(part) for part in stand_in.split("$")] == [len(part) for part in account().argon2.split("$")]


def test_accounts_and_other_names_ask_for_the_same_work_after_the_parameters_have_changed():
    old = credentials.Credentials(
        "old",
        "",
        "$argon2id$v=19$m=8192,t=3,p=1$x$y",
        credentials.scram_keys(b"x", credentials.Salting(b"s" * 16, 5000)),
    )
    stand_ins = StandIns(b"k" * 32, [old, account(hashed=False)])

    names = [f"name{number}" for number in range(200)]
    assert {stand_ins.scram(name).iterations for name in names} == {4096, 5000}
    assert len({stand_ins.argon2(name).rsplit("$", 2)[0] for name in names}) == 2
    assert StandIns(b"k" * 32, []).scram("a").iterations == credentials.ITERATIONS


def test_a_name_that_is_no_account_has_its_salt_for_good(path):
    one, again = verifier(path), verifier(path)

    assert one.scram("nobody") == again.scram("nobody")
    assert one.scram("nobody").salt != one.scram("nobody2").salt
    assert len(one.scram("nobody").salt) == len(one.scram("aurora").salt)
    assert one.cram_md5("nobody") == again.cram_md5("nobody")
    assert not one.scram("nobody").real and not one.cram_md5("nobody").real


def test_an_account_that_is_removed_is_out_with_its_next_login(path):
    chance = seeded(7)
    asked = verifier(path)
    assert outcome(server_login(asked, chance), b"CRAM-MD5", "aurora", SECRET, chance) == Accepted("aurora")

    written(path)

    assert isinstance(outcome(server_login(asked, chance), b"CRAM-MD5", "aurora", SECRET, chance), Refused)
    path.unlink()
    assert isinstance(outcome(server_login(asked, chance), b"SCRAM-SHA-256", "aurora", SECRET, chance), Refused)


def test_the_file_is_read_once_while_it_stays_the_same(path, monkeypatch):
    secrets = FileSecrets(str(path))
    first = secrets.current()

    path.chmod(0o600)

    assert secrets.current() is first


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_while_the_file_cannot_be_used_nobody_gets_in_and_everybody_may_come_again(path, mechanism):
    path.chmod(0o644)
    os.utime(path, (1, 1))
    chance = seeded(7)

    step = outcome(server_login(verifier(path), chance), mechanism, "aurora", SECRET, chance)

    assert (step.reply.code, step.guess) == (454, False)


def test_a_hash_that_cannot_be_worked_out_is_no_wrong_password(path):
    def broken(encoded, password):
        raise credentials.CannotCheck("Memory allocation error")

    with pytest.raises(Unavailable, match="Memory"):
        verifier(path, check=broken).password("aurora", b"x")
    with pytest.raises(credentials.CannotCheck):
        matches("$argon2id$v=19$m=1,t=0,p=1$c2FsdHNhbHQ$AAAA", b"x")


def test_certificates_speak_for_the_account_that_names_them(path):
    policies = {
        "aurora": Policy(certificate="ab" * 32),
        "boreas": Policy(certificate="boreas.example"),
        "notus": Policy(),
        "twin": Policy(certificate="twin.example"),
        "other": Policy(certificate="cd" * 32),
    }
    asked = verifier(path, policies)

    assert asked.external(Certificate("ab" * 32), "") == "aurora"
    assert asked.external(Certificate("ab" * 32), "aurora") == "aurora"
    assert asked.external(Certificate("ab" * 32), "boreas") is None
    assert asked.external(Certificate("00" * 32, ("boreas.example", "www.boreas.example")), "") == "boreas"
    assert asked.external(Certificate("00" * 32), "") is None
    assert asked.external(Certificate("", ("",)), "notus") is None
    assert asked.external(Certificate("cd" * 32, ("twin.example",)), "") is None, "one of two accounts: it has to say"
    assert asked.external(Certificate("cd" * 32, ("twin.example",)), "twin") == "twin"


def test_what_is_offered_is_what_somebody_may_use(path):
    mixed = verifier(path, {"aurora": Policy(cram_md5=True), "boreas": Policy(certificate="ab" * 32)})
    strict = verifier(path, {"aurora": Policy(plain=False)})

    assert mixed.offered(clear=True, certificate=True) == (
        b"EXTERNAL",
        b"SCRAM-SHA-256",
        b"CRAM-MD5",
        b"PLAIN",
        b"LOGIN",
    )
    assert mixed.offered(clear=False, certificate=False) == (b"SCRAM-SHA-256", b"CRAM-MD5")
    assert strict.offered(clear=True, certificate=True) == (b"SCRAM-SHA-256",)


@pytest.mark.parametrize(
    ("password", "fault"),
    [(b"short", "12"), ("zwölf Zeichen".encode(), "ASCII"), (b"with a\ttab in it", "ASCII"), (b"x" * 1025, "ASCII")],
)
def test_passwords_that_are_refused_when_they_are_set(password, fault):
    assert fault in fault_of(password)


def test_the_kept_keys_are_no_password():
    keys = account().scram

    assert salted_password(SECRET.encode(), credentials.Salting(keys.salt, keys.iterations)) not in (
        keys.stored,
        keys.server,
    )
