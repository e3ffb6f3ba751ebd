"""What is said ahead of its turn: one round trip for a message, and no verdict in the wrong place because of it."""

from __future__ import annotations

import pytest
from support.lockstep import Letter, LockstepTarget
from support.sink import DROP, Data, EndOfData, MailFrom, RcptTo, Rset, Say, Sink

from bsmtp_batch.replay.contract import Kind
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.replay.transaction import GROUP_REQUESTS
from bsmtp_batch.wire.events import Quit, Reply
from bsmtp_batch.wire.session import Protocol

GOOD, LATER, NEVER, DOUBT, CROWDED = Kind.DELIVERED, Kind.DEFERRED, Kind.REJECTED, Kind.DOUBTFUL, Kind.CROWDED
PIPELINED, SINGLY = b"PIPELINING\n8BITMIME", b"8BITMIME"


def users(count):
    return tuple(b"u%d@site.example" % n for n in range(count))


def letters(count, rcpts=1, **more):
    log = []
    return [Letter(n, log, users(rcpts), **more) for n in range(1, count + 1)]


def run(found, answer=lambda asked: None, *, offers=PIPELINED, protocol=Protocol.SMTP, most=1000, pieces=65536):
    sink = Sink(answer, offers=offers, protocol=protocol)
    target = LockstepTarget(sink, most=most, pieces=pieces)
    with Engine(target) as engine:
        left = engine.run(found)
    return sink, target, engine, left


def said(number, kind, reply, *, times=1000):
    """An answer to requests of ``kind`` that belong to message ``number``."""
    state = {"message": 0, "left": times}

    def answer(asked):
        if isinstance(asked.request, MailFrom):
            state["message"] = int(asked.request.mail.path.split(b"@")[0][1:])
        if isinstance(asked.request, kind) and state["message"] == number and state["left"]:
            state["left"] -= 1
            return reply
        return None

    return answer


# --- how many round trips -----------------------------------------------------------------------------------------


def flights(count, rcpts, offers=PIPELINED, protocol=Protocol.SMTP):
    found = letters(count, rcpts)
    sink, target, _, _ = run(found, offers=offers, protocol=protocol)
    assert len(sink.taken) == count
    assert all(one.kinds == [GOOD] * rcpts for one in found)
    return target.flights


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.LMTP])
@pytest.mark.parametrize("rcpts", [1, 2, 3, 40])
def test_a_message_costs_one_round_trip(rcpts, protocol):
    hello, first, quit_ = 1, 1, 1
    for count in (1, 2, 40):
        assert flights(count, rcpts, protocol=protocol) == count + hello + first + quit_


def test_where_pipelining_is_not_offered_each_command_waits():
    assert flights(20, 2, SINGLY) == 20 * (3 + 2) + 2


@pytest.mark.parametrize(("rcpts", "times"), [(1, 3.8), (2, 5.0)])
def test_it_saves_what_one_command_for_each_round_trip_costs(rcpts, times):
    """For each further message; a greeting and a farewell cost the same either way."""
    many, few = 120, 20
    singly = flights(many, rcpts, SINGLY) - flights(few, rcpts, SINGLY)
    ahead = flights(many, rcpts) - flights(few, rcpts)
    assert singly >= times * ahead
    assert flights(many, rcpts, SINGLY) >= 0.95 * times * flights(many, rcpts)


def test_refused_messages_cost_no_more():
    found = letters(40)
    _, target, _, _ = run(found, lambda asked: Reply(550, b"", b"no") if isinstance(asked.request, RcptTo) else None)
    assert {tuple(one.kinds) for one in found} == {(NEVER,)}
    assert target.flights == 40 + 2


def test_a_message_with_many_recipients_goes_in_groups():
    found = letters(2, 1000)
    _, target, _, _ = run(found)
    requests = [flight.count(b"RCPT TO:") for channel in target.channels for flight in channel.flights]
    assert max(requests) <= GROUP_REQUESTS
    assert [one.kinds for one in found] == [[GOOD] * 1000] * 2


def test_the_answers_to_an_lmtp_dot_count_in_the_group():
    """A server that waits for us to read a hundred replies does not read on."""
    for rcpts in (GROUP_REQUESTS - 1, GROUP_REQUESTS, GROUP_REQUESTS + 1, 300):
        found = letters(3, rcpts)
        _, target, _, _ = run(found, protocol=Protocol.LMTP)
        for flight in target.channels[0].flights:
            text, dot, behind = flight.rpartition(b"\r\n.\r\n")
            assert not dot or not behind or rcpts + behind.count(b"\r\n") <= GROUP_REQUESTS, text
        assert [one.kinds for one in found] == [[GOOD] * rcpts] * 3


