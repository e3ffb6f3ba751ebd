"""A route's mail on its way to the customer's server: nothing lost, nothing twice, nobody told wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dispatching import NODE, Hub
from support.importing import Letter, letters
from support.sink import DROP, Data, EndOfData, Helo, MailFrom, RcptTo, Sink

from bsmtp_batch.batch.events import Message, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.dispatch import OpenLine
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay import address, targets
from bsmtp_batch.wire.events import Reply

TO_TWO = Letter(to=(b"c@site.example", b"gone@site.example"))


@pytest.fixture
def hub(tmp_path):
    return Hub(tmp_path / "spool")


def texts(sink):
    return [one.content for one in sink.taken]


def refusing(*users, code=550, status=b"5.1.1"):
    """An answer that refuses recipients by their local part."""

    def answer(asked):
        rcpt = getattr(asked.request, "rcpt", None)
        if isinstance(asked.request, RcptTo) and rcpt.path.split(b"@")[0].decode() in users:
            return Reply(code, status, b"not here")
        return None

    return answer


def at_end(reply, *numbers):
    """An answer to the final dot of some messages (counted over the whole sink), or of all."""
    return lambda asked: (
        reply if isinstance(asked.request, EndOfData) and (not numbers or asked.messages in numbers) else None
    )


def test_what_the_server_has_taken_is_released_and_never_sent_again(hub):
    found = letters(5)
    [name] = hub.seal(found)
    with Sink() as sink:
        first = hub.send(sink.url)
        second = hub.send(sink.url)
        shown = sink.url.replace("127.0.0.1", "[127.0.0.1]")

    assert texts(sink) == [one.content for one in found]
    assert (first.code, first.kinds, first.outcomes) == (0, ["sent"], ["delivered"] * 5)
    assert (second.code, second.kinds) == (0, [])
    assert (hub.ready(), hub.kept()) == ([], [name])
    with hub.ledger() as ledger:
        [row] = ledger.batches(direction="out")
        assert (row.state, row.reason) == ("kept", f"sent to {shown}: 5 delivered")
        [contact] = ledger.last_contacts()
        assert (contact.direction, contact.batches, contact.result) == ("push", 1, "ok")
        assert contact.octets == sum(len(one.content) for one in found)


def test_small_batches_go_before_large_ones(hub):
    large = Letter(content=b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" * 20_000)
    hub.seal([large])
    hub.seal(letters(1))
    with Sink() as sink:
        assert hub.send(sink.url).code == 0

    assert [b"large" in text for text in texts(sink)] == [False, True]


def test_nothing_to_send_reaches_nobody(hub):
    with Sink() as sink:
        told = hub.send(sink.url)

    assert (sink.connections, told.code) == (0, 0)
    with hub.ledger() as ledger:
        assert ledger.last_contacts() == []


def test_one_deferred_recipient_keeps_the_batch_and_is_all_that_is_sent_again(hub):
    [name] = hub.seal([*letters(2), TO_TWO])
    with Sink(refusing("gone", code=450, status=b"4.2.1")) as sink:
        first = hub.send(sink.url)
        sink.answer = lambda asked: None
        assert hub.ready() == [name]
        second = hub.send(sink.url)

    assert (first.code, first.kinds) == (75, ["later"])
    assert first.said("1 of 4 recipients are left: 450 4.2.1 not here")
    assert (second.code, second.outcomes) == (0, ["delivered"])
    assert [one.to for one in sink.taken[3:]] == [[b"gone@site.example"]]
    assert hub.kept() == [name]


def test_a_refused_recipient_is_told_to_the_sender_once_by_the_hubs_own_server(hub):
    hub.seal([TO_TWO])
    with Sink(refusing("gone")) as sink, Sink() as own:
        first = hub.send(sink.url, notices=own.url)
        second = hub.send(sink.url, notices=own.url)

    assert (first.code, second.code) == (0, 0)
    assert first.outcomes == ["delivered", "bounced"]
    [report] = own.taken
    assert (report.mail.path, report.to) == (b"", [b"a@hub.example"])
    assert b"gone@site.example" in report.content
    assert b"c@site.example" not in report.content
    assert len(hub.kept()) == 1


def test_a_report_that_cannot_be_handed_in_keeps_the_batch_until_it_can(hub):
    [name] = hub.seal([TO_TWO])
    with Sink(refusing("gone")) as sink:
        with Sink(lambda asked: Reply(421, b"4.3.2", b"later") if isinstance(asked.request, MailFrom) else None) as own:
            first = hub.send(sink.url, notices=own.url)
        assert (first.code, hub.ready()) == (75, [name])
        assert first.said("reports are owed")
        with Sink() as own:
            second = hub.send(sink.url, notices=own.url)

    assert (second.code, len(own.taken), len(sink.taken)) == (0, 1, 1)
    assert hub.kept() == [name]


def test_a_report_owed_goes_out_while_the_customer_is_away(hub):
    hub.seal([TO_TWO, Letter()])
    with Sink(lambda asked: refusing("gone")(asked) or at_end(DROP, 2)(asked)) as sink:
        with Sink(lambda asked: DROP if isinstance(asked.request, Helo) else None) as own:
            assert hub.send(sink.url, notices=own.url).code == 75
        url = sink.url
    with Sink() as own:
        second = hub.send(url, notices=own.url)

    assert (second.code, len(own.taken)) == (75, 1)


def test_a_refused_message_with_the_null_sender_is_kept_and_answered_to_nobody(hub):
    [name] = hub.seal([Letter(sender=b"<>"), Letter()])
    with Sink(at_end(Reply(554, b"5.7.1", b"no"), 1)) as sink, Sink() as own:
        told = hub.send(sink.url, notices=own.url)

    assert (told.code, told.outcomes) == (65, ["quarantined", "delivered"])
    assert own.taken == []
    assert hub.kept() == [name]
    [file, reason] = hub.dead()
    assert (file, reason) == ("site.example.00000001.m1.rejected1.0.bsmtp", f"{file}.reason")
    assert told.said(f"see {file} in dead/: 554 5.7.1 no")
    with open(hub.route.at("dead", file), "rb") as opened:
        [message] = [one for one in BatchFile(opened).scan(Severity.STRICT) if isinstance(one, Message)]
        assert (message.mail.path, message.rcpts[0].path) == (b"", b"c@site.example")


def test_what_lies_in_dead_makes_nothing_odd_for_the_next_seal(hub):
    hub.seal([Letter(sender=b"<>")])
    with Sink(at_end(Reply(554, b"5.7.1", b"no"))) as sink:
        hub.send(sink.url)
    [name] = hub.seal(letters(1))

    assert hub.route.standings()[1] == []
    assert hub.ready() == [name]


def test_refusals_are_kept_where_nobody_takes_reports(hub):
    hub.seal([TO_TWO])
    with Sink(refusing("gone")) as sink:
        told = hub.send(sink.url)

    assert (told.code, told.outcomes) == (65, ["delivered", "quarantined"])
    assert len(hub.dead()) == 2


def test_a_421_keeps_what_was_answered_and_leaves_the_rest(hub):
    [name] = hub.seal(letters(4))
    with Sink(at_end(Reply(421, b"4.3.2", b"shutting down"), 3)) as sink:
        first = hub.send(sink.url)
        assert sink.connections == 1  # it asked to be left alone
        sink.answer = lambda asked: None
        assert (first.code, hub.ready()) == (75, [name])
        second = hub.send(sink.url)

    assert first.outcomes == ["delivered", "delivered", "deferred"]
    assert first.said("asks to be left alone")
    assert second.outcomes == ["delivered", "delivered"]
    assert [texts(sink).count(one.content) for one in letters(4)] == [1, 1, 2, 1]  # the 421 said no to the third


def test_a_connection_lost_at_the_dot_doubts_one_message_and_names_it(hub):
    hub.seal(letters(3))
    with Sink(at_end(DROP, 2)) as sink:
        first = hub.send(sink.url)
        with hub.ledger() as ledger:
            assert [number for _, number in ledger.in_doubt()] == [2]
        sink.answer = lambda asked: None
        second = hub.send(sink.url)

    assert (first.code, second.code) == (75, 0)
    assert second.said("message 2 was in doubt")
    assert [texts(sink).count(one.content) for one in letters(3)] == [1, 2, 1]


def test_a_server_that_wants_a_login_makes_no_bounce(hub):
    [name] = hub.seal(letters(1))

    def answer(asked):
        return Reply(530, b"5.7.0", b"login") if isinstance(asked.request, MailFrom) else None

    with Sink(answer) as sink, Sink() as own:
        told = hub.send(sink.url, notices=own.url)

    assert (told.code, own.taken, hub.ready()) == (75, [], [name])


def test_a_changed_batch_sends_nothing(hub):
    [name] = hub.seal(letters(3))
    path = Path(hub.route.at("ready", name))
    path.write_bytes(path.read_bytes().replace(b"number 2", b"number 9"))
    with Sink() as sink:
        told = hub.send(sink.url)

    assert (told.code, told.kinds, sink.taken) == (65, ["refused"], [])
    assert hub.ready() == [name]


def test_another_contact_keeps_the_route_to_itself(hub):
    hub.seal(letters(1))
    with Sink() as sink, hub.route.contact():
        told = hub.send(sink.url)

    assert (told.code, sink.connections) == (75, 0)
    assert told.said("another contact")


def test_no_courier_takes_the_batch_while_it_is_sent(hub, tmp_path):
    """Both would deliver it."""
    from bsmtp_batch.courier.contact import push
    from bsmtp_batch.courier.directory import Directory

    hub.seal(letters(1))
    (tmp_path / "medium").mkdir()
    seen = []

    def answer(asked):
        if isinstance(asked.request, Data):
            with Ledger(str(tmp_path / "other.db")) as ledger:
                seen.extend(push([hub.route], Directory(str(tmp_path / "medium")), ledger))

    with Sink(answer) as sink:
        hub.send(sink.url)

    assert [(event.kind, event.code) for event in seen] == [("later", 75)]
    assert "another contact" in seen[0].note


def test_mail_beyond_the_bound_waits_and_what_can_never_go_is_told(hub):
    big = Letter(content=b"Subject: big\r\n\r\n" + b"y" * 70 + b"\r\n" * 4000)
    hub.seal([*letters(4), big])
    size = len(letters(1)[0].content)
    with Sink() as sink:
        first = hub.send(sink.url, max_octets=3 * size)
        assert len(sink.taken) == 3
        second = hub.send(sink.url, max_octets=3 * size)

    assert (first.code, second.code, len(sink.taken)) == (75, 75, 4)
    assert first.said("this contact would send more")
    assert second.said("more than max_bytes")


def test_the_end_of_the_window_stops_between_two_messages(hub):
    hub.seal(letters(3))
    clock = [100.0]

    def answer(asked):
        if isinstance(asked.request, EndOfData):
            clock[0] += 10

    with Sink(answer) as sink:
        told = hub.send(sink.url, until=115.0, now=lambda: clock[0])

    assert (told.code, len(sink.taken)) == (75, 2)
    assert told.said("1 of 3 recipients are left: the window of this contact is over")


def test_who_is_asked_to_end_finishes_the_message_under_way_and_no_more(hub):
    [name] = hub.seal(letters(3))
    asked_to_end = []

    def answer(asked):
        if isinstance(asked.request, EndOfData):
            asked_to_end.append(True)

    with Sink(answer) as sink:
        told = hub.send(sink.url, ended=lambda: bool(asked_to_end))
        assert (told.code, len(sink.taken), hub.ready()) == (75, 1, [name])
        assert told.said("2 of 3 recipients are left: the program was asked to end")
        assert hub.send(sink.url).code == 0
    assert len(sink.taken) == 3


def test_a_full_ledger_stops_before_the_dot(hub, monkeypatch):
    from bsmtp_batch.errors import Later

    [name] = hub.seal(letters(2))

    def failing(self, sha256, news):
        raise Later("the ledger is full", safe="nothing lost", next="make room")

    with Sink() as sink:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "step", failing)
            first = hub.send(sink.url)
        assert (first.code, sink.taken, hub.ready()) == (75, [], [name])
        assert hub.send(sink.url).code == 0


# -- over a line that is open already ---------------------------------------------------------------------------


def opened(sink):
    return OpenLine(targets.target_of(address.parse(sink.url), node=NODE, patience=0.1).connect(), "the customer")


def test_an_open_line_carries_what_is_sealed_while_it_is_open(hub):
    hub.seal(letters(2))
    later = iter([letters(4)[2:3], letters(4)[3:4]])

    def more():
        fresh = next(later, None)
        if fresh:
            hub.seal(fresh)
        return fresh is not None

    with Sink() as sink:
        told = hub.send(opened(sink), more=more)

    assert (told.code, told.kinds, sink.connections) == (0, ["sent"] * 3, 1)
    assert texts(sink) == [one.content for one in letters(4)]


def test_a_line_that_waits_for_mail_keeps_nobody_else_waiting(hub):
    """Otherwise `expire` would never have its turn with a customer who stays connected."""
    from bsmtp_batch.expire import expire_route

    hub.seal(letters(1))
    expired = []

    def more():
        expired.extend(expire_route(hub.route, keep=0, now=4e9))
        return False

    with Sink() as sink:
        hub.send(opened(sink), more=more)

    assert "kept" in [one.kind for one in expired]


def test_a_route_that_somebody_else_holds_is_tried_again_over_the_same_line(hub):
    from contextlib import ExitStack

    hub.seal(letters(1))
    with Sink() as sink, ExitStack() as stack:
        stack.enter_context(hub.route.contact())
        answers = iter([True, False])

        def more():
            stack.close()
            return next(answers)

        told = hub.send(opened(sink), more=more)

    assert (told.kinds, len(sink.taken), sink.connections) == (["later", "sent"], 1, 1)


def test_reports_that_nobody_takes_any_more_are_not_forgotten(hub):
    [name] = hub.seal([TO_TWO])
    with Sink(refusing("gone")) as sink:
        with Sink(lambda asked: DROP if isinstance(asked.request, Helo) else None) as own:
            hub.send(sink.url, notices=own.url)
        told = hub.send(sink.url)

    assert (told.code, hub.ready()) == (75, [name])
    assert told.said("nobody takes the reports to senders")


def test_an_open_line_that_breaks_is_not_made_again(hub):
    [name] = hub.seal(letters(3))
    asked_again = []
    with Sink(at_end(DROP, 2)) as sink:
        told = hub.send(opened(sink), more=lambda: bool(asked_again.append(1)) or True)

    assert (told.code, sink.connections, asked_again) == (75, 1, [])
    assert told.outcomes == ["delivered", "deferred"]
    assert told.said("the connection with the customer is over")
    assert hub.ready() == [name]


def test_an_open_line_is_used_however_long_it_was_idle(hub, monkeypatch):
    from bsmtp_batch.replay import engine

    monkeypatch.setattr(engine, "IDLE", -1.0)
    hub.seal(letters(3))
    with Sink() as sink:
        told = hub.send(opened(sink), more=lambda: False)

    assert (told.code, sink.connections) == (0, 1)


def test_two_equal_batches_are_two(hub):
    """The same text handed in by hand twice is two messages, and sealed apart they are the same octets."""
    with Sink() as sink:
        hub.seal([TO_TWO])
        hub.send(sink.url)
        hub.seal([TO_TWO])
        hub.send(sink.url)

    assert len(sink.taken) == 2


def test_the_ledger_forgets_what_was_sent_only_when_it_is_over(hub):
    hub.seal([TO_TWO])
    with Sink(refusing("gone", code=450, status=b"4.2.1")) as sink:
        hub.send(sink.url)
        with hub.ledger() as ledger:
            assert ledger.forget(2e10) == 1  # the contact
        sink.answer = lambda asked: None
        hub.send(sink.url)
        with hub.ledger() as ledger:
            [name] = {row.name for row in ledger.batches(direction="out")}
            assert len(ledger.fates(name)) == 1
            ledger.forget(2e10)
            assert ledger.fates(name) == {}

    assert len(sink.taken) == 2
