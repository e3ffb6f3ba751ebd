"""Several connections at once: each keeps the rules of one, and none takes the turn of another."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections import Counter
from dataclasses import replace

import pytest
from support.fleet import Target, posts, replay
from support.sink import DROP, Data, EndOfData, MailFrom, RcptTo, Say, Sink

from bsmtp_batch.replay import address, source
from bsmtp_batch.replay.contract import Kind
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.targets import target_of
from bsmtp_batch.wire.events import Helo, Quit, Reply
from bsmtp_batch.wire.session import Protocol

GOOD, LATER, NEVER, DOUBT = Kind.DELIVERED, Kind.DEFERRED, Kind.REJECTED, Kind.DOUBTFUL
NO, WAIT, BYE = Reply(550, b"5.7.1", b"no"), Reply(451, b"4.3.0", b"wait"), Reply(421, b"4.3.2", b"going down")
EACH = pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.LMTP])


@pytest.fixture(autouse=True)
def a_connection_for_each_message(monkeypatch):
    monkeypatch.setattr(source, "WORTH", 1)


class Script:
    """What the server says to message ``n`` when it gets that far, by connection: ``{n: (request, reply)}``."""

    def __init__(self, replies, *, times=1000):
        self.replies = dict(replies)
        self.left = dict.fromkeys(self.replies, times)
        self.message = {}

    def __call__(self, asked):
        if isinstance(asked.request, MailFrom):
            self.message[asked.connection] = int(asked.request.mail.path.split(b"@")[0][1:])
        number = self.message.get(asked.connection)
        kind, reply = self.replies.get(number, (None, None))
        if kind is not None and isinstance(asked.request, kind) and self.left[number]:
            self.left[number] -= 1
            return reply
        return None


def numbers(sink):
    return sorted(int(one.mail.path.split(b"@")[0][1:]) for one in sink.taken)


@EACH
@pytest.mark.parametrize("rcpts", [1, 3, 60])
def test_each_message_arrives_once_as_it_is(tmp_path, protocol, rcpts):
    found = posts(tmp_path, 60, rcpts=rcpts)
    with Sink(protocol=protocol) as sink:
        left, engine, target = replay(found, sink)
    assert (left, engine.stopped, target.opened) == ([], "", 4)
    assert numbers(sink) == [one.number for one in found]
    assert {one.wire for one in sink.taken} == {one.text for one in found}
    assert {tuple(one.kinds) for one in found} == {(GOOD,) * rcpts}
    assert {verdict.reply for one in found for verdict in one.results[0].verdicts} >= {"250 2.0.0 queued as 9"}


@pytest.mark.parametrize("offers", [b"8BITMIME", b""])
def test_a_server_without_pipelining_has_several_connections_too(tmp_path, offers):
    found = posts(tmp_path, 12)
    with Sink(offers=offers) as sink:
        replay(found, sink)
    assert numbers(sink) == [one.number for one in found]


def test_texts_of_all_sizes_arrive_as_they_are(tmp_path):
    found = []
    with Sink() as sink:
        for size in (0, 100, 16_000, 20_000, 262_144, 270_000, 2_000_000):
            mine = sized(tmp_path, size)
            replay(mine, sink)
            found += mine
    assert Counter(one.wire for one in sink.taken) == Counter(one.text for one in found)


def sized(tmp_path, size):
    directory = tmp_path / str(size)
    directory.mkdir()
    return posts(directory, 3, size=size)


def test_what_waits_on_several_connections_is_one_commit(tmp_path):
    """Four have come as far as a dot before the first is committed; more often than not so it goes on."""
    found = posts(tmp_path, 40)
    with Sink() as sink:
        replay(found, sink)
    commits = [n for what, n in found[0].log if what == "commit"]
    assert len(commits) < 30


@EACH
def test_on_each_connection_a_mark_is_durable_before_its_dot_and_behind_the_outcome_before(tmp_path, protocol):
    found = posts(tmp_path, 40)
    log, lock = found[0].log, threading.Lock()
    connection = {}

    def answer(asked):
        if isinstance(asked.request, MailFrom):
            asked_for = int(asked.request.mail.path.split(b"@")[0][1:])
            connection.setdefault(asked.connection, []).append(asked_for)
        if isinstance(asked.request, EndOfData):
            with lock:
                log.append(("dot", connection[asked.connection][-1]))

    with Sink(answer, protocol=protocol) as sink:
        replay(found, sink)
    for mine in connection.values():
        for number, before in zip(mine[1:], mine, strict=False):
            assert log.index(("mark", number)) < log.index(("dot", number))
            between = log[log.index(("mark", number)) : log.index(("dot", number))]
            assert any(what == "commit" for what, _ in between), "the dot did not wait for the commit"
            assert log.index(("settle", before)) < log.index(("mark", number))


@EACH
@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data, EndOfData])
@pytest.mark.parametrize(("reply", "verdict"), [(NO, NEVER), (WAIT, LATER)])
def test_a_refusal_stays_with_its_message(tmp_path, kind, reply, verdict, protocol):
    found = posts(tmp_path, 20, rcpts=2)
    refused = {1, 5, 6, 20}
    with Sink(Script(dict.fromkeys(refused, (kind, reply))), protocol=protocol) as sink:
        left, engine, target = replay(found, sink)
    assert (left, engine.stopped, target.opened) == ([], "", 4)
    for one in found:
        assert one.kinds == [verdict if one.number in refused else GOOD] * 2
        assert len(one.results) == 1
    assert set(numbers(sink)) == {one.number for one in found} - (set() if kind is EndOfData else refused)


def test_one_recipient_refused_leaves_the_others_theirs(tmp_path):
    found = posts(tmp_path, 20, rcpts=3)
    answer = lambda a: NO if isinstance(a.request, RcptTo) and a.request.rcpt.path == b"u1@site.example" else None  # noqa: E731
    with Sink(answer) as sink:
        replay(found, sink)
    assert {tuple(one.kinds) for one in found} == {(GOOD, NEVER, GOOD)}
    assert len(sink.taken) == 20


def test_too_many_recipients_have_another_go(tmp_path):
    found = posts(tmp_path, 10, rcpts=4)
    asked_for = {}

    def answer(asked):
        if isinstance(asked.request, MailFrom):
            asked_for[asked.connection] = 0
        if isinstance(asked.request, RcptTo):
            asked_for[asked.connection] += 1
            if asked_for[asked.connection] > 3:
                return Reply(452, b"4.5.3", b"too many")
        return None

    with Sink(answer) as sink:
        replay(found, sink)
    assert Counter(path for one in sink.taken for path in one.to) == {b"u%d@site.example" % n: 10 for n in range(4)}
    assert all(len(one.results) == 2 for one in found)


@EACH
@pytest.mark.parametrize("end", [DROP, Say(b"what?\r\n"), Say(b"250-half\r\n")])
def test_a_line_lost_at_the_dot_doubts_that_message_and_nobody_else(tmp_path, end, protocol):
    found = posts(tmp_path, 20)
    with Sink(Script({7: (EndOfData, end)}, times=1), protocol=protocol) as sink:
        left, engine, target = replay(found, sink)
    assert (left, engine.stopped) == ([], "")
    assert target.opened <= 5  # the last message of a connection needs no other one
    assert {one.number: one.kinds for one in found} == {n: [DOUBT if n == 7 else GOOD] for n in range(1, 21)}


@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data])
def test_a_line_lost_in_the_envelope_loses_nothing(tmp_path, kind):
    found = posts(tmp_path, 20)
    with Sink(Script({7: (kind, DROP)}, times=1)) as sink:
        left, engine, _ = replay(found, sink)
    assert (left, engine.stopped) == ([], "")
    assert all(one.kinds == [GOOD] for one in found if one.number != 7)
    assert found[6].kinds == [GOOD if 7 in numbers(sink) else LATER]


def test_a_server_that_takes_few_on_a_connection_gets_all(tmp_path):
    """Nor is it taken for one that is unwell."""
    found = posts(tmp_path, 60)
    taken = Counter()

    def answer(asked):
        if isinstance(asked.request, EndOfData):
            taken[asked.connection] += 1
        return DROP if isinstance(asked.request, MailFrom) and taken[asked.connection] == 3 else None

    with Sink(answer) as sink:
        left, engine, _ = replay(found, sink)
    assert (left, engine.stopped) == ([], "")
    assert {tuple(one.kinds) for one in found} == {(GOOD,)}
    assert numbers(sink) == [one.number for one in found]


def test_a_server_that_has_few_connections_is_used_with_those(tmp_path):
    found = posts(tmp_path, 30)
    with Sink() as sink:
        left, engine, _ = replay(found, sink, 6, most=2)
    assert (left, engine.stopped) == ([], "")
    assert numbers(sink) == [one.number for one in found]


def test_a_server_that_is_away_keeps_everything(tmp_path):
    found = posts(tmp_path, 30)
    with Sink() as sink:
        left, engine, _ = replay(found, sink, most=0)
    assert left == found
    assert engine.stopped == "no more connections"
    assert not found[0].log


def test_a_server_that_is_lost_again_and_again_is_left(tmp_path):
    found = posts(tmp_path, 60)
    with Sink(lambda asked: DROP if isinstance(asked.request, EndOfData) else None) as sink:
        left, engine, _ = replay(found, sink)
    assert "was lost 6 times in a row" in engine.stopped
    tried = [one for one in found if one.results]
    assert {tuple(one.kinds) for one in tried} == {(DOUBT,)}
    assert 6 <= len(tried) <= 10
    assert left == found[len(tried) :] or sorted(n.number for n in left + tried) == [n.number for n in found]


@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data, EndOfData])
def test_a_421_stops_all_and_what_was_ended_is_answered_for(tmp_path, kind):
    found = posts(tmp_path, 60)
    with Sink(Script({9: (kind, BYE)})) as sink:
        left, engine, _ = replay(found, sink)
    assert "going down" in engine.stopped
    ended = [one for one in found if one.results]
    assert {one.number for one in ended} | {one.number for one in left} == {one.number for one in found}
    assert not {one.number for one in ended} & {one.number for one in left}
    assert {one.number for one in ended if one.kinds == [GOOD]} == set(numbers(sink)) - (
        {9} if kind is EndOfData else set()
    )
    assert found[8].kinds == [LATER]


def test_a_commit_that_fails_sends_no_dot_and_loses_no_outcome(tmp_path):
    calls = [0]

    def commit():
        calls[0] += 1
        if calls[0] == 4:
            raise RuntimeError("the ledger is full")

    found = posts(tmp_path, 60, commit=commit)
    with Sink() as sink, pytest.raises(RuntimeError, match="ledger"):
        replay(found, sink)
    assert calls[0] == 4
    assert {one.number for one in found if one.results} == set(numbers(sink))
    assert all(one.kinds == [GOOD] for one in found if one.results)


@pytest.mark.parametrize("failing", [2, 4, 6])
def test_a_message_of_a_run_that_failed_is_not_handed_in_by_the_next(tmp_path, failing):
    """The next run is about another batch, and the first one's file is closed by then."""
    calls = [0]

    def commit():
        calls[0] += 1
        if calls[0] == failing:
            raise RuntimeError("the ledger is full")

    batches = [tmp_path / "first", tmp_path / "second"]
    for directory in batches:
        directory.mkdir()
    first, second = posts(batches[0], 40, commit=commit), posts(batches[1], 5)
    for one in first[1::2]:
        one.job = replace(one.job, span=None)  # unusual: it is not announced behind the one before
    with Sink() as sink, Engine(Target(sink), connections=4) as engine:
        with pytest.raises(RuntimeError, match="ledger"):
            engine.run(first)
        taken = len(sink.taken)
        assert engine.run(second) == []
    assert sorted(one.wire for one in sink.taken[taken:]) == sorted(one.text for one in second)


