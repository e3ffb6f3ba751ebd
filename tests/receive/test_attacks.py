"""What a customer could do to others, or a bad moment to him, by way of the conversation."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from support.batches import manifests
from support.fragments import fill, make_route
from support.pipe_courier import Far

from bsmtp_batch.edge import road
from bsmtp_batch.edge.process import Timed
from bsmtp_batch.receive import giving
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.store import Spool


@pytest.fixture
def hub(tmp_path):
    return Spool(str(tmp_path / "hub"))


@pytest.fixture
def route(hub):
    made = make_route(Path(hub.path))
    for number in (1, 2):
        fill(made, 1, first=number)
        list(seal_route(made, node="hub", caps=Caps(), reserve_size=0))
    return made


def test_what_somebody_else_holds_is_not_told_as_an_empty_list(hub, route):
    """The other side would believe that there is nothing, and hang up."""
    with route.contact():
        answer = Far(hub, "site", [route.name]).converse(b"list\nquit\n")

    assert b"END" not in answer
    assert b"NO 75 not all that waits here can be given now" in answer
    assert answer.endswith(b"BYE\n")


def test_a_batch_that_cannot_be_read_to_its_end_is_not_filled_up_with_words(hub, route, monkeypatch):
    first = manifests(route)[0]

    def failing(fd, size):
        yield os.read(fd, 10)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(giving, "_octets", failing)
    far = Far(hub, "site", [route.name])
    answer = far.converse(b"get %s 0\nlist\n" % first.name.encode())

    head = b"READY 1\nDATA %s %d\n" % (first.name.encode(), first.bytes)
    assert answer == head + Path(route.at("ready", first.name)).read_bytes()[:10]
    assert far.tally.code == 75
    assert far.tally.batches == 0
    assert "Input/output error" in far.tally.result


def test_copies_for_the_road_do_not_pile_up_in_a_long_contact(hub, route, monkeypatch):
    made = []
    compress = road.compress

    def watched(source, target, form, tick):
        made.append(sorted(os.listdir(os.path.dirname(target))))
        return compress(source, target, form, tick)

    monkeypatch.setattr(road, "compress", watched)
    lines = [b"pack %s gzip\n" % manifest.name.encode() for manifest in manifests(route) * 2]
    answer = Far(hub, "site", [route.name]).converse(*lines, b"quit\n")

    assert answer.count(b"PACKED") == 4
    assert made == [[]] * 4
    assert os.listdir(route.at("tmp")) == []


def test_a_full_disk_while_it_is_unpacked_does_not_cost_what_has_come(hub, route, tmp_path, monkeypatch):
    first = manifests(route)[0]
    site, copy = Spool(str(tmp_path / "site")), tmp_path / "copy.gz"
    os.mkdir(site.path)
    size = road.compress(route.at("ready", first.name), str(copy), "gzip", lambda _: None)
    inbox = Inbox(site.path, "hub")
    inbox.make()
    Path(inbox.part(first.name + ".gz")).write_bytes(copy.read_bytes())
    raw, name = first.to_bytes(), first.name.encode()
    offer = b"offer %s gzip %d %d 0\n%ssent %s\nquit\n" % (name, size, len(raw), raw, name)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(road, "expand", full)
        answer = Far(site, "hub", []).converse(offer)
        assert b"NO 75 No space left on device" in answer
    answer = Far(site, "hub", []).converse(offer)

    assert b"SEND %s %d\nACK %s" % (name, size, name) in answer


def test_an_octet_now_and_then_holds_nobody_for_ever():
    reading, writing = os.pipe()
    os.write(writing, b"x" * 100)
    stream = io.BufferedReader(Timed(reading, 60.0, 0.0), buffer_size=1)

    with pytest.raises(TimeoutError):
        while stream.read(1):
            os.write(writing, b"x")

    os.close(reading)
    os.close(writing)
