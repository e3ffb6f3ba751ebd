"""Turning round, TLS and login change who may speak; nobody gets a word in between."""

from __future__ import annotations

import pytest
from support.talk import GO, MAIL, OFFER, OK, A, talk_in

from bsmtp_batch.wire.events import (
    Atrn,
    AuthResponse,
    Connect,
    Content,
    Data,
    EndOfData,
    Helo,
    LocalProblem,
    Noop,
    Quit,
    Reply,
    StartTls,
    Violation,
)
from bsmtp_batch.wire.session import Reading, Role, State

SWITCHING = (StartTls, Atrn)


def test_login_in_several_steps_and_only_once() -> None:
    talk = talk_in(State.AUTH)
    assert talk.ask(AuthResponse(b"dQ==")) == [AuthResponse(b"dQ==")]
    talk.tell(Reply(334, b"", b"UGFzc3dvcmQ6"))
    talk.ask(AuthResponse(b"cA=="))
    talk.tell(Reply(235, b"2.7.0", b"welcome"))
    assert talk.client.authenticated
    assert talk.server.authenticated
    (violation,) = talk.server.receive(b"AUTH PLAIN\r\n")
    assert isinstance(violation, Violation)
    assert violation.reply.code == 503


def test_line_that_is_no_response_ends_the_login() -> None:
    server = talk_in(State.AUTH).server
    (violation,) = server.receive(b"not base64\r\n")
    assert isinstance(violation, Violation)
    server.send(violation.reply)
    assert server.receive(b"NOOP\r\n") == [Noop()]


def test_connection_turns_round_and_mail_flows_the_other_way() -> None:
    talk = talk_in(State.READY)
    customer, provider = talk.client, talk.server
    talk.ask(Atrn((b"customer.example",)))
    talk.tell(OK)
    assert customer.reading is provider.reading is Reading.PAUSED
    talk.turn()
    assert (talk.client, talk.server) == (provider, customer)
    assert (provider.role, customer.role) == (Role.CLIENT, Role.SERVER)
    assert provider.extensions == {}
    talk.tell(Reply(220, b"", b"customer.example ready"))
    for request, reply in [(Helo(b"provider"), OFFER), (MAIL, OK), (A, OK), (Data(), GO)]:
        assert talk.ask(request) == [request]
        talk.tell(reply)
    assert customer.receive(b"hello\r\n" + provider.send(EndOfData())) == [Content(b"hello\r\n"), EndOfData()]
    talk.tell(OK)
    (violation,) = customer.receive(b"ATRN\r\n")
    assert isinstance(violation, Violation)
    assert violation.reply.code == 503
    with pytest.raises(LocalProblem):
        provider.send(Atrn())


def test_what_a_hasty_provider_sent_behind_its_250_is_kept_for_the_new_direction() -> None:
    customer = talk_in(State.READY).client
    customer.send(Atrn())
    assert customer.receive(b"250 ok\r\nEHLO provider\r\n") == [Reply(250, b"", b"ok")]
    customer.turn()
    assert customer.resume() == []
    assert customer.unanswered == (Connect(),)
    customer.send(Reply(220, b"", b"customer"))
    assert customer.resume() == [Helo(b"provider")]


def test_refused_atrn_leaves_everything_as_it_was() -> None:
    talk = talk_in(State.READY)
    talk.ask(Atrn())
    talk.tell(Reply(453, b"4.0.0", b"You have no mail"))
    assert talk.ask(Quit()) == [Quit()]


def test_250_to_atrn_of_two_lines_is_never_sent() -> None:
    talk = talk_in(State.READY)
    talk.ask(Atrn())
    with pytest.raises(LocalProblem, match="one line"):
        talk.server.send(Reply(250, b"", b"two\nlines"))


@pytest.mark.parametrize("command", [b"STARTTLS\r\n", b"ATRN\r\n"])
@pytest.mark.parametrize("together", [True, False])
def test_bytes_sent_ahead_of_a_switch_end_the_session(command: bytes, together: bool) -> None:
    server = talk_in(State.READY).server
    pieces = [command + b"MAIL FROM:<a@b>\r\n"] if together else [command, b"M"]
    events = [event for piece in pieces for event in server.receive(piece)]
    request, violation = events
    assert isinstance(request, SWITCHING)
    assert isinstance(violation, Violation)
    assert violation.fatal
    assert server.their_state is State.ERROR
    assert server.send(violation.reply).startswith(b"554 ")
    assert server.receive(b"NOOP\r\n") == []
    assert server.reading is Reading.ENDED


@pytest.mark.parametrize("step", [1, 100])
def test_words_injected_between_220_and_tls_are_not_believed(step: int) -> None:
    client = talk_in(State.READY).client
    client.send(StartTls())
    data = b"220 go ahead\r\n250 2.0.0 all is well\r\n"
    events = [event for at in range(0, len(data), step) for event in client.receive(data[at : at + step])]
    assert events[0] == Reply(220, b"", b"go ahead")
    assert isinstance(events[1], Violation)
    assert events[1].fatal
    assert len(events) == 2
    with pytest.raises(LocalProblem):
        client.upgraded()


def test_tls_forgets_everything_on_both_sides() -> None:
    talk = talk_in(State.READY)
    talk.ask(StartTls())
    talk.tell(Reply(220, b"2.0.0", b"go ahead"))
    assert talk.server.receive(b"\x16\x03\x01") == []
    assert talk.server.trailing() == b"\x16\x03\x01"
    assert talk.server.receive(b"MAIL FROM:<left@over>\r\n") == []
    talk.client.upgraded()
    talk.server.upgraded()
    assert talk.server.resume() == []
    assert talk.client.secure
    assert talk.client.extensions == {}
    (violation,) = talk.server.receive(b"MAIL FROM:<a@b>\r\n")
    assert isinstance(violation, Violation)
    with pytest.raises(LocalProblem):
        talk.client.send(MAIL)