def test_messages_that_cannot_be_read_leave_the_connections_to_the_next_batch(tmp_path):
    def torn():
        yield found[0]
        raise OSError("the batch was changed")

    found = posts(tmp_path, 20)
    with Sink() as sink, Engine(Target(sink), connections=4) as engine:
        assert engine.run(found[10:]) == []
        with pytest.raises(OSError, match="changed"):
            engine.run(torn())
        assert engine.run(found[:10]) == []
        assert numbers(sink) == list(range(1, 21))


def test_what_fails_behind_a_reply_is_raised_when_the_others_are_answered_for(tmp_path):
    found = posts(tmp_path, 60)
    found[10].settle = lambda result: (_ for _ in ()).throw(OSError("the disk is full"))
    with Sink() as sink, pytest.raises(OSError, match="disk"):
        replay(found, sink)
    assert {one.number for one in found if one.results} == set(numbers(sink)) - {11}


def test_a_text_that_has_become_shorter_is_not_ended(tmp_path):
    found = posts(tmp_path, 20)
    os.truncate(tmp_path / "texts", found[12].span.offset + 5)
    with Sink() as sink, pytest.raises(OSError, match="shorter"):
        replay(found, sink)
    assert set(numbers(sink)) <= set(range(1, 13))
    assert {one.number for one in found if one.results} == set(numbers(sink))


