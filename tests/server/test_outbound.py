"""What waits for an account: who may have it, one at a time, and what a line that stays open does."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from support.turning import Customer, Office, turned

from bsmtp_batch.errors import Later
from bsmtp_batch.server.outbound import ALIVE, BUSY, FAULT, FOREIGN, NOTHING, RETRY, Held
from bsmtp_batch.spool.locks import Busy


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path / "spool", "site.example", "second.example")


@contextmanager
def standing(held, customer):
    """The line stands, in a thread of its own as in the daemon."""
    thread = threading.Thread(target=lambda: (held.send(customer, turned()), held.close()))
    thread.start()
    try:
        assert customer.idle.acquire(timeout=20)
        yield thread
    finally:
        customer.hang_up()
        thread.join(20)
        assert not thread.is_alive()


def again(customer):
    """Wait until the hub has looked for mail once more and then found nothing to say."""
    while customer.idle.acquire(blocking=False):
        pass
    assert customer.idle.acquire(timeout=20)
    assert customer.idle.acquire(timeout=20)


# --- who may have what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "domains",
    [
        ["foreign.example"],
        ["site.example", "foreign.example"],
        ["foreign.example", "site.example"],
        ["site.example"] * 50 + ["foreign.example"],
        ["le.example"],
        ["sub.site.example"],
        [*(f"d{n}.example" for n in range(10_000)), "site.example"],
    ],
)
def test_one_foreign_domain_and_nothing_is_given(office, domains):
    office.fill(1)

    assert office.hold(*domains) is FOREIGN
    assert office.routes["site.example"].sealed() == []


def test_who_has_no_route_is_answered_as_one_who_asks_for_anothers(office):
    office.fill(1)

    assert office.hold(account="boreas") is FOREIGN
    assert office.hold("site.example", account="boreas") is FOREIGN


@pytest.mark.parametrize(
    "domains", [[], ["SITE.example"], ["site.example"] * 3, ["www.site.example", "second.example"]]
)
def test_what_is_ones_own_is_held_however_it_is_named(office, domains):
    office.fill(2)

    held = office.hold(*domains)

    assert isinstance(held, Held)
    held.close()


def test_no_mail_is_said_so_and_frees_the_account(office):
    assert office.hold() is NOTHING
    assert office.hold("second.example") is NOTHING
    office.fill(1)
    assert office.hold("second.example") is NOTHING
    assert isinstance(office.hold(), Held)


def test_only_what_was_asked_for_is_sent(office):
    first, second = office.fill(2), office.fill(2, "second.example", first=10)
    customer = Customer()

    held = office.hold("second.example")
    held.send(customer, turned())
    held.close()

    assert customer.contents == second
    assert customer.heard[0] == "Helo"
    assert customer.heard[-2:] == ["Quit", "closed"]
    held, customer = office.hold(), Customer()
    held.send(customer, turned())
    assert customer.contents == first


def test_one_session_of_an_account_at_a_time(office):
    office.fill(1)
    held = office.hold()

    assert office.hold() is BUSY
    held.close()
    again = office.hold()
    assert isinstance(again, Held)
    held.close()  # of a session that is over: it must not free the account for a third
    assert office.hold() is BUSY


def test_mail_that_another_contact_has_in_hand_is_for_later(office):
    office.fill(1)
    with office.routes["site.example"].contact():
        assert office.hold() is BUSY
    assert isinstance(office.hold(), Held)


@pytest.mark.parametrize("error", [Later("full", safe="all", next="wait"), OSError(5, "I/O error")])
def test_a_disk_that_fails_is_for_later_and_frees_the_account(office, error):
    def broken(_):
        raise error

    office.fill(1)
    office.sealing, sound = broken, office.sealing
    assert office.hold() is FAULT
    assert office.log
    office.sealing = sound
    assert isinstance(office.hold(), Held)


# --- a line that breaks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["Helo", "MailFrom", "RcptTo", "Data", "EndOfData"])
def test_a_line_that_breaks_anywhere_loses_nothing_and_doubles_what_was_named(office, verb):
    sent = office.fill(5)
    customer = Customer(die_at=(verb, 1 if verb == "Helo" else 3))
    held = office.hold()
    held.send(customer, turned())
    held.close()
    with office.ledger() as ledger:
        doubtful = ledger.in_doubt()
    assert len(doubtful) == (verb == "EndOfData")

    held, second = office.hold(), Customer()
    held.send(second, turned())
    held.close()

    assert Counter(customer.contents) + Counter(second.contents) == Counter(sent)
    assert office.told.said("was in doubt") is bool(doubtful)
    assert office.hold() is NOTHING
    assert not office.routes["site.example"].sealed()


def test_the_ledger_says_what_a_contact_moved(office):
    office.fill(3)
    held = office.hold()
    held.send(Customer(), turned())

    with office.ledger() as ledger:
        (contact,) = ledger.last_contacts()
    assert (contact.peer, contact.batches, contact.result) == ("odmr:aurora", 1, "ok")


# --- a line that stays --------------------------------------------------------------------------------------------


def test_a_line_that_stays_needs_no_mail_to_be_turned(office):
    assert isinstance(office.hold(stay=True), Held)


def test_new_mail_is_on_the_line_before_anything_else_happens(office):
    office.fill(1)
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer):
        before = len(customer.heard)
        sent = office.fill(3, first=10)
        again(customer)
        assert customer.contents[1:] == sent
        assert customer.heard[before:] == ["MailFrom", "RcptTo", "Data", "EndOfData"] * 3
        assert not office.routes["site.example"].sealed()
        more = office.fill(1, "second.example", first=20)
        again(customer)
        assert customer.contents[4:] == more
    with office.ledger() as ledger:
        (contact,) = ledger.last_contacts()
    assert contact.batches == 3


def test_what_somebody_else_sealed_is_sent_as_well(office):
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer):
        with office.routes["site.example"].contact():  # the line cannot send while this goes on
            sent = office.fill(2)
            office._seal(office.routes["site.example"])
            again(customer)
            assert customer.contents == []
        office.fill(1, "second.example", first=30)
        again(customer)
        assert customer.contents[:2] == sent


def test_an_idle_line_is_asked_whether_it_is_there(office):
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer):
        again(customer)
        assert "Noop" not in customer.heard
        office.time += ALIVE
        again(customer)
        assert customer.heard.count("Noop") == 1
        office.time += RETRY
        again(customer)


def test_a_line_that_ended_is_let_go_of_at_once(office):
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer) as thread:
        customer.hang_up()
        thread.join(20)
        assert not thread.is_alive()
    assert isinstance(office.hold(stay=True), Held)


def test_a_new_line_takes_the_place_of_one_that_only_waits(office):
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer) as thread:
        newer = office.hold(stay=True)
        assert isinstance(newer, Held)
        thread.join(20)
        assert not thread.is_alive()
        assert office.hold(stay=True) is BUSY
        newer.close()


def test_a_standing_line_ends_when_it_is_told_to(office):
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer) as thread:
        held.end()
        thread.join(20)
        assert not thread.is_alive()
        assert customer.heard[-2:] == ["Quit", "closed"]


def test_a_seal_that_somebody_else_is_at_is_no_reason_to_end_the_line(office):
    sound = office.sealing

    def busy(_):
        raise Busy("seal is at work", safe="all of it", next="wait")

    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer) as thread:
        office.sealing = busy
        sent = office.fill(1)
        again(customer)
        assert thread.is_alive()
        office.sealing = sound
        again(customer)
        assert customer.contents == sent
        assert not office.routes["site.example"].sealed()


def test_a_file_that_is_no_message_keeps_a_line_from_nothing(office):
    (office.base / "out" / "site.example" / "new" / "notes.txt").write_text("not mail")
    sealed, sound = [], office.sealing
    office.sealing = lambda route: (sealed.append(route.name), sound(route))
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer):
        again(customer)
        again(customer)
        assert held.idle
        tried = len(sealed)
        again(customer)
        assert len(sealed) == tried
        office.time += ALIVE
        again(customer)
        assert "Noop" in customer.heard
        sent = office.fill(1, first=40)
        again(customer)
        assert customer.contents == sent


def test_what_is_sealed_by_another_while_mail_is_sent_is_sent_as_well(office):
    customer, held = Customer(), office.hold(stay=True)
    with standing(held, customer):
        hear, later = customer._answer, []

        def meanwhile(event):
            if type(event).__name__ == "EndOfData" and not later:
                later.extend(office.fill(1, first=50))
                office._seal(office.routes["site.example"])
            return hear(event)

        customer._answer = meanwhile
        sent = office.fill(1, first=40)
        again(customer)
        again(customer)
        assert customer.contents == sent + later
