"""A session before the turn: what is offered, what is refused, and what nobody learns."""

from __future__ import annotations

import base64
import re

import pytest
from support.accounts import SECRET, seeded
from support.desk import HELLO, MAIL, Desk, plain

from bsmtp_batch.reception.contract import Limits
from bsmtp_batch.server.hub import PAUSE, Next
from bsmtp_batch.server.outbound import BUSY, FAULT, FOREIGN, NOTHING
from bsmtp_batch.wire.events import Auth, AuthResponse
from bsmtp_batch.wire.sasl.client import ClientLogin
from bsmtp_batch.wire.sasl.values import Certificate


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path, secure=True)


@pytest.fixture
def inside(desk):
    """A client that has logged in."""
    assert desk.codes(HELLO + plain()) == [250, 235]
    return desk


def offers(out):
    return {line[4:] for line in out.split(b"\r\n") if line.startswith(b"250")}


# --- what is offered --------------------------------------------------------------------------------------------------


def test_a_client_that_looks_for_atrn_before_it_logs_in_finds_it(desk):
    found = offers(desk.say(HELLO))

    assert b"ATRN" in found
    assert {b"AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN", b"XSTAY", b"ETRN"} <= found
    assert not any(line.startswith((b"SIZE", b"STARTTLS")) for line in found)