@pytest.mark.parametrize("size", [270_000, 5_000_000])
def test_a_large_text_that_has_become_shorter_is_not_ended(tmp_path, size):
    found = posts(tmp_path, 3, size=size)
    os.truncate(tmp_path / "texts", found[2].span.offset + 50_000)
    with Sink() as sink, pytest.raises(OSError, match="shorter"):
        replay(found, sink)
    assert 3 not in numbers(sink)


def test_what_is_over_is_left(tmp_path):
    found = posts(tmp_path, 60)
    with Sink() as sink:
        left, engine, _ = replay(found, sink, over=lambda: len(sink.taken) >= 10)
    assert engine.stopped == ""
    assert len(sink.taken) < 20
    assert [one.number for one in left] == sorted({one.number for one in found} - set(numbers(sink)))


def test_connections_are_used_again_for_the_next_batch(tmp_path):
    found = posts(tmp_path, 40)
    with Sink() as sink:
        target = Target(sink)
        with Engine(target, connections=4) as engine:
            for at in range(0, 40, 10):
                assert engine.run(found[at : at + 10]) == []
        assert (target.opened, sink.count(Quit), sink.count(Helo)) == (4, 4, 4)


def test_few_messages_are_not_worth_many_connections(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "WORTH", 8)
    for count, connections in ((1, 1), (8, 1), (9, 2), (40, 4)):
        with Sink() as sink:
            _, _, target = replay(posts(tmp_path, count), sink)
        assert target.opened == connections


