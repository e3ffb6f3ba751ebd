"""Asking a server for our mail: every reply it may give, every way it may go, and what each means."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from support.certificates import server_context
from support.sink import DROP, Connect, Helo, Hold, Say, Sink

from bsmtp_batch import dequeue
from bsmtp_batch.errors import Later
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.wire.events import Etrn, Quit, Reply, StartTls

OFFERS = b"PIPELINING\nETRN"
DOMAINS = ["one.example", "@two.example", "#three"]


def saying(*replies, on=Etrn):
    """An answer that gives ``replies`` in turn to the requests of a kind."""
    left = list(replies)
    return lambda asked: left.pop(0) if isinstance(asked.request, on) and left else None


def server(sink, **more):
    return dequeue.Server("127.0.0.1", int(sink.url.rpartition(":")[2]), patience=0.1, **more)


def ask(sink, domains=DOMAINS, **more):
    return list(dequeue.ask(server(sink), domains, node="site.example", **more))


def asked(sink):
    return [request for request in sink.requests if isinstance(request, Etrn)]


def test_each_domain_is_asked_for_in_its_form_and_then_we_leave():
    with Sink(offers=OFFERS) as sink:
        answers = ask(sink)

    assert asked(sink) == [Etrn(b"one.example"), Etrn(b"two.example", b"@"), Etrn(b"three", b"#")]
    assert isinstance(sink.requests[-1], Quit)
    assert sink.requests[1] == Helo(b"site.example")
    assert [(a.domain, a.outcome, a.reply) for a in answers] == [(d, "started", "250 2.0.0 ok") for d in DOMAINS]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(250, b"2.0.0", b"queuing started"), "started"),
        (Reply(251, b"2.0.0", b"nothing waits"), "empty"),
        (Reply(252, b"2.0.0", b"pending messages started"), "started"),
        (Reply(253, b"2.0.0", b"5 pending messages started"), "started"),
        (Reply(458, b"4.3.0", b"unable"), "refused"),
        (Reply(459, b"4.7.1", b"not allowed"), "refused"),
        (Reply(500, b"5.5.1", b"what?"), "unknown"),
        (Reply(501, b"5.5.4", b"no such name"), "refused"),
        (Reply(502, b"5.5.1", b"not here"), "unknown"),
        (Reply(503, b"5.5.1", b"not now"), "refused"),
        (Reply(530, b"5.7.0", b"log in first"), "refused"),
        (Reply(451, b"4.3.0", b"busy"), "refused"),
        (Reply(550, b"5.7.1", b"no\nnever"), "refused"),
    ],
    ids=lambda value: str(getattr(value, "code", value)),
)
def test_every_reply_is_told_and_the_next_domain_asked_for(reply, outcome):
    with Sink(saying(reply), offers=OFFERS) as sink:
        answers = ask(sink)

    assert [a.outcome for a in answers] == [outcome, "started", "started"]
    assert answers[0].reply == str(reply)
    assert answers[0].reply in answers[0].told
    assert "\n" not in answers[0].told
    assert len(asked(sink)) == 3


@pytest.mark.parametrize("code", [500, 502])
def test_a_server_that_does_not_name_etrn_is_asked_once_all_the_same(code):
    with Sink(saying(*[Reply(code, b"5.5.1", b"what?")] * 3), offers=b"PIPELINING") as sink:
        answers = ask(sink)

    assert [a.outcome for a in answers] == ["unknown"] * 3
    assert [a.reply for a in answers] == [f"{code} 5.5.1 what?", "", ""]
    assert len(asked(sink)) == 1
    assert isinstance(sink.requests[-1], Quit)  # the connection itself starts the push at some providers


def test_a_server_that_does_not_name_etrn_may_know_it():
    with Sink(offers=b"") as sink:
        assert [a.outcome for a in ask(sink)] == ["started"] * 3


def test_a_server_without_ehlo_is_greeted_as_of_old():
    def answer(asked):
        return Reply(502, b"", b"what?") if asked.request == Helo(b"site.example") else None

    with Sink(answer) as sink:
        assert [a.outcome for a in ask(sink)] == ["started"] * 3

    assert Helo(b"site.example", extended=False) in sink.requests


def test_a_reply_cannot_move_a_terminal_cursor():
    with Sink(saying(Reply(459, b"4.7.1", "ge\u202eh weg \x9b2J".encode())), offers=OFFERS) as sink:
        assert ask(sink)[0].told.isprintable()


# --- what is worth another try --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (saying(Reply(554, b"5.3.2", b"go away"), on=Connect), "it greets with 554"),
        (saying(Reply(421, b"4.3.2", b"not now"), on=Connect), "it ends the session: 421"),
        (saying(Reply(450, b"4.3.2", b"not now"), on=Helo), "it does not want to know us: 450"),
        (saying(*[Reply(550, b"5.7.1", b"who?")] * 2, on=Helo), "it does not want to know us: 550"),
        (saying(DROP, on=Connect), "closed while receiving the greeting"),
        (saying(Say(b"nonsense\r\n"), on=Connect), "a line that is no reply"),
        (saying(DROP, on=Helo), "closed while sending EHLO"),
    ],
)
def test_a_server_that_does_not_want_us_is_tried_again_later(answer, sentence):
    with Sink(answer, offers=OFFERS) as sink, pytest.raises(Later, match=sentence) as later:
        ask(sink)

    assert later.value.code == 75
    assert not asked(sink)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (DROP, "closed while sending ETRN"),
        (Say(b"250 ok\r\n"), "(closed|lost) while sending ETRN"),
        (Say(b"250-half a rep"), "closed while sending ETRN"),
        (Say(b"354 go ahead\r\n"), "the reply code 354 does not go with ETRN"),
        (Reply(421, b"4.3.2", b"time is up"), "it ends the session: 421 4.3.2 time is up"),
    ],
    ids=[
        "gone",
        "answered and gone",
        "half an answer",
        "another reply",
        "421",
    ],  # the name of an object differs from worker to worker
)
def test_what_was_answered_before_the_line_broke_stands(said, sentence):
    with Sink(saying(Reply(459, b"4.7.1", b"no"), said), offers=OFFERS) as sink:
        found = dequeue.ask(server(sink), DOMAINS, node="site.example")
        assert next(found).outcome == "refused"
        with pytest.raises(Later, match=sentence):
            list(found)


def test_a_server_that_says_nothing_is_not_waited_for_forever():
    hold = Hold()
    with Sink(saying(hold), offers=OFFERS) as sink:
        silent = replace(server(sink), patience=0.001)
        with pytest.raises(Later, match="no answer within the time allowed while sending ETRN"):
            list(dequeue.ask(silent, DOMAINS, node="site.example"))
        hold.go_on.set()


def test_nobody_there():
    with Sink() as sink:
        gone = server(sink)

    with pytest.raises(Later, match=r"no connection: Connection refused\. What waits there keeps waiting\. Next: run"):
        list(dequeue.ask(gone, DOMAINS, node="site.example"))


def test_a_name_that_no_resolver_takes_is_no_bug():
    with pytest.raises(Later, match="no connection"):
        list(dequeue.ask(dequeue.Server("x" * 70 + ".example", 25), DOMAINS, node="site.example"))


# --- what is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "domain", ["", "@", "#", "a b.example", "@a..example", "-x.example", "bücher.example", "#a\nQUIT"]
)
def test_what_is_no_domain_is_never_said(domain):
    with Sink() as sink, pytest.raises(ValueError, match="is not"):
        ask(sink, ["good.example", domain])

    assert sink.requests == []


# --- encryption, with nobody's certificate looked at ------------------------------------------------------------------


def test_a_server_that_offers_tls_is_asked_under_it_whoever_made_its_certificate(tmp_path):
    context = server_context(tmp_path, "another.example")
    heard = []

    def talk(listener):
        connected = listener.accept()[0]
        connected.settimeout(30)
        for said in (b"220 hi\r\n", b"250-hi\r\n250 STARTTLS\r\n", b"220 go ahead\r\n"):
            connected.sendall(said)
            if not said.endswith(b"ahead\r\n"):
                heard.append(connected.recv(1000))
        with context.wrap_socket(connected, server_side=True) as secret:
            for said in (b"250-hi\r\n250 ETRN\r\n", b"250 begun\r\n", b"221 bye\r\n"):
                heard.append(secret.recv(1000))
                secret.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = threading.Thread(target=talk, args=(listener,))
        far.start()
        here = dequeue.Server("127.0.0.1", listener.getsockname()[1], patience=0.1)
        answers = list(dequeue.ask(here, ["one.example"], node="site.example"))
        far.join()

    assert heard == [
        b"EHLO site.example\r\n",
        b"STARTTLS\r\n",
        b"EHLO site.example\r\n",
        b"ETRN one.example\r\n",
        b"QUIT\r\n",
    ]
    assert [a.outcome for a in answers] == ["started"]


def test_a_server_that_offers_tls_and_refuses_it_is_asked_in_the_clear():
    with Sink(saying(Reply(454, b"4.7.0", b"not now"), on=StartTls), offers=b"STARTTLS\nETRN") as sink:
        assert [a.outcome for a in ask(sink)] == ["started"] * 3

    assert sink.connections == 1


def test_a_server_whose_tls_does_not_work_is_asked_in_the_clear():
    with Sink(saying(Say(b"220 go ahead\r\n"), on=StartTls), offers=b"STARTTLS\nETRN") as sink:
        assert [a.outcome for a in ask(sink)] == ["started"] * 3

    assert (sink.connections, sink.count(StartTls)) == (2, 1)


def test_nothing_is_encrypted_that_shall_not_be():
    with Sink(offers=b"STARTTLS\nETRN") as sink:
        list(dequeue.ask(server(sink, tls=False), DOMAINS, node="site.example"))

    assert sink.count(StartTls) == 0


# --- what is remembered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (lambda asked: None, "ok"),
        (saying(Reply(251, b"", b"nothing")), "ok"),
        (saying(Reply(459, b"4.7.1", b"no")), r"one.example: it does not do this for that name \(459 4.7.1 no\)"),
        (saying(DROP, on=Connect), "the connection was closed while receiving the greeting"),
    ],
)
def test_the_contact_is_remembered_with_what_came_of_it(tmp_path, answer, result):
    with Ledger(str(tmp_path / "ledger.db")) as ledger:
        with Sink(answer, offers=OFFERS) as sink, suppress(Later):
            peer = str(server(sink))
            ask(sink, ["one.example", "two.example"], ledger=ledger)
        [contact] = ledger.last_contacts()

    assert (contact.peer, contact.direction) == (peer, "dequeue")
    assert re.fullmatch(result, contact.result)
