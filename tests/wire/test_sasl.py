"""A login, client against server: whoever lacks the secret stays outside, whatever he writes, and nothing raises."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bsmtp_batch.wire.events import Auth, AuthResponse, Reply
from bsmtp_batch.wire.sasl.client import ClientLogin, choose
from bsmtp_batch.wire.sasl.md5 import key_states
from bsmtp_batch.wire.sasl.scram import Salting, from_base64, scram_keys
from bsmtp_batch.wire.sasl.server import KNOWN, ServerLogin
from bsmtp_batch.wire.sasl.values import (
    Accepted,
    Certificate,
    Challenge,
    Claim,
    CramKeys,
    Refused,
    Unavailable,
)

SECRET = b"correct horse, battery=staple"
STAND_IN = b"nobody has this one"
MECHANISMS = sorted(KNOWN - {b"EXTERNAL"})
CERTIFICATE = Certificate("ab" * 32, ("aurora.example",))
SALT = Salting(b"0123456789abcdef", 4096)
KEYS = {secret: scram_keys(secret, SALT) for secret in (SECRET, STAND_IN)}


class OneAccount:
    """A verifier with the account aurora (and one that SCRAM has to spell), that counts what it is asked."""

    def __init__(self, *names):
        self.names = names or ("aurora",)
        self.asked = []
        self.down = False

    def _ask(self, what, account):
        self.asked.append(what)
        if self.down:
            raise Unavailable("the secrets file is gone")
        return account in self.names

    def password(self, account, password):
        return self._ask("password", account) and password == SECRET

    def cram_md5(self, account):
        real = self._ask("cram", account)
        return CramKeys(key_states(SECRET if real else STAND_IN), real)

    def scram(self, account):
        return KEYS[SECRET] if self._ask("scram", account) else replace(KEYS[STAND_IN], real=False)

    def external(self, certificate, account):
        self._ask("external", account)
        return "aurora" if certificate == CERTIFICATE else None


def server(verifier=None, *, offered=KNOWN, certificate=None, nonce=b"SERVERSERVERSERVER"):
    verifier = verifier or OneAccount()
    return ServerLogin(verifier, offered=offered, nonce=nonce, host=b"hub.example", certificate=certificate)


def settled(step):
    return step.settle() if isinstance(step, Claim) else step


def login(client, there, *, change=lambda number, text: text):
    """Carry the lines between the two; ``change`` may alter each one of the client's. The verdict, and the lines."""
    request, lines = client.start(), []
    for number in range(10):
        if isinstance(request, Auth):
            text = change(number, request.initial) if request.initial is not None else None
            step = settled(there.start(Auth(request.mechanism, text)))
        else:
            text = change(number, request.data)
            step = settled(there.go_on(AuthResponse(text)))
        lines.append(text)
        request = client.answer(step.reply)
        if request is None:
            return step, lines
    raise AssertionError("no end")


