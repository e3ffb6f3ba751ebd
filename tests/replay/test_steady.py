"""The usual case says and hears what the wire core would: anything else is left to it."""

from __future__ import annotations

import string

from hypothesis import example, given
from hypothesis import strategies as st
from support.sink import OFFERS, Sink

from bsmtp_batch.replay.contract import Job, Kind, Span
from bsmtp_batch.replay.parameters import Unfit
from bsmtp_batch.replay.replies import judge
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.replay.steady import MOST, SMALL, Odd, all_accepted, answers, envelope
from bsmtp_batch.replay.transaction import Transaction
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import Data, EndOfData, Helo, MailFrom, RcptTo, Verb
from bsmtp_batch.wire.session import Protocol, Role, Session

WORD = st.text(string.ascii_letters + string.digits + ".-_+", min_size=1, max_size=12)
LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
ADDRESS = st.builds(lambda local, label: f"{local}@{label}.example".encode(), WORD, LABEL)
PARAMS = st.lists(
    st.sampled_from([(b"BODY", b"8BITMIME"), (b"RET", b"HDRS"), (b"ENVID", b"QQ314159"), (b"SMTPUTF8", None)]),
    unique=True,
).map(tuple)
OF_RCPT = st.lists(
    st.sampled_from([(b"NOTIFY", b"SUCCESS,FAILURE"), (b"ORCPT", b"rfc822;old@x.example")]), unique=True
).map(tuple)
ODD_PATH = st.one_of(ADDRESS, st.sampled_from(["ü@x.example".encode(), b"", b'"a b"@x.example', b"postmaster"]))


@st.composite
def jobs(draw):
    return Job(
        "n",
        Mail(draw(ODD_PATH), draw(PARAMS)),
        tuple(draw(st.lists(st.builds(Rcpt, ODD_PATH.filter(bool), OF_RCPT), min_size=1, max_size=MOST + 5))),
        draw(st.integers(0, 1 << 30)),
        draw(st.booleans()),
        lambda: iter(()),
        lambda: iter(()),
        Span(0, 0, draw(st.sampled_from([0, 4096, SMALL, SMALL + 1]))),
    )


class Wire:
    """A session behind its greeting, as an exchange that only says."""

    def __init__(self, offers):
        self.session = Session(Role.CLIENT)
        self.session.receive(b"220 hi\r\n")
        self.session.send(Helo(b"hub.example"))
        lines = [b"hi", *offers]
        for n, line in enumerate(lines, 1):
            self.session.receive(b"250" + (b" " if n == len(lines) else b"-") + line + b"\r\n")

    def said(self, *requests):
        return b"".join([self.session.send(request) for request in requests])


@given(jobs(), st.sets(st.sampled_from([b"8BITMIME", b"SMTPUTF8", b"SIZE", b"DSN"])))
def test_an_envelope_is_what_the_wire_core_would_say_in_one_group(job, offers):
    wire = Wire([b"PIPELINING", *sorted(offers)])
    try:
        group = envelope(job, frozenset(wire.session.extensions))
    except Odd:
        return
    assert Transaction(wire, job).begin_ahead(MOST) == group
    assert len(wire.session.unanswered) == len(job.rcpts) + 2


def test_the_usual_message_is_one():
    job = Job("n", Mail(b"a@x.example"), (Rcpt(b"c@y.example"),), 10, False, iter, iter, Span(0, 0, 10))
    assert envelope(job, {b"SIZE"}) == b"MAIL FROM:<a@x.example> SIZE=10\r\nRCPT TO:<c@y.example>\r\nDATA\r\n"
    many = Job("n", Mail(b""), (Rcpt(b"c@y.example"),) * MOST, 10, True, iter, iter, Span(0, 0, 10))
    assert envelope(many, {b"8BITMIME"}).count(b"RCPT") == MOST


LINE = st.one_of(
    st.sampled_from([b"250 ok", b"250 2.0.0 Ok: queued as 4X", b"354 go", b"550 no", b"250-more", b"421 4.3.2 bye"]),
    st.sampled_from(
        [b"250", b"250 ", b"250  two", b"25 x", b"250 2.0.0", b"251 2.1.5  b", b"250 4.0.0 x", b"\xff", b""]
    ),
    st.binary(max_size=20),
    st.integers(200, 600).map(lambda code: b"%d words" % code),
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])


@given(st.lists(st.tuples(LINE, ENDS), max_size=8), st.sampled_from([0, 1, 3]), st.integers(0, 3))
@example([(b"250 2.0.0 Ok: queued as 4X", b"\r\n")], 1, 0)
@example([(b"250 ok", b"\n")], 1, 0)  # was waited for until the connection's time was over
def test_a_usual_answer_is_one_to_the_wire_core_in_the_same_words(said, dots, rcpts):
    if not dots and not rcpts:
        return
    heard = b"".join(line + end for line, end in said)
    try:
        found = answers(heard, dots, rcpts)
    except Odd:
        return
    session = Session(Role.CLIENT, Protocol.LMTP if dots == 3 else Protocol.SMTP)
    session.receive(b"220 hi\r\n")
    session.send(Helo(b"hub.example"))
    session.receive(b"250-hi\r\n250 PIPELINING\r\n")
    if dots:
        for request in (MailFrom(Mail(b"")), *[RcptTo(Rcpt(b"c@x.example"))] * 3, Data()):
            session.send(request)
        session.receive(all_accepted(3))
        session.send(EndOfData())
    if rcpts:
        for request in (MailFrom(Mail(b"")), *[RcptTo(Rcpt(b"c@x.example"))] * rcpts, Data()):
            session.send(request)
    replies = session.receive(heard)
    if found is None:
        assert session.unanswered, "all was answered"
        return
    assert not session.unanswered
    assert session.content_due == bool(rcpts)
    assert [judge(reply, Verb.END).reply for reply in replies[:dots]] == found
    assert all(judge(reply, Verb.END).kind is Kind.DELIVERED for reply in replies[: dots + (rcpts and rcpts + 1)])


@given(st.integers(1, MOST), st.sampled_from([0, 1, 3]), st.data())
def test_what_is_cut_anywhere_is_waited_for(rcpts, dots, data):
    whole = b"250 2.0.0 taken\r\n" * dots + all_accepted(rcpts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert answers(whole[:cut], dots, rcpts) is None
    assert answers(whole, dots, rcpts) == ["250 2.0.0 taken"] * dots


def test_a_line_without_end_is_not_waited_for():
    try:
        answers(b"250 " + b"x" * 2000, 1, 0)
    except Odd:
        return
    raise AssertionError("it was")


def test_a_connection_is_for_flights_where_the_next_message_may_be_begun():
    with Sink(offers=OFFERS) as sink:
        from bsmtp_batch.edge.sockets import connect_tcp

        connection = SmtpConnection(connect_tcp("127.0.0.1", sink.port, 5), Protocol.SMTP)
        assert connection.line() is None
        connection.greet("hub.example")
        assert connection.line() is not None
        connection.ask(MailFrom(Mail(b"a@x.example")))
        assert connection.line() is None
        connection.close()


def test_who_cannot_have_it_is_told_by_the_wire_core():
    job = Job("n", Mail(b"a@x.example"), (Rcpt(b"c@y.example"),), 1, True, iter, iter, Span(0, 0, 1))
    try:
        envelope(job, {b"SIZE"})
    except Odd as odd:
        assert odd.__cause__ is None or isinstance(odd.__cause__, Unfit)
        return
    raise AssertionError("eight bits are sent to a server that takes seven")