def test_no_password_is_asked_for_in_the_clear(tmp_path):
    desk = Desk(tmp_path)

    found = offers(desk.say(HELLO))

    assert {b"STARTTLS", b"AUTH SCRAM-SHA-256 CRAM-MD5"} <= found
    for guess in (plain(), plain("nobody"), b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\n"):
        assert desk.codes(guess) == [538]
    assert desk.session.account is None


def test_a_listener_may_say_that_passwords_go_in_the_clear(tmp_path):
    desk = Desk(tmp_path, clear=True)

    assert b"AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN" in offers(desk.say(HELLO))
    assert desk.codes(plain()) == [235]


def test_what_is_not_offered_is_not_done(tmp_path):
    desk = Desk(tmp_path, starttls=False, etrn=False)

    assert not offers(desk.say(HELLO)) & {b"STARTTLS", b"ETRN"}
    assert desk.codes(b"STARTTLS\r\n", b"ETRN site.example\r\n", b"AUTH GSSAPI\r\n") == [502, 502, 504]
    assert desk.triggers.asked == []


# --- before the login ---------------------------------------------------------------------------------------------


def test_nobody_gets_mail_or_hands_any_in_without_a_login(desk):
    out = desk.codes(HELLO, b"ATRN\r\n", b"ATRN site.example\r\n", b"MAIL FROM:<a@x.org>\r\n", b"RCPT TO:<b@y>\r\n")

    assert out == [250, 530, 530, 530, 503]
    assert desk.outbound.asked == []
    assert desk.sinks == {}


@pytest.mark.parametrize("reply", [None, NOTHING, FOREIGN, BUSY, FAULT])
def test_a_stranger_does_not_learn_whether_mail_waits(tmp_path, reply):
    desk = Desk(tmp_path, secure=True)
    desk.outbound.reply = reply

    out = desk.say(HELLO, b"ATRN site.example\r\n", plain(secret="x" * 20), b"ATRN site.example\r\n", plain("nobody"))

    refused = b"530 5.7.0 authentication required\r\n"
    wrong = b"535 5.7.8 authentication failed\r\n"
    assert out.endswith(refused + wrong + refused + wrong)


def test_the_same_answer_to_every_wrong_proof_and_three_of_them_end_it(desk):
    out = desk.say(HELLO, plain(secret="wrong"), plain("nobody"), plain("boreas", "also wrong"), plain())

    said = out.split(b"\r\n")[-5:]
    assert said[:3] == [b"535 5.7.8 authentication failed"] * 3
    assert said[3].startswith(b"421 ")
    assert desk.session.next is Next.CLOSE
    assert desk.pauses == [PAUSE] * 3
    assert desk.session.account is None


def test_a_command_sent_ahead_does_not_take_the_pause_away(desk):
    desk.say(HELLO, plain(secret="wrong") + b"NOOP\r\n" + plain(secret="wrong") + b"NOOP\r\n")

    assert desk.pauses == [PAUSE] * 2


def test_guesses_before_and_behind_starttls_are_counted_together(tmp_path):
    desk = Desk(tmp_path, clear=True)

    assert desk.codes(HELLO, plain(secret="wrong"), plain(secret="wrong"), b"STARTTLS\r\n") == [250, 535, 535, 220]
    assert desk.codes(HELLO, plain(secret="wrong")) == [250, 535, 421]


def test_what_is_no_proof_is_no_guess(desk):
    junk = [b"AUTH PLAIN !!!\r\n", b"AUTH PLAIN AAAA\r\n", b"AUTH CRAM-MD5 AAAA\r\n", b"AUTH\r\n", b"AUTH XX\r\n"]

    assert desk.codes(HELLO, *junk, plain()) == [250, 501, 501, 501, 501, 504, 235]


def test_a_login_can_be_given_up_and_begun_anew(desk):
    assert desk.codes(HELLO, b"AUTH CRAM-MD5\r\n", b"*\r\n", b"AUTH LOGIN\r\n", b"no base64\r\n", plain()) == [
        250, 334, 501, 334, 501, 235,
    ]  # fmt: skip


def test_accounts_that_cannot_be_looked_at_are_a_reason_to_come_back(tmp_path, desk):
    (tmp_path / "secrets").chmod(0o644)

    assert desk.codes(HELLO, plain(), plain(), plain(), plain(), b"NOOP\r\n") == [250, 454, 454, 454, 454, 250]


@pytest.mark.parametrize("mechanism", [b"SCRAM-SHA-256", b"CRAM-MD5", b"PLAIN", b"LOGIN"])
@pytest.mark.parametrize("right", [True, False])
def test_every_mechanism_lets_in_who_has_the_secret_and_nobody_else(desk, mechanism, right):
    client = ClientLogin(
        mechanism, b"aurora", (SECRET if right else "no" + SECRET).encode(), nonce=base64.b64encode(seeded(9)(18))
    )
    desk.say(HELLO)
    request = client.start()
    while request is not None:
        match request:
            case Auth(name, initial):
                line = b"AUTH " + name + (b" " + initial if initial is not None else b"")
            case AuthResponse(data):
                line = data
        said = desk.say(line + b"\r\n")
        request = client.answer(reply_of(said))

    assert (desk.session.account == "aurora") is right
    assert desk.codes(b"ATRN\r\n") == [250 if right else 530]


def reply_of(said):
    from bsmtp_batch.wire.events import Reply

    code, _, rest = said.removesuffix(b"\r\n").partition(b" ")
    status, _, text = rest.partition(b" ")
    if re.fullmatch(rb"\d\.\d\.\d+", status):
        return Reply(int(code), status, text)
    return Reply(int(code), b"", rest)


@pytest.mark.parametrize(
    ("names", "code"), [(("aurora.example",), 235), (("other.example",), 535), ((), 535), (None, 504)]
)
def test_a_certificate_stands_for_the_account_that_names_it(tmp_path, names, code):
    certificate = Certificate("0" * 64, names) if names is not None else None
    desk = Desk(tmp_path, secure=True, certificate=certificate)

    assert (b"EXTERNAL" in desk.say(HELLO)) is (names is not None)
    assert desk.codes(b"AUTH EXTERNAL =\r\n") == [code]
    assert desk.session.account == ("aurora" if code == 235 else None)


# --- behind the login ---------------------------------------------------------------------------------------------


def test_one_login_is_enough(inside):
    assert inside.codes(plain(), b"AUTH CRAM-MD5\r\n", b"ATRN\r\n") == [503, 503, 250]


def test_the_turn_is_said_in_one_line_and_to_the_account_that_logged_in(inside):
    out = inside.say(b"atrn Site.example,second.example\r\n")

    assert out.count(b"\r\n") == 1
    assert out.startswith(b"250 ")
    assert inside.session.next is Next.TURN
    assert inside.outbound.asked == [("aurora", (b"Site.example", b"second.example"), False)]


@pytest.mark.parametrize(("reply", "code"), [(FOREIGN, 450), (BUSY, 451), (FAULT, 451), (NOTHING, 453)])
def test_a_refused_turn_leaves_the_session_as_it_was(inside, reply, code):
    inside.outbound.reply = reply

    assert inside.codes(b"ATRN\r\n", b"NOOP\r\n") == [code, 250]
    assert inside.session.turn is None
    inside.outbound.reply = None
    assert inside.codes(b"ATRN\r\n") == [250]


@pytest.mark.parametrize(
    "argument", [b"localhost", b"a.b, c.d", b"a..b", b".a.b", b"a.b.", b"a.b,", b"a_b.c", b"\xc3\xa9.org", b"a.b;c.d"]
)
def test_what_is_no_list_of_domains_is_never_looked_up(inside, argument):
    assert inside.codes(b"ATRN " + argument + b"\r\n", b"NOOP\r\n") == [501, 250]
    assert inside.outbound.asked == []


def test_ten_thousand_names_are_a_line_that_is_too_long_and_the_next_one_is_read(inside):
    names = b",".join(b"d%d.example" % number for number in range(10_000))

    assert inside.codes(b"ATRN " + names + b"\r\n", b"NOOP\r\n") == [500, 250]
    assert inside.outbound.asked == []


def test_atrn_within_a_message_is_refused(inside):
    assert inside.codes(b"MAIL FROM:<a@x.org>\r\n", b"ATRN\r\n", b"RSET\r\n", b"ATRN\r\n") == [250, 503, 250, 250]


def test_an_account_hands_in_mail_under_its_own_name(inside):
    assert inside.codes(HELLO, MAIL, b"..dot\r\n.\r\n", b"ATRN\r\n") == [250, 250, 250, 354, 250, 250]
    assert inside.sinks == {"aurora": [b"..dot\r\n"]}


def test_a_message_over_the_limit_is_refused_before_or_behind_its_content(tmp_path):
    desk = Desk(tmp_path, secure=True, limits=Limits(octets=1000))
    desk.say(HELLO, plain())

    assert b"SIZE 1000" in offers(desk.say(HELLO))
    assert desk.codes(b"MAIL FROM:<a@x.org> SIZE=1001\r\n") == [552]
    assert desk.codes(MAIL, b"x" * 70 + b"\r\n", *[b"x" * 998 + b"\r\n"] * 5, b".\r\n") == [250, 250, 354, 552]
    assert desk.codes(MAIL, b"small\r\n.\r\n") == [250, 250, 354, 250]
    assert desk.sinks == {"aurora": [b"small\r\n"]}


@pytest.mark.parametrize(("said", "stay"), [(b"XSTAY", True), (b"", False), (b"xstay please", False)])
def test_the_line_stays_open_only_for_who_asks_for_it(inside, said, stay):
    inside.say(b"NOOP " + said + b"\r\n", b"ATRN\r\n")

    assert inside.outbound.asked == [("aurora", (), stay)]


def test_who_talks_on_and_on_is_sent_away(inside):
    out = inside.codes(b"NOOP\r\n" * 200)

    assert out[-1] == 421
    assert len(out) < 110
    assert inside.session.next is Next.CLOSE


def test_a_fault_after_the_other_is_the_end(desk):
    out = desk.codes(HELLO, b"NO SUCH COMMAND\r\n" * 50)

    assert out[-1] == 421
    assert set(out[1:-1]) == {500}
    assert len(out) < 25


# --- triggers -----------------------------------------------------------------------------------------------------


def test_etrn_is_passed_on_with_who_asks(desk):
    asked = b"ETRN site.example\r\nETRN @site.example\r\nETRN #queue\r\n"
    assert desk.codes(HELLO + asked + plain() + b"ETRN site.example\r\n") == [250, 250, 250, 250, 235, 250]
    assert desk.triggers.asked == [
        (b"site.example", b"", "192.0.2.7", None),
        (b"site.example", b"@", "192.0.2.7", None),
        (b"queue", b"#", "192.0.2.7", None),
        (b"site.example", b"", "192.0.2.7", "aurora"),
    ]


@pytest.mark.parametrize("line", [b"ETRN", b"ETRN a b", b"ETRN \xff", b"ETRN a\tb"])
def test_what_is_no_name_starts_nothing(desk, line):
    assert desk.codes(HELLO, line + b"\r\n") == [250, 501]
    assert desk.triggers.asked == []


def test_who_connects_and_quits_has_knocked(desk):
    assert desk.codes(HELLO, b"QUIT\r\n") == [250, 221]
    assert desk.triggers.knocks == ["192.0.2.7"]


def test_who_is_cut_off_has_not_knocked(desk):
    desk.say(HELLO, b"")

    assert desk.triggers.knocks == []
    assert desk.session.next is Next.CLOSE


def test_who_logged_in_and_quits_has_not_knocked(inside):
    inside.say(b"QUIT\r\n")

    assert inside.triggers.knocks == []


# --- changes of the line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [b"STARTTLS", b"ATRN", b"ATRN site.example"])
@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"Q", b"\r\n", b"\0", b"220 site.example\r\n"])
def test_octets_behind_a_change_of_the_line_end_it_and_nothing_is_done(tmp_path, command, behind):
    desk = Desk(tmp_path, clear=True)
    desk.say(HELLO, *([plain()] if command.startswith(b"ATRN") else []))

    out = desk.say(command + b"\r\n" + behind)

    assert out.startswith(b"554 ")
    assert out.count(b"\r\n") == 1
    assert desk.session.next is Next.CLOSE
    assert desk.outbound.asked == []
    assert not desk.wire.secure
    assert desk.say(b"NOOP\r\n") == b""


