"""The table is complete, knows no role, and both cursors move as the standards have it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from bsmtp_batch.wire import states
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import (
    Atrn,
    Auth,
    AuthResponse,
    Bdat,
    Connect,
    Data,
    EndOfData,
    Helo,
    LocalProblem,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
    Request,
    Rset,
    StartTls,
    Verb,
)
from bsmtp_batch.wire.states import DOING, GROUPED, TABLE, TIMEOUTS, Dialogue, State
from bsmtp_batch.wire.verbs import Protocol

OK = Reply(250)
GO = Reply(354)
NO = Reply(550)
A = RcptTo(Rcpt(b"a@example.org"))
B = RcptTo(Rcpt(b"b@example.org"))
MAIL = MailFrom(Mail(b"s@example.org"))
OFFER = Reply(250, b"", b"hub\nPIPELINING")


def ready(protocol: Protocol = Protocol.SMTP, *, pipelining: bool = True) -> Dialogue:
    dialogue = Dialogue(protocol, secure=False)
    dialogue.answer(Reply(220))
    dialogue.ask(Helo(b"me"))
    dialogue.answer(OFFER if pipelining else OK)
    return dialogue


def say(dialogue: Dialogue, *steps: Request | Reply) -> Dialogue:
    for step in steps:
        if isinstance(step, Reply):
            dialogue.answer(step)
        else:
            dialogue.ask(step)
    return dialogue


def where(dialogue: Dialogue) -> tuple[State, State]:
    return dialogue.asker, dialogue.answerer


def test_every_state_has_its_rows_and_every_state_can_be_reached() -> None:
    assert set(TABLE) == set(State)
    targets = {state for rows in TABLE.values() for row in rows.values() for state in row if state}
    assert targets | {State.GREETING, State.ERROR} == set(State)


def test_every_verb_has_a_time_out_and_words_for_the_log() -> None:
    assert set(TIMEOUTS) == set(DOING) == set(Verb)
    assert (TIMEOUTS[Verb.CONNECT], TIMEOUTS[Verb.MAIL], TIMEOUTS[Verb.RCPT]) == (300, 300, 300)
    assert (TIMEOUTS[Verb.DATA], states.BLOCK_TIMEOUT, TIMEOUTS[Verb.END]) == (120, 180, 600)
    assert "more than once" in DOING[Verb.END]


def test_the_table_is_ignorant_of_roles() -> None:
    assert "Role" not in inspect.getsource(states)


@pytest.mark.parametrize("state", [s for s in State if Verb.NOOP in TABLE[s]])
def test_rset_never_leaves_a_transaction_open_and_noop_changes_nothing(state: State) -> None:
    assert TABLE[state][Verb.RSET].ok in (State.START, State.READY)
    assert TABLE[state][Verb.NOOP].ok is state


STEPS: list[tuple[tuple[Request | Reply, ...], tuple[State, State]]] = [
    ((MAIL,), (State.MAIL, State.READY)),
    ((MAIL, A, Data()), (State.CONTENT, State.READY)),
    ((MAIL, A, Data(), OK, OK, GO), (State.CONTENT, State.CONTENT)),
    ((MAIL, A, Data(), OK, OK, GO, EndOfData(), MAIL), (State.MAIL, State.CONTENT)),
    ((MAIL, A, Data(), OK, OK, GO, EndOfData(), NO), (State.READY, State.READY)),
    ((MAIL, A, Data(), NO, NO, NO), (State.READY, State.READY)),
    ((MAIL, A, Data(), OK, NO, NO), (State.MAIL, State.MAIL)),
    ((MAIL, A, Data(), OK, NO, GO), (State.CONTENT, State.CONTENT)),
    ((MAIL, A, Data(), NO, NO, GO), (State.CONTENT, State.CONTENT)),
    ((MAIL, A, Data(), OK, OK, NO), (State.RCPT, State.RCPT)),
    ((MAIL, A, Bdat(3), Bdat(0, last=True), OK, OK, OK), (State.READY, State.CHUNKS)),
    ((MAIL, A, Bdat(3), Bdat(0, last=True), OK, OK, NO, NO), (State.READY, State.READY)),
    ((MAIL, A, Rset(), OK, OK, OK), (State.READY, State.READY)),
    ((StartTls(), Reply(220)), (State.TLS, State.TLS)),
    ((StartTls(), NO), (State.READY, State.READY)),
    ((Auth(b"PLAIN"), Reply(334)), (State.AUTH, State.AUTH)),
    ((Auth(b"PLAIN"), Reply(334), AuthResponse(b"AA=="), Reply(235)), (State.READY, State.READY)),
    ((Auth(b"PLAIN"), Reply(334), AuthResponse(b"*"), Reply(501)), (State.READY, State.READY)),
    ((Atrn(), Reply(250)), (State.TURN, State.TURN)),
    ((Atrn(), Reply(453)), (State.READY, State.READY)),
    ((Quit(), Reply(221)), (State.CLOSED, State.CLOSED)),
    ((MAIL, Reply(421)), (State.CLOSED, State.CLOSED)),
    ((Reply(421),), (State.CLOSED, State.CLOSED)),
    ((MAIL, A, Data(), OK, OK, GO, Reply(552)), (State.CLOSED, State.CLOSED)),
]


@pytest.mark.parametrize(("steps", "place"), STEPS)
def test_both_cursors_stand_where_the_standards_have_them(
    steps: tuple[Request | Reply, ...], place: tuple[State, State]
) -> None:
    assert where(say(ready(), *steps)) == place


@pytest.mark.parametrize(
    "steps",
    [
        (A,),
        (Data(),),
        (EndOfData(),),
        (AuthResponse(b"AA=="),),
        (Connect(),),
        (MAIL, OK, MAIL),
        (MAIL, OK, Data()),
        (MAIL, OK, A, NO, Data()),
        (MAIL, OK, Atrn()),
        (MAIL, OK, StartTls()),
        (MAIL, OK, A, OK, Data(), GO, Rset()),
        (MAIL, OK, A, OK, Bdat(1), OK, Data()),
        (MAIL, A, Data(), Rset()),
        (Noop(), MAIL),
        (Helo(b"x"), MAIL),
        (Quit(), Noop()),
        (StartTls(), Reply(220), Noop()),
        (Auth(b"X"), Reply(235), Auth(b"X")),
        (Auth(b"X"), Reply(334), MAIL),
        (Atrn(), Reply(250), Noop()),
    ],
)
def test_what_the_table_forbids_is_not_asked(steps: tuple[Request | Reply, ...]) -> None:
    dialogue = say(ready(), *steps[:-1])
    before = where(dialogue)
    with pytest.raises(LocalProblem):
        say(dialogue, steps[-1])
    assert where(dialogue) == before


@pytest.mark.parametrize(
    "steps",
    [
        (OK,),
        (NO,),
        (MAIL, GO),
        (MAIL, A, NO, OK),
        (MAIL, A, Data(), OK, OK, OK),
        (Auth(b"X"), Reply(334), AuthResponse(b""), Reply(354), OK),
        (StartTls(), Reply(334)),
        (MAIL, OK, A, OK, Data(), GO, OK),
    ],
)
def test_replies_without_a_place_break_the_protocol(steps: tuple[Request | Reply, ...]) -> None:
    dialogue = say(ready(), *steps[:-1])
    with pytest.raises(LocalProblem):
        say(dialogue, steps[-1])


def test_nobody_runs_ahead_where_pipelining_is_not_offered() -> None:
    with pytest.raises(LocalProblem, match="PIPELINING"):
        say(ready(pipelining=False), MAIL, A)


@pytest.mark.parametrize("verb", sorted(set(Verb) - GROUPED - {Verb.VIOLATION, Verb.CONNECT, Verb.END}))
def test_only_the_last_request_of_a_group_may_be_one_that_has_to_be_waited_for(verb: Verb) -> None:
    makers: dict[Verb, Callable[[], tuple[Request | Reply, ...]]] = {
        Verb.EHLO: lambda: (Helo(b"x"),),
        Verb.DATA: lambda: (MAIL, A, Data()),
        Verb.QUIT: lambda: (Quit(),),
        Verb.AUTH: lambda: (Auth(b"X"),),
        Verb.ATRN: lambda: (Atrn(),),
        Verb.STARTTLS: lambda: (StartTls(),),
    }
    steps = makers.get(verb, lambda: (Noop(),))()
    with pytest.raises(LocalProblem):
        say(ready(), *steps, Rset())


def test_lmtp_answers_the_dot_once_for_each_accepted_recipient_by_name() -> None:
    dialogue = say(ready(Protocol.LMTP), MAIL, A, B, A, Data(), OK, OK, NO, OK, GO, EndOfData(), MAIL)
    assert dialogue.due == (A.rcpt, A.rcpt)
    first, second = dialogue.answer(OK), dialogue.answer(NO)
    assert (first.rcpt, second.rcpt) == (A.rcpt, A.rcpt)
    assert first.request == EndOfData()
    assert dialogue.answer(OK).request == MAIL
    assert where(dialogue) == (State.MAIL, State.MAIL)


@pytest.mark.parametrize(
    "between",
    [
        (Data(), GO, EndOfData(), OK, OK),
        (Rset(), OK),
        (Helo(b"me"), OFFER),
        (Bdat(1, last=True), NO, NO),
    ],
)
def test_recipients_of_one_message_never_count_for_the_next(between: tuple[Request | Reply, ...]) -> None:
    dialogue = say(ready(Protocol.LMTP), MAIL, A, B, OK, OK, OK, *between, MAIL, OK)
    assert dialogue.accepted == []
    assert say(dialogue, B, OK, Data(), GO, EndOfData()).due == (B.rcpt,)


def test_lmtp_354_without_a_recipient_is_a_fault_because_nobody_knows_how_many_replies_follow() -> None:
    with pytest.raises(LocalProblem):
        say(ready(Protocol.LMTP), MAIL, A, Data(), OK, NO, GO)


def test_lmtp_last_chunk_refused_as_out_of_order_gets_one_reply() -> None:
    dialogue = say(ready(Protocol.LMTP), MAIL, A, Bdat(3, last=True), OK, NO, NO)
    assert where(dialogue) == (State.MAIL, State.MAIL)
    assert not dialogue.outstanding


def test_421_in_the_middle_of_lmtp_verdicts_leaves_the_others_unanswered() -> None:
    dialogue = say(ready(Protocol.LMTP), MAIL, A, B, Data(), OK, OK, OK, GO, EndOfData(), MAIL, OK)
    assert dialogue.answer(Reply(421)).rcpt == B.rcpt
    assert list(dialogue.outstanding) == [MAIL]
    assert where(dialogue) == (State.CLOSED, State.CLOSED)


def test_tls_forgets_what_was_learnt_and_turning_begins_anew() -> None:
    dialogue = say(ready(), Auth(b"X"), Reply(235), StartTls(), Reply(220))
    dialogue.upgrade()
    assert where(dialogue) == (State.START, State.START)
    assert (dialogue.secure, dialogue.authenticated, dialogue.extensions) == (True, False, {})
    say(dialogue, Helo(b"me"), OFFER)
    with pytest.raises(LocalProblem):
        dialogue.ask(StartTls())
    say(dialogue, Atrn(), OK).turn()
    assert where(dialogue) == (State.START, State.GREETING)
    assert list(dialogue.outstanding) == [Connect()]
    say(dialogue, Reply(220), Helo(b"you"), OFFER)
    with pytest.raises(LocalProblem):
        dialogue.ask(Atrn())


def test_a_refused_greeting_leaves_nothing_but_quit() -> None:
    dialogue = say(Dialogue(Protocol.SMTP, secure=False), Reply(554))
    with pytest.raises(LocalProblem):
        dialogue.ask(Helo(b"me"))
    assert where(say(dialogue, Quit(), Reply(221))) == (State.CLOSED, State.CLOSED)
