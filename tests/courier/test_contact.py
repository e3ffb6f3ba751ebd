"""What bounds a contact, and who is told: a contact that went on after its window would block the line it was kept
from, and one that let go of batches nobody has would lose mail."""

from __future__ import annotations

import os

import pytest
from courier.conformance import HUB_ROUTE, arrived, sealed
from support.batches import manifests, transactions
from support.fragments import make_route, put, text, tree

from bsmtp_batch.courier.bounds import Over, Unwatched
from bsmtp_batch.courier.contact import Terms, pull, push
from bsmtp_batch.courier.directory import Directory
from bsmtp_batch.handover.trust import Trust
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool import medium
from bsmtp_batch.spool.store import Spool


class Clock:
    """Stands at ``now``."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


class Log(Unwatched):
    """Writes down what it is told; with ``clock``, time goes on to ``at`` when the first octets have gone by."""

    def __init__(self, clock=None, at=0.0):
        self.told = []
        self.clock = clock
        self.at = at

    def begin(self, parcel, number, of):
        self.told.append((parcel.name, number, of, []))

    def moved(self, octets):
        self.told[-1][-1].append(octets)
        if self.clock is not None:
            self.clock.now = self.at

    def end(self):
        self.told[-1] += ("end",)


class Ends:
    """Two spools and a directory between them."""

    def __init__(self, base):
        self.hub, self.site = Spool(str(base / "hub")), Spool(str(base / "site"))
        self.out = make_route(base / "hub", HUB_ROUTE)
        make_route(base / "site", "hub.example")
        self.medium = base / "medium"
        self.medium.mkdir()

    def push(self, **more):
        with Ledger(self.hub.ledger) as ledger:
            yield from push([self.out], Directory(str(self.medium)), ledger, **more)

    def pull(self, **more):
        with Ledger(self.site.ledger) as ledger:
            yield from pull(self.site, None, Directory(str(self.medium)), ledger, **more)

    def contacts(self, spool):
        with Ledger(spool.ledger, read_only=True) as ledger:
            return [(c.direction, c.batches, c.result) for c in ledger.last_contacts()]

    def seal(self, octets, number):
        """A batch a little larger than ``octets``."""
        body = b"".join(b"%04d" % (i % 10_000) + b"x" * 70 + b"\r\n" for i in range(octets // 76 + 1))
        put(self.out, text(f"a{number}@x.org", "b@x.org", body=body), queue_id=f"Q{number}")
        list(seal_route(self.out, node="hub", caps=Caps(), reserve_size=0))


@pytest.fixture
def ends(tmp_path):
    return Ends(tmp_path)


def kinds(events):
    return [e.kind for e in events]


# --- what counts as a receipt -----------------------------------------------------------------------------------------


def test_a_copy_releases_nothing_where_a_receipt_is_asked_for(ends):
    sealed(ends.out, 1)

    assert kinds(ends.push()) == ["sent"]
    assert kinds(ends.push()) == ["there already"]
    assert len(manifests(ends.out)) == 1


def test_a_copy_releases_a_batch_where_that_is_asked_for_and_stays_on_the_medium(ends):
    made = sealed(ends.out, 1)

    events = list(ends.push(terms=Terms(receipt="copied")))

    assert kinds(events) == ["sent", "released"]
    assert events[1].note == "copied, not acknowledged: receipt = copied"
    assert events[0].note == ""
    assert transactions(ends.out, "kept") == made
    assert sorted(p.suffix for p in ends.medium.rglob("*.*") if p.is_file()) == [".bsmtp", ".json"]
    assert list(ends.push(terms=Terms(receipt="copied"))) == []
    assert kinds(ends.pull()) == ["arrived"]
    assert kinds(ends.push(terms=Terms(receipt="copied"))) == [], "the late receipt only clears the medium"
    assert tree(ends.medium) == {}


def test_what_was_copied_before_that_was_asked_for_is_released_too(ends):
    made = sealed(ends.out, 1)
    list(ends.push())

    assert kinds(ends.push(terms=Terms(receipt="copied"))) == ["there already", "released"]
    assert transactions(ends.out, "kept") == made


def test_a_copy_that_failed_releases_nothing(ends, monkeypatch):
    sealed(ends.out, 1)

    def broken(path, moved):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr("bsmtp_batch.courier.directory.chunks_of", broken)

    assert kinds(ends.push(terms=Terms(receipt="copied"))) == ["later"]
    assert len(manifests(ends.out)) == 1


def test_a_real_receipt_counts_as_one_also_where_a_copy_would_do(ends):
    sealed(ends.out, 1)
    list(ends.push())
    list(ends.pull())

    assert kinds(ends.push(terms=Terms(receipt="copied"))) == ["acknowledged"]
    assert tree(ends.medium) == {}


# --- how much ---------------------------------------------------------------------------------------------------------


def test_small_batches_go_first_and_what_is_beyond_the_bound_waits(ends):
    for number, octets in enumerate((6_000, 2_000, 5_000), 1):
        ends.seal(octets, number)
    sizes = sorted(m.bytes for m in manifests(ends.out))

    events = list(ends.push(terms=Terms(max_octets=sizes[0] + sizes[1])))

    assert [(e.kind, e.octets or None, e.code) for e in events] == [
        ("sent", sizes[0], 0),
        ("sent", sizes[1], 0),
        ("later", None, 75),
    ]
    assert f"its {sizes[2]} octets" in events[2].note
    assert "the next contact" in events[2].note
    assert ends.contacts(ends.hub) == [("push", 2, f"batch {events[2].name}: {events[2].note}")]


def test_a_batch_that_no_contact_may_move_says_what_to_do(ends):
    ends.seal(3_000, 1)

    (event,) = ends.push(terms=Terms(max_octets=1_000))

    assert (event.kind, event.code) == ("later", 75)
    assert "raise max_bytes" in event.note
    assert "seal_size" in event.note
    assert tree(ends.medium) == {}


def test_what_is_there_already_does_not_count(ends):
    ends.seal(2_000, 1)
    list(ends.push())
    ends.seal(5_000, 2)
    bound = Terms(max_octets=max(m.bytes for m in manifests(ends.out)))

    assert kinds(ends.push(terms=bound)) == ["there already", "sent"]
    for path in ends.medium.rglob("*.ack"):
        path.unlink()
    assert kinds(ends.pull(terms=bound)) == ["arrived", "later"]
    for path in ends.medium.rglob("*.ack"):
        path.unlink()
    assert kinds(ends.pull(terms=bound)) == ["here already", "arrived"]


def test_what_went_by_in_vain_counts(ends, monkeypatch):
    ends.seal(2_000, 1)
    ends.seal(3_000, 2)
    real, calls = medium.chunks_of, []

    def once_broken(path, moved):
        calls.append(path)
        yield from real(path, moved)
        if len(calls) == 1:
            raise OSError(5, "Input/output error", path)

    monkeypatch.setattr("bsmtp_batch.courier.directory.chunks_of", once_broken)
    bound = Terms(max_octets=max(m.bytes for m in manifests(ends.out)))

    assert kinds(ends.push(terms=bound)) == ["later", "later"]
    assert len(calls) == 1


# --- how long ---------------------------------------------------------------------------------------------------------


def test_no_batch_is_begun_after_the_window(ends):
    sealed(ends.out, 1)
    clock = Clock()

    with pytest.raises(Over, match="What was moved stays") as caught:
        list(ends.push(terms=Terms(until=1000.0), clock=clock))

    assert caught.value.code == 75
    assert tree(ends.medium) == {}
    assert ends.contacts(ends.hub) == [("push", 0, "the window of this contact is over")]


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_the_end_of_the_window_stops_a_batch_under_way_and_the_next_contact_finishes_it(ends, verb):
    made = sealed(ends.out, 1)
    clock = Clock()
    if verb == "pull":
        list(ends.push())
    contact = getattr(ends, verb)

    with pytest.raises(Over):
        list(contact(terms=Terms(until=1500.0), clock=clock, watch=Log(clock, 1500.0)))

    assert arrived(ends.site) == []
    assert ends.contacts(ends.hub if verb == "push" else ends.site)[0][1] == 0
    assert kinds(contact(terms=Terms(until=5000.0), clock=clock)) == ["sent" if verb == "push" else "arrived"]
    list(ends.pull())
    assert arrived(ends.site) == made


def test_a_contact_without_batches_is_no_failure_at_any_time(ends):
    assert list(ends.push(terms=Terms(until=0.0))) == []


# --- who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_who_watches_is_told_which_batch_of_how_many_and_every_octet(ends, verb):
    ends.seal(4_000, 1)
    ends.seal(1_000, 2)
    expected = sorted((m.bytes, m.name) for m in manifests(ends.out))
    log = Log()
    if verb == "pull":
        list(ends.push())

    list(getattr(ends, verb)(watch=log))

    assert [(name, number, of, end) for name, number, of, _, end in log.told] == [
        (name, place, 2, "end") for place, (_, name) in enumerate(expected, 1)
    ]
    assert [sum(octets) for _, _, _, octets, _ in log.told] == [size for size, _ in expected]


def test_a_batch_that_fails_is_over_for_who_watches(ends, monkeypatch):
    ends.seal(1_000, 1)
    list(ends.push())
    (batch,) = ends.medium.rglob("*.bsmtp")
    os.truncate(batch, 500)
    log = Log()

    assert kinds(ends.pull(watch=log)) == ["later"]
    assert [entry[-1] for entry in log.told] == ["end"]


# --- whom to believe --------------------------------------------------------------------------------------------------


def test_nothing_is_made_or_fetched_for_a_batch_that_is_not_trusted(ends):
    sealed(ends.out, 1)
    list(ends.push())
    log = Log()

    events = list(ends.pull(terms=Terms(trust=Trust(True, lambda *_: "")), watch=log))

    assert [(e.kind, e.code) for e in events] == [("refused", 65)]
    assert log.told == []
    assert ends.site.origins() == []