@pytest.mark.parametrize("name", ["aurora", "a,b=c", "a=2Cb"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_right_secret_gets_in(mechanism, name):
    client = ClientLogin(mechanism, name.encode(), SECRET, nonce=b"CLIENT")

    verdict, _ = login(client, server(OneAccount(name)))

    assert verdict == Accepted(name)
    assert verdict.reply.code == 235
    assert client.result is None


@pytest.mark.parametrize(("name", "secret"), [(b"aurora", b"wrong horse"), (b"nobody", SECRET), (b"nobody", STAND_IN)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_secret_and_an_unknown_name_get_the_same_answer_after_the_same_questions(mechanism, name, secret):
    verifier = OneAccount()
    client = ClientLogin(mechanism, name, secret, nonce=b"CLIENT")

    verdict, lines = login(client, server(verifier))

    assert verdict == Refused(Reply(535, b"5.7.8", b"authentication failed"), "wrong name or proof", guess=True)
    assert len(verifier.asked) == 1
    assert client.result.later is False
    assert "535" in client.result.reason
    assert len(lines) == {b"LOGIN": 3, b"CRAM-MD5": 2, b"SCRAM-SHA-256": 2}.get(mechanism, 1)


def test_scram_of_a_stand_in_is_refused_even_with_the_right_proof():
    class StandIns(OneAccount):
        def scram(self, account):
            return replace(KEYS[SECRET], real=False)

        def cram_md5(self, account):
            return CramKeys(key_states(SECRET), real=False)

    for mechanism in (b"SCRAM-SHA-256", b"CRAM-MD5"):
        verdict, _ = login(ClientLogin(mechanism, b"aurora", SECRET, nonce=b"C"), server(StandIns()))
        assert isinstance(verdict, Refused)


@given(st.sampled_from(MECHANISMS), st.integers(0, 3), st.data())
@settings(max_examples=150, deadline=None)
def test_no_changed_line_is_accepted(mechanism, which, data):
    changed = []

    def change(number, text):
        if number != which or not text:
            return text
        octets = bytearray(base64.b64decode(text))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "text"]))
        at = data.draw(st.integers(0, max(0, len(octets) - 1)))
        if how == "text":
            octets = bytearray(text)
            octets[at] = data.draw(st.integers(33, 126))
            made = bytes(octets)
        else:
            if how == "flip" and octets:
                octets[at] ^= data.draw(st.integers(1, 255))
            elif how == "cut":
                del octets[at : at + data.draw(st.integers(1, 5))]
            else:
                octets.insert(at, data.draw(st.integers(0, 255)))
            made = base64.b64encode(octets)
        if made != text:
            changed.append((text, made))
        return made

    client = ClientLogin(mechanism, b"aurora", SECRET, nonce=b"CLIENTCLIENT")
    verdict, _ = login(client, server(), change=change)

    assert isinstance(verdict, Refused) == bool(changed)


@given(
    st.sampled_from([*sorted(KNOWN), b"NTLM"]),
    st.one_of(st.none(), st.binary(max_size=80)),
    st.lists(st.binary(max_size=120), max_size=4),
    st.booleans(),
)
@example(b"PLAIN", base64.b64encode(b"\0aurora\0" + b"x" * 12000), [], True)
@example(b"SCRAM-SHA-256", b"=", [b"", b"*"], True)
@settings(deadline=None)
def test_whatever_is_written_nobody_gets_in_and_nothing_raises(mechanism, initial, lines, encoded):
    there = server(certificate=Certificate("00" * 32))
    wrap = base64.b64encode if encoded else bytes
    steps = [settled(there.start(Auth(mechanism, initial if initial is None else wrap(initial))))]
    steps += [settled(there.go_on(AuthResponse(wrap(line)))) for line in lines]

    assert not [step for step in steps if isinstance(step, Accepted)]
    seen = False
    for step in steps:
        assert not (seen and isinstance(step, Challenge)), "a login went on behind its end"
        seen = seen or isinstance(step, Refused)


@given(
    st.sampled_from(MECHANISMS), st.lists(st.tuples(st.sampled_from([334, 235, 535, 454, 250]), st.binary(max_size=90)))
)
@settings(deadline=None)
def test_no_server_gets_the_client_to_raise_or_to_talk_for_ever(mechanism, said):
    client = ClientLogin(mechanism, b"aurora", SECRET, nonce=b"CLIENT")
    client.start()
    for number, (code, text) in enumerate(said):
        request = client.answer(Reply(code, b"", base64.b64encode(text)))
        if request is None:
            return
        assert number < 4


@pytest.mark.parametrize(
    ("mechanism", "data"),
    [
        (b"PLAIN", b"boreas\0aurora\0" + SECRET),
        (b"PLAIN", b"\0aurora\0" + SECRET + b"\0"),
        (b"PLAIN", b"aurora\0" + SECRET),
        (b"PLAIN", b"\0aurora\0"),
        (b"PLAIN", b"\0\0" + SECRET),
        (b"PLAIN", b"\0aur\xffora\0" + SECRET),
        (b"PLAIN", b"\0aur\nora\0" + SECRET),
        (b"PLAIN", b"\0aurora\0" + b"x" * 1025),
        (b"CRAM-MD5", b"aurora " + b"0" * 32),
        (b"SCRAM-SHA-256", b"p=tls-exporter,,n=aurora,r=abc"),
        (b"SCRAM-SHA-256", b"n,a=boreas,n=aurora,r=abc"),
        (b"SCRAM-SHA-256", b"n,,m=ext,n=aurora,r=abc"),
        (b"SCRAM-SHA-256", b"n,,n=aur=2cora,r=abc"),
        (b"SCRAM-SHA-256", b"n,,n=aurora,r="),
        (b"SCRAM-SHA-256", b"n,,n=,r=abc"),
        (b"SCRAM-SHA-256", b"x,,n=aurora,r=abc"),
    ],
)
def test_what_breaks_the_grammar_is_refused_unexamined(mechanism, data):
    verifier = OneAccount()

    step = server(verifier).start(Auth(mechanism, base64.b64encode(data)))

    assert isinstance(step, Refused)
    assert (step.reply.code, step.guess, verifier.asked) == (501, False, [])


@pytest.mark.parametrize("gs2", [b"n,,", b"y,,", b"n,a=aurora,", b"y,a=aurora,"])
def test_scram_takes_clients_that_cannot_bind_a_channel_and_those_that_could(gs2):
    from bsmtp_batch.wire.sasl import client as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Scram, "_GS2", gs2)
        verdict, _ = login(ClientLogin(b"SCRAM-SHA-256", b"aurora", SECRET, nonce=b"C"), server())

    assert verdict == Accepted("aurora")


