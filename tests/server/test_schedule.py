from __future__ import annotations

from bsmtp_batch.server.schedule import RETRY, Entry, Schedule


class Hub:
    def __init__(self, *entries):
        self.time = 1000.0
        self.fresh, self.sealed = set(), set()
        self.busy = False
        self.started = []
        self.schedule = Schedule(
            entries,
            fresh=lambda route: route in self.fresh,
            sealed=lambda route: route in self.sealed,
            start=self.start,
            now=lambda: self.time,
        )

    def start(self, peer, routes):
        if not self.busy:
            self.started.append((peer, routes))
        return not self.busy

    def after(self, seconds):
        """What was started by looking so many seconds later."""
        self.time += seconds
        self.started.clear()
        self.schedule.look()
        return list(self.started)


AT_ONCE = Entry("site", ("site.example",), 0, lambda: True)
NOW = [("site", ("site.example",))]


def test_mail_for_a_peer_that_wants_it_at_once_does_not_wait():
    hub = Hub(AT_ONCE)
    assert hub.after(0) == []
    hub.fresh.add("site.example")
    assert hub.after(1) == NOW
    assert hub.after(1) == NOW  # more has come; whether one push is enough for both is for whoever runs them


def test_what_a_server_did_not_take_is_tried_again_and_not_every_second():
    hub = Hub(AT_ONCE)
    hub.fresh.add("site.example")
    hub.after(0)
    hub.fresh.clear()
    hub.sealed.add("site.example")

    assert hub.after(1) == []
    assert hub.after(RETRY) == NOW


def test_a_peer_with_an_interval_is_pushed_when_anything_waits_and_at_no_other_time():
    hub = Hub(Entry("site", ("a.example", "site.example"), 600, lambda: True))
    assert hub.after(10_000) == []
    hub.fresh.add("site.example")
    assert hub.after(1) == [("site", ("a.example", "site.example"))]
    assert hub.after(599) == []
    assert hub.after(1) != []


def test_a_push_that_is_going_on_already_does_not_count_as_begun():
    hub = Hub(Entry("site", ("site.example",), 600, lambda: True))
    hub.sealed.add("site.example")
    hub.busy = True
    assert hub.after(0) == []
    hub.busy = False
    assert hub.after(1) == NOW


def test_outside_its_window_nothing_is_pushed():
    hub = Hub(Entry("site", ("site.example",), 0, lambda: False))
    hub.fresh.add("site.example")
    assert hub.after(1) == []