def test_the_last_dot_waits_for_no_next_message():
    found = letters(1)
    sink = Sink(offers=PIPELINED)
    target = LockstepTarget(sink)
    with Engine(target) as engine:
        for one in found * 3:
            engine.run([one])
            assert target.channels[0].flights[-1].endswith(b"\r\n.\r\n")
    assert len(sink.taken) == 3


# --- what is settled before what ----------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [PIPELINED, SINGLY])
def test_the_mark_of_a_message_comes_after_the_outcome_of_the_one_before_and_ahead_of_its_dot(offers):
    found = letters(4)
    log = found[0].log

    def answer(asked):
        if isinstance(asked.request, EndOfData):
            log.append(("dot", asked.messages))

    run(found, answer, offers=offers)
    assert log == [(what, n) for n in (1, 2, 3, 4) for what in ("mark", "dot", "settle")]


def test_no_text_is_sent_before_the_message_before_it_is_settled():
    found = letters(3)
    _, target, _, _ = run(found)
    for flight in target.channels[0].flights:
        assert flight.count(b"Subject:") <= 1
        assert not flight.endswith(b"DATA\r\n") or b"Subject:" not in flight.rpartition(b"\r\n.\r\n")[2]


# --- what is refused, and what is lost ----------------------------------------------------------------------------

NO, WAIT = Reply(550, b"5.7.1", b"no"), Reply(451, b"4.3.0", b"wait")


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.LMTP])
@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data, EndOfData])
@pytest.mark.parametrize(("reply", "verdict"), [(NO, NEVER), (WAIT, LATER)])
def test_a_refusal_stays_with_its_message(kind, reply, verdict, protocol):
    found = letters(4, 2)
    sink, target, _, _ = run(found, said(2, kind, reply), protocol=protocol)

    assert [one.kinds for one in found] == [[GOOD] * 2, [verdict] * 2, [GOOD] * 2, [GOOD] * 2]
    assert len(target.channels) == 1
    assert [one.mail.path[:2] for one in sink.taken if one.mail.path != b"m2@hub.example"] == [b"m1", b"m3", b"m4"]
    assert sink.count(Rset) == (kind in (RcptTo, Data))


def test_lmtp_answers_go_to_the_message_and_the_recipient_they_belong_to():
    def answer(asked):
        if isinstance(asked.request, RcptTo) and asked.request.rcpt.path == b"u1@site.example":
            return NO
        if isinstance(asked.request, EndOfData) and asked.rcpt.path == b"u2@site.example":
            return WAIT if asked.messages == 2 else NO
        return None

    found = letters(3, 4)
    run(found, answer, protocol=Protocol.LMTP)
    assert [one.kinds for one in found] == [[GOOD, NEVER, n, GOOD] for n in (NEVER, LATER, NEVER)]


class Raw:
    """A target; each connection answers every flight with the next of its answers, and then goes silent."""

    name = "raw"

    def __init__(self, *connections):
        self.flights = []
        self._connections = list(connections)

    def connect(self):
        connection = SmtpConnection(RawChannel(self.flights, self._connections.pop(0)), Protocol.SMTP)
        connection.greet("hub.example")
        return connection


class RawChannel:
    def __init__(self, flights, answers):
        self._flights = flights
        self._answers = [b"220 hi\r\n", b"250-hi\r\n250 PIPELINING\r\n", *answers]

    def send(self, data, seconds):
        self._flights.append(bytes(data))

    def receive(self, seconds):
        if not self._answers:
            raise TimeoutError
        return self._answers.pop(0)

    def close(self):
        pass


GO = b"250 ok\r\n250 ok\r\n354 go ahead\r\n"


def test_a_go_ahead_for_nobody_behind_a_dot_is_ended_by_a_lone_dot():
    found = letters(3)
    nobody = b"250 taken\r\n250 ok\r\n550 no\r\n354 go ahead\r\n"
    target = Raw((GO, nobody, b"250 nothing\r\n", GO, b"250 taken\r\n", b"221 bye\r\n"))
    with Engine(target) as engine:
        engine.run(found)

    assert [one.kinds for one in found] == [[GOOD], [NEVER], [GOOD]]
    assert ("mark", 2) not in found[0].log
    lone = target.flights.index(b".\r\n")
    assert target.flights[lone - 1].endswith(b"\r\n.\r\n" + envelope(2))
    assert target.flights[lone + 1] == envelope(3)