def test_scram_notices_that_the_word_on_binding_was_changed_on_the_way():
    """Somebody in the middle who strips the offer of a binding changes y to n, or the other way round."""

    def change(number, text):
        return base64.b64encode(base64.b64decode(text).replace(b"n,,", b"y,,")) if number == 0 else text

    verdict, _ = login(ClientLogin(b"SCRAM-SHA-256", b"aurora", SECRET, nonce=b"C"), server(), change=change)

    assert isinstance(verdict, Refused)


def test_a_server_that_does_not_know_the_secret_is_not_believed():
    first = ClientLogin(b"SCRAM-SHA-256", b"aurora", SECRET, nonce=b"C")
    first.start()
    first.answer(Reply(334, b"", base64.b64encode(b"r=CS,s=c2FsdA==,i=4096")))

    assert first.answer(Reply(235)) is None
    assert first.result.later is False

    second = ClientLogin(b"SCRAM-SHA-256", b"aurora", SECRET, nonce=b"C")
    second.start()
    second.answer(Reply(334, b"", base64.b64encode(b"r=CS,s=c2FsdA==,i=4096")))
    assert second.answer(Reply(334, b"", base64.b64encode(b"v=" + base64.b64encode(bytes(32))))) == AuthResponse(b"*")
    assert second.answer(Reply(235)) is None
    assert second.result is not None


@pytest.mark.parametrize(
    "said",
    [b"r=C,s=c2FsdA==,i=4096", b"r=XS,s=c2FsdA==,i=4096", b"r=CS,s=c2FsdA==,i=4095", b"r=CS,s=c2FsdA==,i=2000001", b""],
)
def test_the_client_gives_up_when_the_server_asks_for_too_little_or_too_much(said):
    client = ClientLogin(b"SCRAM-SHA-256", b"aurora", SECRET, nonce=b"C")
    client.start()

    assert client.answer(Reply(334, b"", base64.b64encode(said))) == AuthResponse(b"*")
    assert client.answer(Reply(501)) is None
    assert "challenge" in client.result.reason


def test_a_temporary_refusal_is_for_later():
    client = ClientLogin(b"PLAIN", b"aurora", SECRET, nonce=b"")
    client.start()

    assert client.answer(Reply(454, b"4.7.0", b"not now")) is None
    assert client.result.later is True


def test_the_line_that_gives_up_is_answered_by_501_and_ends_the_login():
    there = server()
    there.start(Auth(b"LOGIN"))

    step = there.go_on(AuthResponse(b"*"))

    assert (step.reply.code, step.guess) == (501, False)
    assert isinstance(there.go_on(AuthResponse(b"")), Refused)


@pytest.mark.parametrize("text", [b"a", b"ab=", b"YQ", b"YR==", b"YQ==\n", b"Y Q=", b"====", b"YQ==YQ=="])
def test_base64_has_one_spelling(text):
    assert from_base64(text) is None
    there = server()
    there.start(Auth(b"LOGIN"))
    assert there.go_on(AuthResponse(text)).reply.code == 501


def test_login_takes_the_name_in_the_first_line_too():
    there = server()

    asked = there.start(Auth(b"LOGIN", base64.b64encode(b"aurora")))
    claim = there.go_on(AuthResponse(base64.b64encode(SECRET)))

    assert asked == Challenge(b"Password:")
    assert (claim.costly, claim.settle()) == (True, Accepted("aurora"))
    assert isinstance(claim.settle(), Refused), "a claim is settled once"


def test_plain_without_initial_response_is_asked_for_it_by_an_empty_challenge():
    there = server()

    assert there.start(Auth(b"PLAIN")).reply == Reply(334, b"", b"")
    assert settled(there.go_on(AuthResponse(base64.b64encode(b"\0aurora\0" + SECRET)))) == Accepted("aurora")


def test_cram_md5_lets_the_server_speak_first():
    assert server().start(Auth(b"CRAM-MD5", b"YQ==")).reply.code == 501