def test_everything_said_before_tls_is_forgotten(tmp_path):
    desk = Desk(tmp_path, clear=True)

    assert desk.codes(HELLO, plain(), b"NOOP XSTAY\r\n", b"STARTTLS\r\n") == [250, 235, 250, 220]
    assert desk.codes(b"ATRN\r\n", b"MAIL FROM:<a@x.org>\r\n") == [503, 503]
    assert b"STARTTLS" not in desk.say(HELLO)
    assert desk.codes(b"ATRN\r\n", b"MAIL FROM:<a@x.org>\r\n", b"STARTTLS\r\n") == [530, 530, 503]
    assert desk.session.account is None
    assert desk.codes(plain(), b"ATRN\r\n") == [235, 250]
    assert desk.outbound.asked == [("aurora", (), False)]


def test_a_half_done_login_does_not_go_on_behind_tls(tmp_path):
    desk = Desk(tmp_path)

    assert desk.codes(HELLO, b"AUTH SCRAM-SHA-256\r\n", b"STARTTLS\r\n", b"STARTTLS\r\n") == [250, 334, 501, 220]
    assert desk.codes(HELLO, b"AAAA\r\n") == [250, 500]


# --- octets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk",
    [b"NOOP \0\r\n", b"NOOP\n", b"NO\rOP\r\n", b"N" * 9000 + b"\r\n", b"NOOP " + b"x" * 20_000 + b"\r\n", b"\r\n"],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_junk_gets_one_answer_and_what_follows_its_own(desk, junk, step):
    desk.say(HELLO)
    stream = junk + b"NOOP\r\n" + junk + b"QUIT\r\n"

    assert desk.codes(*(stream[at : at + step] for at in range(0, len(stream), step))) == [500, 250, 500, 221]
