"""Two ends of a session agree, whatever the cutting; what breaks the protocol is answered and never desynchronises."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.talk import GO, MAIL, NO, OK, A, B, talk_in

from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import (
    Atrn,
    Auth,
    AuthResponse,
    Bdat,
    Closed,
    Content,
    Data,
    EndOfChunk,
    EndOfData,
    Etrn,
    Event,
    Expn,
    Helo,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
    Request,
    Rset,
    StartTls,
    Violation,
    Vrfy,
    Xforward,
)
from bsmtp_batch.wire.session import Protocol, Reading, Role, Session, State
from bsmtp_batch.wire.verbs import MAX_AUTH

SMTP, LMTP = Protocol.SMTP, Protocol.LMTP

REQUESTS: list[tuple[Protocol, State, Request, bytes]] = [
    (SMTP, State.START, Helo(b"me.example"), b"EHLO me.example\r\n"),
    (SMTP, State.START, Helo(b"me.example", extended=False), b"HELO me.example\r\n"),
    (LMTP, State.START, Helo(b"me.example"), b"LHLO me.example\r\n"),
    (SMTP, State.START, Quit(), b"QUIT\r\n"),
    (SMTP, State.READY, MailFrom(Mail(b"")), b"MAIL FROM:<>\r\n"),
    (LMTP, State.READY, MailFrom(Mail(b"a@b", ((b"SIZE", b"9"),))), b"MAIL FROM:<a@b> SIZE=9\r\n"),
    (SMTP, State.READY, StartTls(), b"STARTTLS\r\n"),
    (SMTP, State.READY, Auth(b"CRAM-MD5"), b"AUTH CRAM-MD5\r\n"),
    (SMTP, State.READY, Auth(b"PLAIN", b"AGEAYg=="), b"AUTH PLAIN AGEAYg==\r\n"),
    (SMTP, State.AUTH, AuthResponse(b"Ym9i"), b"Ym9i\r\n"),
    (SMTP, State.AUTH, AuthResponse(b"*"), b"*\r\n"),
    (SMTP, State.READY, Atrn(), b"ATRN\r\n"),
    (SMTP, State.READY, Atrn((b"a.example", b"b.example")), b"ATRN a.example,b.example\r\n"),
    (SMTP, State.READY, Etrn(b"a.example", b"@"), b"ETRN @a.example\r\n"),
    (SMTP, State.READY, Noop(b"id 7"), b"NOOP id 7\r\n"),
    (
        LMTP,
        State.READY,
        Xforward(((b"IDENT", b"4F k"), (b"NAME", b""))),
        b"XFORWARD IDENT=4F+20k NAME=[UNAVAILABLE]\r\n",
    ),
    (SMTP, State.READY, Vrfy(b"root"), b"VRFY root\r\n"),
    (SMTP, State.READY, Expn(b"staff"), b"EXPN staff\r\n"),
    (SMTP, State.READY, Help(), b"HELP\r\n"),
    (LMTP, State.MAIL, RcptTo(Rcpt(b"a@b", ((b"NOTIFY", b"NEVER"),))), b"RCPT TO:<a@b> NOTIFY=NEVER\r\n"),
    (SMTP, State.RCPT, Data(), b"DATA\r\n"),
    (SMTP, State.RCPT, Rset(), b"RSET\r\n"),
    (SMTP, State.CONTENT, EndOfData(), b".\r\n"),
    (LMTP, State.CONTENT, EndOfData(), b".\r\n"),
]

SWITCHING = (StartTls, Atrn)


@pytest.mark.parametrize(("protocol", "state", "event", "data"), REQUESTS)
def test_request_is_the_same_in_both_directions(protocol: Protocol, state: State, event: Request, data: bytes) -> None:
    assert talk_in(state, protocol).client.send(event) == data
    assert talk_in(state, protocol).server.receive(data) == [event]
    slow = talk_in(state, protocol).server
    for octet in data[:-1]:
        assert slow.receive(bytes([octet])) == []
        assert slow.reading is Reading.NEED_MORE
    assert slow.receive(data[-1:]) == [event]
    assert slow.reading is Reading.ANSWER_FIRST


@pytest.mark.parametrize(
    ("protocol", "state", "event", "data"), [row for row in REQUESTS if not isinstance(row[2], SWITCHING)]
)
def test_what_was_sent_ahead_waits_for_the_reply(protocol: Protocol, state: State, event: Request, data: bytes) -> None:
    server = talk_in(state, protocol).server
    assert server.receive(data + b"NOOP\r\n") == [event]
    for _ in server.due:
        server.send(NO)
    after = [] if isinstance(event, Quit) else [Noop()]
    assert server.resume() == after


@pytest.mark.parametrize("protocol", list(Protocol))
def test_one_message_from_end_to_end_pipelined(protocol: Protocol) -> None:
    talk = talk_in(State.READY, protocol)
    assert talk.ask(MAIL, A, B, A, Data()) == [MAIL]
    for reply, following in [(OK, A), (OK, B), (NO, A), (OK, Data())]:
        talk.tell(reply)
        assert talk.read == [following]
    talk.tell(GO)
    assert talk.client.content_due
    assert talk.client.recipients == talk.server.recipients == (A.rcpt, A.rcpt)
    body = b"Subject: x\r\n\r\n..\r\n"
    # The content heads the next group: its dot, and the next message behind it.
    assert talk.server.receive(body + talk.client.send(EndOfData()) + talk.client.send(MAIL)) == [
        Content(body),
        EndOfData(),
    ]
    wanted = (A.rcpt, A.rcpt) if protocol is LMTP else (None,)
    assert talk.server.due == talk.client.due == wanted
    verdicts = [talk.tell(OK)[0] for _ in wanted]
    assert [verdict.rcpt for verdict in verdicts if isinstance(verdict, Reply)] == list(wanted)
    assert [verdict.request for verdict in verdicts if isinstance(verdict, Reply)] == [EndOfData() for _ in wanted]
    assert talk.read == [MAIL]


@pytest.mark.parametrize("protocol", list(Protocol))
def test_no_text_is_due_while_the_dot_before_is_unanswered(protocol: Protocol) -> None:
    """Both sides stand in a text then, the one in the next, the other still in the last."""
    talk = talk_in(State.READY, protocol)
    talk.ask(MAIL, A, Data())
    for reply in (OK, OK, GO):
        talk.tell(reply)
    ahead = [EndOfData(), MAIL, B, Data()]
    talk.server.receive(b"".join(talk.client.send(request) for request in ahead))
    assert talk.client.our_state is talk.client.their_state is State.CONTENT
    due = []
    for reply in (OK, OK, OK, GO):
        due.append(talk.client.content_due)
        talk.tell(reply)
    assert due == [False] * 4
    assert talk.client.content_due
    assert talk.client.recipients == (B.rcpt,)


def test_354_although_nobody_was_accepted_gets_a_lone_dot() -> None:
    client = talk_in(State.READY).client
    for request in (MAIL, A, Data()):
        client.send(request)
    client.receive(b"250 ok\r\n550 no\r\n354 go ahead\r\n")
    assert client.content_due
    assert client.recipients == ()
    assert client.send(EndOfData()) == b".\r\n"
    assert client.receive(b"554 no valid recipients\r\n")[0] == Reply(554, b"", b"no valid recipients")
    assert client.our_state is State.READY


def test_server_that_refused_the_sender_refuses_what_was_sent_ahead() -> None:
    server = talk_in(State.READY).server
    assert server.receive(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nNOOP\r\n") == [MailFrom(Mail(b"a@b"))]
    out = server.send(NO)
    for _ in range(2):
        (violation,) = server.resume()
        assert isinstance(violation, Violation)
        out += server.send(violation.reply)
    assert [line[:3] for line in out.splitlines()] == [b"550", b"503", b"503"]
    assert server.resume() == [Noop()]


def test_data_without_a_valid_recipient_is_refused_in_lmtp_as_the_standard_wants() -> None:
    server = talk_in(State.MAIL, LMTP).server
    (violation,) = server.receive(b"DATA\r\n")
    assert isinstance(violation, Violation)
    assert violation.reply.code == 503


BAD_LINES = [
    (b"x" * 100_000 + b"\r\n", 500),
    (b"NOOP\0\r\n", 500),
    (b"NOOP\n", 500),
    (b"NOOP\rNOOP\r\n", 500),
    (b"FOO bar\r\n", 500),
    (b"MAIL FROM:<a b>\r\n", 501),
    (b"RCPT TO:<a@b>\r\n", 503),
    (b"DATA\r\n", 503),
    (b"BDAT 6\r\nQUIT\r\n", 503),
    (b"BDAT 6 LAST\r\nQUIT\r\n", 503),
    (b"\xff\xfe\r\n", 500),
]


@pytest.mark.parametrize(("data", "code"), BAD_LINES)
@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_bad_line_gets_one_reply_and_the_next_command_is_understood(data: bytes, code: int, step: int) -> None:
    server = talk_in(State.READY).server
    stream = data + b"NOOP\r\n"
    step = max(step, len(data) // 100)
    events: list[Event] = []
    for at in range(0, len(stream), step):
        events += server.receive(stream[at : at + step])
        while server.reading is Reading.ANSWER_FIRST:
            last = events[-1]
            server.send(last.reply if isinstance(last, Violation) else OK)
            events += server.resume()
    violation, following = events
    assert isinstance(violation, Violation)
    assert (violation.reply.code, violation.fatal) == (code, False)
    assert following == Noop()


def test_hundred_megabyte_command_line_is_refused_in_constant_memory() -> None:
    server = talk_in(State.READY).server
    piece = b"MAIL FROM:<" + b"x" * (1 << 20)
    for _ in range(100):
        assert server.receive(piece) == []
        assert len(server._buffer) == 0
    (violation,) = server.receive(b">\r\n")
    assert isinstance(violation, Violation)
    assert violation.reply.code == 500


def test_the_end_of_an_overlong_line_is_no_command_of_its_own() -> None:
    server = talk_in(State.READY).server
    assert server.receive(b"NOOP " + b"x" * MAX_AUTH) == []
    (violation,) = server.receive(b"MAIL FROM:<a@b.example>\r\n")
    assert isinstance(violation, Violation)
    server.send(violation.reply)
    assert server.receive(b"MAIL FROM:<a@b.example>\r\n") == [MailFrom(Mail(b"a@b.example"))]


def test_chunks_make_a_message_without_any_stuffing() -> None:
    talk = talk_in(State.RCPT, LMTP)
    client, server = talk.client, talk.server
    first = client.send(Bdat(5)) + client.send(Content(b"\r\n.\r\n"))
    last = client.send(Bdat(3, last=True)) + client.send(Content(b"end"))
    assert server.receive(first + last) == [Bdat(5), Content(b"\r\n.\r\n"), EndOfChunk(last=False)]
    talk.tell(OK)
    assert talk.read == [Bdat(3, last=True), Content(b"end"), EndOfChunk(last=True)]
    assert server.due == (A.rcpt,)
    talk.tell(OK)
    assert client.our_state is server.our_state is State.READY


def test_chunk_that_was_not_offered_is_read_past_and_refused() -> None:
    server = Session(Role.SERVER)
    server.send(Reply(220))
    server.receive(b"EHLO me\r\n")
    server.send(Reply(250, b"", b"hub\nPIPELINING"))
    for line in (b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n"):
        server.receive(line)
        server.send(OK)
    assert server.receive(b"BDAT 16 LAST\r\nMAIL FROM:<x@y>") == []
    (violation,) = server.receive(b"\nQUIT\r\n")
    assert isinstance(violation, Violation)
    assert violation.reply.code == 502
    server.send(violation.reply)
    assert server.resume() == [Quit()]


@pytest.mark.parametrize(
    ("state", "before", "early"),
    [
        (State.READY, b"", False),
        (State.READY, b"NOO", True),
        (State.CONTENT, b"", True),
        (State.CONTENT, b"text\r\n.\r", True),
        (State.RCPT, b"BDAT 5\r\nab", True),
    ],
)
def test_end_of_input_is_told_once_and_says_if_something_was_cut(state: State, before: bytes, early: bool) -> None:
    server = talk_in(state).server
    if before:
        server.receive(before)
    assert server.receive(b"")[-1] == Closed(early)
    assert server.receive(b"") == server.receive(b"NOOP\r\n") == []
    assert server.reading is Reading.ENDED


def test_commands_before_the_end_of_input_are_still_answered() -> None:
    server = talk_in(State.READY).server
    assert server.receive(b"NOOP\r\nQUIT\r\n") == [Noop()]
    assert server.receive(b"") == []
    server.send(OK)
    assert server.resume() == [Quit()]
    server.send(Reply(221))
    assert server.resume() == [Closed(early=False)]


def test_client_learns_that_the_verdict_never_came() -> None:
    client = talk_in(State.CONTENT, LMTP).client
    client.send(EndOfData())
    assert client.timeout == 600
    assert "more than once" in client.doing
    assert client.receive(b"250") == []
    assert client.receive(b"") == [Closed(early=True)]
    assert client.unanswered == (EndOfData(),)
    assert client.due == (A.rcpt,)


def test_time_outs_follow_the_standard() -> None:
    assert Session(Role.CLIENT).timeout == 300
    assert Session(Role.CLIENT).doing == "receiving the greeting"
    content = talk_in(State.CONTENT)
    assert (content.client.timeout, content.server.timeout) == (180, 300)
    assert (content.client.doing, content.server.doing) == ("sending content", "receiving content")
    data = talk_in(State.RCPT).client
    data.send(Data())
    assert data.timeout == 120


def served(pieces: list[bytes]) -> list[Event]:
    """What a server gives for ``pieces``, content joined, answering everything with yes."""
    server = talk_in(State.READY).server
    seen: list[Event] = []
    for piece in [*pieces, b""]:
        events = server.receive(piece)
        while events:
            for event in events:
                if isinstance(event, Content) and seen and isinstance(seen[-1], Content):
                    seen[-1] = Content(seen[-1].data + event.data)
                    continue
                seen.append(event)
                if isinstance(event, Violation):
                    server.send(event.reply)
                elif isinstance(event, EndOfChunk) or (isinstance(event, Request) and not isinstance(event, Bdat)):
                    # A switch would make what follows depend on when it came, as it has to.
                    server.send(GO if isinstance(event, Data) else NO if isinstance(event, SWITCHING) else OK)
            events = server.resume()
    return seen


PARTS = [
    b"MAIL FROM:<a@b>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"DATA\r\n",
    b"text\r\n",
    b".\r\n",
    b".",
    b"\r",
    b"\n",
    b"\r\n",
    b"BDAT 3\r\n",
    b"BDAT 0 LAST\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"AUTH X\r\n",
    b"\0",
    b"x" * 3000,
    b"QUIT\r\n",
]


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_cutting_gives_the_same_events(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if a < b]
    assert served(pieces) == served([data] if data else [])


@given(st.sampled_from(list(Protocol)), st.sampled_from(list(Role)), st.lists(st.binary(max_size=40), max_size=6))
def test_garbage_never_raises(protocol: Protocol, role: Role, pieces: list[bytes]) -> None:
    talk = talk_in(State.READY, protocol)
    session = talk.client if role is Role.CLIENT else talk.server
    for piece in pieces:
        for event in session.receive(piece):
            if isinstance(event, Violation) and role is Role.SERVER:
                session.send(event.reply)
        session.resume()


_STREAM = [
    b"LHLO me\r\n",
    b"MAIL FROM:<a@b.example> SIZE=4\r\n",
    b"MAIL FROM:<a@b.example> size=4\r\n",
    b"RCPT TO:<c@d.example>\r\n",
    b"RCPT TO:<c@d>>\r\n",
    b"DATA\r\n",
    b"x\r\n.\r\n",
    b"BDAT 3 LAST\r\nabc",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"NOOP\n",
    b"\r\n",
    b"A" * 3000 + b"\r\n",
]


def heard(data: list[bytes]) -> list[object]:
    """What a server of LMTP gets out of ``data``, each piece one read, with the content put together."""
    session = Session(Role.SERVER, LMTP)
    session.send(Reply(220, b"", b"hub"))
    found: list[object] = []
    for piece in data:
        events = session.receive(piece)
        while events:
            for event in events:
                found.append(event)
                if isinstance(event, Content):
                    before = found[-2] if len(found) > 1 else None
                    if isinstance(before, bytes):
                        found[-2:] = [before + event.data]
                    else:
                        found[-1] = event.data
                elif isinstance(event, EndOfChunk):
                    for _ in session.due:
                        session.send(OK)
                elif isinstance(event, Helo):
                    session.send(Reply(250, b"", b"hub\nPIPELINING\nCHUNKING"))
                elif isinstance(event, Data):
                    session.send(GO)
                elif isinstance(event, Violation):
                    session.send(event.reply)
                elif not isinstance(event, Bdat | Closed):
                    for _ in session.due:
                        session.send(OK)
            events = session.resume()
    return found


@given(st.lists(st.sampled_from(_STREAM), max_size=12), st.randoms(use_true_random=False))
def test_a_server_hears_the_same_however_the_octets_are_cut(lines: list[bytes], random: Random) -> None:
    whole = b"".join([_STREAM[0], *lines])
    places = sorted(random.randrange(len(whole) + 1) for _ in range(random.randrange(8)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True) if b > a]

    assert heard([_STREAM[0], *lines]) == heard(pieces) == heard([whole]) == heard([bytes([o]) for o in whole])