def test_every_challenge_is_another_one():
    asked = {server(nonce=b"%032x" % number).start(Auth(b"CRAM-MD5")).data for number in range(1000)}

    assert len(asked) == 1000


@pytest.mark.parametrize(("initial", "account"), [(b"=", "aurora"), (b"YXVyb3Jh", "aurora"), (b"Ym9yZWFz", None)])
def test_a_certificate_speaks_for_its_account_only(initial, account):
    step = settled(server(certificate=CERTIFICATE).start(Auth(b"EXTERNAL", initial)))

    assert getattr(step, "account", None) == account
    assert isinstance(settled(server(certificate=Certificate("00" * 32)).start(Auth(b"EXTERNAL", initial))), Refused)
    assert isinstance(settled(server().start(Auth(b"EXTERNAL", initial))), Refused)


def test_the_client_logs_in_by_its_certificate():
    client = ClientLogin(b"EXTERNAL", b"", nonce=b"")

    assert client.start() == Auth(b"EXTERNAL", b"=")
    assert client.answer(Reply(235)) is None
    assert client.result is None


@pytest.mark.parametrize(
    ("mechanism", "offered", "code"),
    [
        (b"NTLM", KNOWN, 504),
        (b"CRAM-MD5", {b"SCRAM-SHA-256"}, 504),
        (b"PLAIN", {b"SCRAM-SHA-256"}, 538),
        (b"PLAIN", {b"SCRAM-SHA-256", b"LOGIN"}, 504),
    ],
)
def test_what_is_not_offered_is_not_carried_out(mechanism, offered, code):
    verifier = OneAccount()
    login_ = server(verifier, offered=offered)

    assert login_.start(Auth(mechanism, b"AGF1cm9yYQB4")).reply.code == code
    assert isinstance(login_.go_on(AuthResponse(b"AGF1cm9yYQB4")), Refused)
    assert verifier.asked == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_accounts_that_cannot_be_looked_up_are_a_matter_of_time(mechanism):
    verifier = OneAccount()
    verifier.down = True

    verdict, _ = login(ClientLogin(mechanism, b"aurora", SECRET, nonce=b"C"), server(verifier))

    assert (verdict.reply.code, verdict.guess) == (454, False)
    assert "secrets" not in str(verdict.reply)


@pytest.mark.parametrize(
    ("offered", "secure", "best"),
    [
        ([b"PLAIN", b"LOGIN"], False, None),
        ([b"login", b"plain"], True, b"PLAIN"),
        ([b"PLAIN", b"CRAM-MD5"], True, b"CRAM-MD5"),
        ([b"PLAIN", b"CRAM-MD5", b"SCRAM-SHA-256", b"EXTERNAL"], False, b"SCRAM-SHA-256"),
        ([b"GSSAPI"], True, None),
    ],
)
def test_the_client_takes_what_tells_the_server_least(offered, secure, best):
    assert choose(offered, secure=secure) == best


def test_a_certificate_is_used_where_the_caller_has_one():
    assert choose([b"PLAIN", b"EXTERNAL"], secure=True, allowed=[b"EXTERNAL", b"PLAIN"]) == b"EXTERNAL"
    assert choose([b"PLAIN", b"EXTERNAL"], secure=False, allowed=[b"EXTERNAL"]) is None


@pytest.mark.parametrize(
    ("name", "password"), [(b"aur\xc3\xb6ra", SECRET), (b"", SECRET), (b"aurora", "grün".encode()), (b"aurora", b"")]
)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_would_need_saslprep_is_refused_before_a_word_is_said(mechanism, name, password):
    with pytest.raises(ValueError, match="ASCII"):
        ClientLogin(mechanism, name, password, nonce=b"C")


def test_a_long_initial_response_waits_for_the_empty_challenge():
    client = ClientLogin(b"PLAIN", b"aurora", b"x" * 800, nonce=b"")

    assert client.start() == Auth(b"PLAIN")
    assert len(base64.b64decode(client.answer(Reply(334)).data)) == 808


def test_no_secret_is_in_a_repr():
    there = server()
    steps = [there.start(Auth(b"PLAIN", base64.b64encode(b"\0aurora\0" + SECRET))), Challenge(SECRET)]
    steps += [KEYS[SECRET], CramKeys(key_states(SECRET)), key_states(SECRET)]

    for step in steps:
        assert "staple" not in repr(step)
        assert not any(isinstance(value, bytes) and repr(value) in repr(step) for value in (KEYS[SECRET].stored,))