def test_small_messages_flow_while_large_ones_are_on_their_way(tmp_path):
    """Large ones are held until every small one has arrived: had they all connections, none would."""
    large, flowed = {1, 2, 3, 4, 5, 6}, threading.Event()
    found = posts(tmp_path, 30, large=large)
    script = Script({})

    def answer(asked):
        script(asked)
        number = script.message.get(asked.connection)
        if isinstance(asked.request, EndOfData):
            if number in large:
                assert flowed.wait(30)
            elif {m for m in numbers(sink) if m not in large} == set(range(7, 31)):
                flowed.set()

    with Sink(answer) as sink:
        replay(found, sink, patience=1)
    assert flowed.is_set()
    assert numbers(sink) == list(range(1, 31))


def test_large_messages_have_all_connections_when_nothing_else_waits(tmp_path):
    found = posts(tmp_path, 8, large=range(1, 9))
    together = threading.Barrier(4, timeout=30)

    def answer(asked):
        if isinstance(asked.request, EndOfData):
            together.wait()

    with Sink(answer) as sink:
        replay(found, sink, patience=1)
    assert numbers(sink) == list(range(1, 9))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_server_does_each_message_has_one_fate_and_none_is_lost(tmp_path, seed):
    dice = random.Random(seed)
    kinds, replies = [MailFrom, RcptTo, Data, EndOfData], [NO, WAIT, DROP, Say(b"25"), Say(b"250 x\r\n250 y\r\n")]
    script = Script(
        {n: (dice.choice(kinds), dice.choice(replies)) for n in range(1, 121) if dice.random() < 0.2}, times=1
    )
    found = posts(tmp_path, 120, rcpts=dice.choice([1, 2]))
    with Sink(script, protocol=dice.choice([Protocol.SMTP, Protocol.LMTP])) as sink:
        left, _, _ = replay(found, sink, dice.choice([2, 5, 8]))
    arrived = Counter(numbers(sink))
    assert max(arrived.values()) == 1
    for one in found:
        assert bool(one.results) != (one in left)
        if one.results and set(one.kinds) == {GOOD}:
            assert arrived[one.number] == 1
        if arrived[one.number]:
            assert one.results, "it arrived and nobody knows"
            assert set(one.kinds) & {GOOD, DOUBT} or script.replies[one.number][0] is EndOfData


def test_a_yes_ahead_of_the_end_of_the_text_is_no_yes(tmp_path):
    """The server ends there: nobody has the message, whatever was said."""
    found = posts(tmp_path, 2, size=250_000)

    def serve():
        connection = listener.accept()[0]
        with connection, connection.makefile("rb") as lines:
            for said in (b"220 hi\r\n", b"250-hi\r\n250 PIPELINING\r\n", b"250 a\r\n", b"250 b\r\n"):
                connection.sendall(said)
                lines.readline()
            connection.sendall(b"354 go on\r\n")
            lines.read(20_000)
            connection.sendall(b"250 taken\r\n")
            gone.wait(30)

    gone = threading.Event()
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        place = address.parse(f"lmtp://{path}")
        with Engine(target_of(place, node="hub.example", patience=0.01), connections=2) as engine:
            engine.run(found[:1])
        gone.set()
        thread.join()
    assert found[0].kinds == [DOUBT]