def envelope(number):
    return b"MAIL FROM:<m%d@hub.example>\r\nRCPT TO:<u0@site.example>\r\nDATA\r\n" % number


def test_silence_is_told_as_what_was_waited_for():
    found = letters(4)
    silent_at_dot, silent_behind, silent_at_mail = (GO,), (GO, b"250 taken\r\n"), ()
    with Engine(Raw(silent_at_dot, silent_behind, silent_at_mail, (GO, b"250 taken\r\n"))) as engine:
        engine.run(found)

    assert [one.kinds for one in found] == [[DOUBT], [GOOD], [LATER], [GOOD]]
    assert "no answer within the time allowed while sending end of data" in found[0].results[0].ended
    assert "no answer within the time allowed while sending MAIL" in found[2].results[0].ended


@pytest.mark.parametrize("end", [DROP, Say(b"what?\r\n"), Say(b"250-half\r\n")])
def test_a_line_lost_at_the_dot_doubts_that_message_and_the_next_goes_on_elsewhere(end):
    found = letters(4)
    sink, target, _, left = run(found, said(2, EndOfData, end, times=1))

    assert [one.kinds for one in found] == [[GOOD], [DOUBT], [GOOD], [GOOD]]
    assert [len(one.results) for one in found] == [1] * 4
    assert [taken.connection for taken in sink.taken] == [1, 1, 2, 2]
    assert (len(target.channels), left) == (2, [])


def test_a_line_lost_behind_the_dot_decides_that_message_and_the_next_goes_on_elsewhere():
    """A server that takes so many messages on one connection, and hangs up."""
    found = letters(4)
    sink, _, _, _ = run(found, said(3, MailFrom, DROP, times=1))

    assert [one.kinds for one in found] == [[GOOD]] * 4
    assert [taken.connection for taken in sink.taken] == [1, 1, 2, 2]


def test_a_message_at_which_every_line_is_lost_waits_for_the_next_run():
    found = letters(4)
    _, target, _, _ = run(found, said(3, MailFrom, DROP))

    assert [one.kinds for one in found] == [[GOOD], [GOOD], [LATER], [GOOD]]
    assert found[2].results[0].verdicts[0].reply.startswith("451 4.4.2 ")
    assert len(target.channels) == 3


@pytest.mark.parametrize("kind", [RcptTo, Data])
def test_a_line_lost_in_the_envelope_behind_a_dot_defers_what_it_was_lost_with(kind):
    found = letters(4, 2)
    sink, target, _, _ = run(found, said(3, kind, DROP, times=1))

    assert [one.kinds for one in found] == [[GOOD] * 2, [GOOD] * 2, [LATER] * 2, [GOOD] * 2]
    assert len(target.channels) == 2
    assert ("mark", 3) not in found[0].log
    assert len(sink.taken) == 3


BYE = Reply(421, b"4.3.2", b"going down")


def test_a_421_to_the_dot_leaves_the_next_untouched():
    found = letters(4)
    _, target, engine, left = run(found, said(2, EndOfData, BYE))

    assert [one.kinds for one in found[:2]] == [[GOOD], [LATER]]
    assert (left, engine.code, len(target.channels)) == (found[2:], 75, 1)
    assert not found[2].results
    assert ("mark", 3) not in found[0].log


@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data])
def test_a_421_behind_the_dot_leaves_the_dot_decided(kind):
    found = letters(4)
    _, target, engine, left = run(found, said(3, kind, BYE))

    assert [one.kinds for one in found[:3]] == [[GOOD], [GOOD], [LATER]]
    assert (left, len(target.channels)) == (found[3:], 1)
    assert "going down" in engine.stopped
    assert ("mark", 3) not in found[0].log


def test_a_421_in_the_middle_of_lmtp_answers_doubts_the_rest_only():
    found = letters(3, 3)

    def answer(asked):
        second = isinstance(asked.request, EndOfData) and asked.rcpt.path == b"u1@site.example"
        return BYE if second and asked.messages == 2 else None

    _, _, _, left = run(found, answer, protocol=Protocol.LMTP)
    assert [one.kinds for one in found[:2]] == [[GOOD] * 3, [GOOD, LATER, DOUBT]]
    assert left == found[2:]


# --- what is not said ahead ---------------------------------------------------------------------------------------


