"""Who broke the protocol is known, and that side stays broken."""

from __future__ import annotations

import pytest
from support.talk import MAIL, NO, OK, A, talk_in

from bsmtp_batch.wire.events import (
    Closed,
    Connect,
    Content,
    EndOfData,
    Event,
    LocalProblem,
    Reply,
    Verb,
    Violation,
)
from bsmtp_batch.wire.session import Reading, State


def test_side_that_broke_the_protocol_stays_in_error() -> None:
    client = talk_in(State.READY).client
    assert client.allows(Verb.MAIL)
    assert not client.allows(Verb.RCPT)
    with pytest.raises(LocalProblem) as caught:
        client.send(A)
    assert caught.value.reply.code == 421
    assert client.our_state is State.ERROR
    with pytest.raises(LocalProblem):
        client.send(MAIL)


def test_server_that_slipped_may_still_say_421() -> None:
    server = talk_in(State.READY).server
    with pytest.raises(LocalProblem) as caught:
        server.send(OK)
    with pytest.raises(LocalProblem):
        server.send(NO)
    assert server.send(caught.value.reply).startswith(b"421 ")
    assert server.our_state is State.CLOSED


@pytest.mark.parametrize("event", [Content(b"x"), OK, Closed(early=False), Connect(), Violation(NO, "x")])
def test_client_sends_requests_only(event: Event) -> None:
    with pytest.raises(LocalProblem):
        talk_in(State.READY).client.send(event)


@pytest.mark.parametrize("data", [b"hello\r\n", b"250 unasked\r\n", b"250-a\r\n251 b\r\n", b"\x16\x03\x01\r\n"])
def test_client_believes_nothing_from_a_server_out_of_step(data: bytes) -> None:
    client = talk_in(State.READY).client
    (violation,) = client.receive(data + b"250 more\r\n")
    assert isinstance(violation, Violation)
    assert violation.fatal
    assert str(violation.problem)
    assert client.their_state is State.ERROR
    assert client.receive(b"250 ok\r\n") == []
    with pytest.raises(LocalProblem):
        client.send(MAIL)


def test_421_out_of_the_blue_and_a_verdict_in_mid_content_end_the_session() -> None:
    idle = talk_in(State.READY).client
    (reply,) = idle.receive(b"421 4.4.2 idle too long\r\n")
    assert isinstance(reply, Reply)
    assert reply.request is None
    assert idle.reading is Reading.ENDED
    talk = talk_in(State.CONTENT)
    talk.server.receive(b"too mu")
    early = talk.client.receive(talk.server.send(Reply(552, b"5.3.4", b"too big")))
    assert early == [Reply(552, b"5.3.4", b"too big")]
    with pytest.raises(LocalProblem):
        talk.client.send(EndOfData())


def test_after_a_fatal_fault_nothing_more_is_kept_or_read() -> None:
    server = talk_in(State.RCPT).server
    (violation,) = server.receive(b"BDAT many\r\nMAIL FROM:<forged@example.org>\r\n")
    assert isinstance(violation, Violation)
    assert violation.fatal
    assert server.receive(b"x" * 1000) == []
    assert server.trailing() == b""
    assert server.send(violation.reply).startswith(b"501 ")
    assert server.resume() == []
    assert server.reading is Reading.ENDED
    assert server.their_state is State.ERROR
