"""A line that stays: mail comes as it is sent, a dead line is given up, and nobody is run over by those who return."""

from __future__ import annotations

import os
import queue
import signal
import threading

import pytest
from support.importing import letters
from support.odmr_hub import END, HEAR, Hub, Plan

from bsmtp_batch.errors import Later
from bsmtp_batch.odmr import Outcome, Stop, Stopped, stand
from bsmtp_batch.odmr.standing import FIRST, MOST, POLL

STAYS = (b"ATRN", b"XSTAY", b"AUTH CRAM-MD5")


class Clock:
    """Time that goes by in sleeps and contacts only."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def stood(outcomes, *, lasts=0.0, chance=0.5):
    """The waits between contacts that come to ``outcomes``, an exception among them is raised."""
    clock, stop, told = Clock(), Stop(), []
    left = iter(outcomes)

    def contact():
        clock.now += lasts
        found = next(left, None)
        if found is None:
            raise Stopped
        if isinstance(found, Exception):
            raise found
        return found

    stand(contact, stop, tell=told.append, sleep=clock.sleep, chance=lambda: chance, clock=clock)
    return clock.waits, told


AWAY = Outcome(code=75, result="away")
LOST = Outcome(code=75, result="lost", turned=True, stays=True)


def test_waits_double_up_to_a_bound_and_a_good_contact_makes_them_short_again():
    waits, _ = stood([AWAY] * 12 + [Outcome(code=75, turned=True, stays=True, messages=1), AWAY])

    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert waits[11] == MOST
    assert waits[12:] == [FIRST, 2 * FIRST]


def test_no_two_waits_need_be_the_same():
    assert stood([AWAY], chance=0.0)[0] == [FIRST / 2]
    assert stood([AWAY], chance=1.0)[0] == [FIRST * 1.5]


def test_a_line_that_stood_was_good_and_one_that_did_not_was_not():
    assert stood([LOST] * 3, lasts=2.0)[0] == [FIRST] * 3
    assert stood([LOST] * 3, lasts=0.5)[0] == [FIRST, 2 * FIRST, 4 * FIRST]


def test_a_provider_that_keeps_no_line_open_is_asked_from_time_to_time():
    assert stood([Outcome(empty=True), Outcome(turned=True, messages=2)])[0] == [POLL, POLL]


def test_a_wrong_setting_is_not_hammered():
    assert stood([Outcome(code=78, result="no")])[0] == [MOST]


def test_a_ledger_that_cannot_be_written_now_ends_nothing():
    waits, told = stood([Later("the disk", safe="x", next="y"), OSError(28, "full"), AWAY])

    assert waits == [FIRST, 2 * FIRST, 4 * FIRST]
    assert len(told) == 2


def test_a_stop_that_comes_early_is_heard_in_the_next_wait():
    stop = Stop()
    with stop.held():
        stop()
        with stop.open():
            pass
    with pytest.raises(Stopped), stop.open():
        pytest.fail("it was not heard")


def test_mail_is_here_as_soon_as_it_is_sent_and_the_line_stays(site):
    plan = Plan(offers=STAYS, letters=letters(1), more=queue.Queue())
    arrived = threading.Semaphore(0)
    with Hub(plan) as hub:
        thread = threading.Thread(
            target=lambda: found.append(site.collect(hub.port, stay=True, arrived=arrived.release, patience=1))
        )
        found = []
        thread.start()
        assert arrived.acquire(timeout=20)
        for number, letter in enumerate(letters(4)[1:], 2):
            plan.more.put(None)  # a sign of life, and then the next
            plan.more.put(letter)
            assert arrived.acquire(timeout=20)
            assert len(site.stored()) == number
        plan.more.put(END)
        thread.join(20)

    assert plan.asked[-2:] == [b"NOOP XSTAY", b"ATRN"]
    assert (found[0].code, found[0].messages, found[0].stays) == (0, 4, True)


def test_signs_of_life_may_go_on_for_ever(site):
    plan = Plan(offers=STAYS, more=queue.Queue())
    for _ in range(300):
        plan.more.put(None)
    plan.more.put(letters(1)[0])
    plan.more.put(END)
    with Hub(plan) as hub:
        found = site.collect(hub.port, stay=True)

    assert (found.code, found.messages) == (0, 1)


def test_who_does_not_keep_lines_open_is_not_asked_to(site):
    plan = Plan(letters=letters(1))
    with Hub(plan) as hub:
        found = site.collect(hub.port, stay=True)

    assert not any(b"XSTAY" in line for line in plan.asked)
    assert (found.stays, found.messages) == (False, 1)
    assert "notice" in [event.kind for event in site.events]


def test_a_line_that_died_in_silence_is_given_up(site):
    with Hub(Plan(offers=STAYS, more=queue.Queue())) as hub:
        found = site.collect(hub.port, stay=True, silence=0.3, patience=1)

    assert (found.code, found.turned, found.stays) == (75, True, True)
    assert "long time" in found.result


def test_sigterm_ends_it_with_a_word_and_what_was_answered_stays(site):
    plan = Plan(offers=STAYS, letters=letters(2), more=queue.Queue())
    stop = Stop()
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with Hub(plan) as hub:

            def end():
                while len(plan.verdicts) < 2:
                    threading.Event().wait(0.01)
                os.kill(os.getpid(), signal.SIGTERM)

            threading.Thread(target=end).start()
            with pytest.raises(Stopped):
                site.collect(hub.port, stay=True, stop=stop, patience=1)
            plan.more.put(HEAR)
            plan.more.put(END)
            hub.threads[0].join(20)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert len(site.stored()) == 2
    assert not plan.letters
    assert plan.last.startswith(b"421 ")
    contact = site.contact()
    assert (contact.result, contact.batches) == ("ok", 2)


def test_a_lost_line_is_made_again_and_nothing_is_lost(site):
    plan = Plan(offers=STAYS, more=queue.Queue())
    stop, arrived = Stop(), threading.Semaphore(0)
    with Hub(plan) as hub:

        def contact():
            return site.collect(hub.port, stay=True, arrived=arrived.release, stop=stop, patience=1)

        runner = threading.Thread(target=stand, args=(contact, stop), kwargs={"tell": site.told.append})
        runner.start()
        for number, letter in enumerate(letters(5), 1):
            plan.more.put(letter)
            assert arrived.acquire(timeout=20)
            if number % 2:
                hub.drop()
                plan.more.put(None)  # wakes whoever waits with the old line
        stop.asked = True
        hub.drop()
        plan.more.put(None)
        runner.join(20)
        assert not runner.is_alive()

    assert len(site.stored()) == 5
    assert hub.connections >= 3