def test_recipients_that_were_too_many_come_before_the_next_message():
    def answer(asked):
        late = isinstance(asked.request, RcptTo) and asked.request.rcpt.path > b"u1@~"
        return Reply(452, b"4.5.3", b"too many") if late and not asked.messages else None

    found = letters(2, 4)
    sink, _, _, _ = run(found, answer)
    assert [taken.to for taken in sink.taken] == [list(users(2)), list(users(4)[2:]), list(users(4))]
    assert [len(result.verdicts) for result in found[0].results] == [4, 2]


def test_a_message_that_the_server_cannot_carry_is_told_so_in_its_turn():
    found = letters(3)
    found[1].job = Letter(2, found[0].log, content=b"\xff\r\n", eight_bit=True).job
    _, target, _, _ = run(found, offers=b"PIPELINING")

    assert [one.kinds for one in found] == [[GOOD], [NEVER], [GOOD]]
    assert target.flights == 6
    assert found[0].log.index(("settle", 1)) < found[0].log.index(("settle", 2))


def test_deliveries_that_fail_to_come_cost_the_one_before_nothing():
    found = letters(2)

    def coming():
        yield found[0]
        raise OSError("the batch cannot be read")

    sink = Sink(offers=PIPELINED)
    with Engine(LockstepTarget(sink)) as engine, pytest.raises(OSError, match="cannot be read"):
        engine.run(coming())
    assert found[0].kinds == [GOOD]
    assert len(sink.taken) == 1


def test_a_failure_between_two_messages_ends_the_connection_and_sends_no_text():
    found = letters(3)
    found[0].settle = lambda result: (_ for _ in ()).throw(RuntimeError("the disk is full"))
    sink = Sink(offers=PIPELINED)
    target = LockstepTarget(sink)
    with Engine(target) as engine:
        with pytest.raises(RuntimeError, match="disk"):
            engine.run(found)
        engine.run(found[1:])
    assert [taken.mail.path for taken in sink.taken] == [b"m1@hub.example", b"m2@hub.example", b"m3@hub.example"]
    assert [taken.connection for taken in sink.taken] == [1, 2, 2]
    assert sink.count(Quit) == 1


def test_what_is_over_by_the_time_of_its_turn_is_not_sent():
    found = letters(3)
    sink = Sink(offers=PIPELINED)
    with Engine(LockstepTarget(sink)) as engine:
        left = engine.run(found, over=lambda: len(sink.taken) == 2)
        other = letters(1)
        engine.run(other)
    assert left == found[2:]
    assert other[0].kinds == [GOOD], "what was begun and not sent is in the way"
    assert [one.kinds for one in found[:2]] == [[GOOD], [GOOD]]


@pytest.mark.parametrize("rcpts", [1, 300])
def test_another_message_than_the_one_announced_is_not_mixed_up_with_it(rcpts):
    first, announced, other = (Letter(n, [], users(rcpts if n == 2 else 1)) for n in (1, 2, 3))
    sink = Sink(offers=PIPELINED)
    connection = LockstepTarget(sink).connect()
    assert connection.carry(first.job, first.begin, lambda: announced.job).ended == ""
    result = connection.carry(other.job, other.begin)

    assert [verdict.kind for verdict in result.verdicts] == [LATER]
    assert "another message was announced" in result.ended
    assert (len(sink.taken), other.log) == (1, [])
    connection.close()


def test_an_envelope_that_cannot_be_said_costs_the_message_before_it_nothing():
    found = [Letter(1, []), Letter(2, [], sender=b"a\r\nRSET"), Letter(3, [])]
    sink, target, _, _ = run(found)

    assert [one.kinds for one in found] == [[GOOD], [LATER], [GOOD]]
    assert len(sink.taken) == 2
    assert not any(b"a\r\nRSET" in flight for channel in target.channels for flight in channel.flights)


@pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.LMTP])
def test_an_answer_to_the_dot_counts_though_not_all_behind_it_was_taken(protocol):
    """A server that answers the dot and goes away while we still write: what it has said holds."""

    class Leaving(RawChannel):
        def send(self, data, seconds):
            super().send(data, seconds)
            if b"\r\n.\r\nMAIL" in data:
                raise BrokenPipeError(32, "Broken pipe")

    answers = [b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", b"250 taken\r\n"]
    answers += [b"550 not for him\r\n", b""] if protocol is Protocol.LMTP else [b""]
    one, two = letters(2, 2)
    connection = SmtpConnection(Leaving([], answers), protocol)
    connection.greet("hub.example")
    result = connection.carry(one.job, one.begin, lambda: two.job)

    assert [verdict.kind for verdict in result.verdicts] == [GOOD, NEVER if protocol is Protocol.LMTP else GOOD]
    assert "the connection was lost" in result.ended
