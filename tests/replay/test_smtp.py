"""One connection: each way a server can refuse, go silent or go away, and what that means for each recipient."""

from __future__ import annotations

import socket
import threading

import pytest
from support.importing import NODE
from support.sink import DROP, Connect, Data, EndOfData, Helo, MailFrom, RcptTo, Rset, Say, Sink

from bsmtp_batch.replay import address, targets
from bsmtp_batch.replay.contract import Job, Kind, Unreachable
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import stuff
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Protocol

TEXT = b"Subject: x\r\n\r\nbody\r\n"
GOOD, LATER, NEVER, DOUBT = Kind.DELIVERED, Kind.DEFERRED, Kind.REJECTED, Kind.DOUBTFUL


def job(*to, content=TEXT):
    rcpts = tuple(Rcpt(b"%s@site.example" % one) for one in to or (b"u",))
    wire = stuff(content)
    return Job("n", Mail(b"a@b.example"), rcpts, len(content), False, lambda: iter((wire,)), lambda: iter((content,)))


def connect(sink, patience=0.1):
    return targets.target_of(address.parse(sink.url), node=NODE, patience=patience).connect()


def carry(sink, *jobs, patience=0.1):
    """The results of ``jobs`` over one connection, and how often a dot was announced."""
    dots = []
    connection = connect(sink, patience)
    results = [connection.carry(one, lambda: dots.append(1)) for one in jobs or (job(),)]
    connection.close()
    return results, len(dots)


def kinds(result):
    return [verdict.kind for verdict in result.verdicts]


def to(kind, reply):
    """An answer that says ``reply`` to requests of one kind."""
    return lambda asked: reply if isinstance(asked.request, kind) else None


def per_user(*, on=RcptTo, **replies):
    """An answer by the local part of the recipient."""

    def answer(asked):
        rcpt = asked.rcpt if on is EndOfData else getattr(asked.request, "rcpt", None)
        if isinstance(asked.request, on) and rcpt is not None:
            return replies.get(rcpt.path.split(b"@")[0].decode())
        return None

    return answer


@pytest.fixture(params=["pipelined", "one by one"])
def offers(request):
    return b"PIPELINING\n8BITMIME" if request.param == "pipelined" else b"8BITMIME"


def test_mixed_verdicts_at_rcpt_stay_with_their_recipients(offers):
    answer = per_user(bad=Reply(550, b"5.1.1", b"no"), busy=Reply(450, b"4.2.1", b"wait"))
    with Sink(answer, offers=offers) as sink:
        [result], dots = carry(sink, job(b"one", b"bad", b"busy", b"two"))

    assert kinds(result) == [GOOD, NEVER, LATER, GOOD]
    assert (dots, sink.taken[0].to) == (1, [b"one@site.example", b"two@site.example"])
    assert result.ended == ""


def test_nobody_accepted_means_no_dot_and_the_next_message_goes_on(offers):
    with Sink(per_user(bad=Reply(550, b"5.1.1", b"no")), offers=offers) as sink:
        [first, second], dots = carry(sink, job(b"bad"), job(b"good"))

    assert (kinds(first), kinds(second), dots) == ([NEVER], [GOOD], 1)
    assert sink.count(Rset) == 1
    assert sink.violations == [] or b"PIPELINING" in offers


class Script:
    """A server that reads up to each mark and then says the octets beside it, whatever they are."""

    def __init__(self, *steps):
        self.heard = []
        self._steps = steps

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()
        self.url = f"smtp://127.0.0.1:{self._listener.getsockname()[1]}"
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._listener.close()

    def _talk(self):
        connection, _ = self._listener.accept()
        with connection:
            for mark, octets in self._steps:
                heard = b""
                while mark not in heard and (piece := connection.recv(65536)):
                    heard += piece
                self.heard.append(heard)
                connection.sendall(octets)


GREETED = ((b"", b"220 hi\r\n"), (b"EHLO", b"250-hi\r\n250 PIPELINING\r\n"))


def test_a_go_ahead_for_nobody_is_ended_by_a_lone_dot():
    with Script(
        *GREETED,
        (b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go ahead\r\n"),
        (b".\r\n", b"250 nothing\r\n"),
        (b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go ahead\r\n"),
        (b"\r\n.\r\n", b"250 taken\r\n"),
        (b"QUIT", b"221 bye\r\n"),
    ) as server:
        [first, second], dots = carry(server, job(b"bad"), job(b"good"))

    assert server.heard[3] == b".\r\n"
    assert (kinds(first), kinds(second), dots) == ([NEVER], [GOOD], 1)


def test_a_go_ahead_taken_back_at_once_is_no_delivery():
    with Script(*GREETED, (b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go ahead\r\n552 5.3.4 too big\r\n")) as server:
        [result], dots = carry(server)

    assert (kinds(result), dots) == ([NEVER], 0)
    assert result.ended


@pytest.mark.parametrize(
    "octets",
    [b"250 ok\r\n250 ok\r\n250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n250 why not\r\n", b"999 ok\r\n"],
)
def test_answers_that_make_no_sense_are_never_taken_for_a_delivery(octets):
    with Script(*GREETED, (b"DATA\r\n", octets)) as server:
        [result], _ = carry(server)

    assert kinds(result)[0] in (LATER, DOUBT)
    assert result.ended


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(451, b"4.3.0", b"later"), LATER),
        (Reply(550, b"5.7.1", b"not you"), NEVER),
        (Reply(530, b"5.7.0", b"log in first"), LATER),
    ],
)
def test_a_refused_sender_is_the_verdict_for_all(offers, reply, kind):
    with Sink(to(MailFrom, reply), offers=offers) as sink:
        [result], dots = carry(sink, job(b"one", b"two"))

    assert (kinds(result), dots, result.ended) == ([kind] * 2, 0, "")
    assert str(reply) == result.verdicts[0].reply


@pytest.mark.parametrize(("reply", "kind"), [(Reply(451, b"", b"no"), LATER), (Reply(554, b"", b"no"), NEVER)])
def test_a_refused_data_is_the_verdict_for_the_accepted(offers, reply, kind):
    def answer(asked):
        if isinstance(asked.request, Data):
            return reply
        return per_user(bad=Reply(550, b"5.1.1", b"no"))(asked)

    with Sink(answer, offers=offers) as sink:
        [result, _], dots = carry(sink, job(b"one", b"bad"), job())

    assert (kinds(result), dots) == ([kind, NEVER], 0)


@pytest.mark.parametrize(("reply", "kind"), [(Reply(452, b"", b"full"), LATER), (Reply(554, b"", b"spam"), NEVER)])
def test_a_refused_dot_is_the_verdict_for_the_accepted(reply, kind):
    def answer(asked):
        if isinstance(asked.request, EndOfData):
            return reply
        return per_user(bad=Reply(550, b"5.1.1", b"no"))(asked)

    with Sink(answer) as sink:
        [result], dots = carry(sink, job(b"one", b"bad", b"two"))

    assert (kinds(result), dots, result.ended) == ([kind, NEVER, kind], 1, "")


@pytest.mark.parametrize("end", [DROP, Say(b"hello?\r\n"), Say(b"250-half a reply\r\n")])
def test_a_connection_lost_after_the_dot_leaves_a_doubt(end):
    def answer(asked):
        if isinstance(asked.request, EndOfData):
            return end
        return per_user(bad=Reply(550, b"5.1.1", b"no"))(asked)

    with Sink(answer) as sink:
        [result], _ = carry(sink, job(b"one", b"bad"))

    assert kinds(result) == [DOUBT, NEVER]
    assert result.ended
    assert not result.leave


@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data])
def test_a_connection_lost_before_the_dot_leaves_none(offers, kind):
    with Sink(to(kind, DROP), offers=offers) as sink:
        [result], dots = carry(sink, job(b"one", b"two"))

    assert (kinds(result), dots) == ([LATER, LATER], 0)
    assert result.ended


@pytest.mark.parametrize("kind", [MailFrom, RcptTo, Data, EndOfData])
def test_a_421_defers_and_asks_to_be_left_alone(offers, kind):
    with Sink(to(kind, Reply(421, b"4.3.2", b"going down")), offers=offers) as sink:
        [result], _ = carry(sink, job(b"one", b"two"))

    assert kinds(result) == [LATER, LATER]
    assert result.leave
    assert "going down" in result.ended


def test_silence_after_the_dot_is_a_doubt():
    from support.sink import Hold

    hold = Hold()
    with Sink(to(EndOfData, hold)) as sink:
        [result], _ = carry(sink, job(), patience=0.0005)
        hold.go_on.set()

    assert kinds(result) == [DOUBT]
    assert "no answer" in result.ended


def test_silence_before_the_dot_is_none():
    from support.sink import Hold

    hold = Hold()
    with Sink(to(MailFrom, hold)) as sink:
        [result], dots = carry(sink, job(), patience=0.001)
        hold.go_on.set()

    assert (kinds(result), dots) == ([LATER], 0)


class Babble:
    """A channel on which there is always more to read, and never the end of a line; it gives up after a while."""

    heard = 0

    def send(self, data, seconds):
        pass

    def receive(self, seconds):
        self.heard += 1
        assert self.heard < 1_000_000, "nobody looked at the clock"
        return b"x" * 100

    def close(self):
        pass


@pytest.mark.timeout(60)
def test_a_server_that_never_ends_its_line_runs_out_of_time():
    connection = SmtpConnection(Babble(), Protocol.SMTP, patience=0.0005)

    with pytest.raises(Unreachable, match="no answer within the time allowed"):
        connection.greet(NODE)


def test_a_refusal_in_the_middle_of_a_long_text_is_no_delivery():
    with Script(
        *GREETED,
        (b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go ahead\r\n"),
        (b"yyyy", b"552 5.3.4 too big\r\n"),
    ) as server:
        [result], _ = carry(server, job(content=b"x: y\r\n\r\n" + (b"y" * 70 + b"\r\n") * 200_000))

    assert kinds(result)[0] in (NEVER, DOUBT, LATER)  # a reset connection may swallow the words, never the mail
    assert result.ended


@pytest.mark.parametrize("reply", [Reply(554, b"", b"no service"), Reply(421, b"", b"busy"), Reply(450, b"", b"hm")])
def test_a_server_that_does_not_greet_is_unreachable(reply):
    with Sink(to(Connect, reply)) as sink, pytest.raises(Unreachable, match=str(reply)):
        connect(sink)


def test_a_far_side_that_is_no_server_is_unreachable():
    with Sink(to(Connect, Say(b"SSH-2.0-OpenSSH_9.2\r\n"))) as sink, pytest.raises(Unreachable, match="no reply"):
        connect(sink)


def test_a_server_without_ehlo_is_greeted_the_old_way():
    def answer(asked):
        return Reply(502, b"", b"what?") if asked.request == Helo(NODE.encode()) else None

    with Sink(answer) as sink:
        [result], _ = carry(sink)

    assert kinds(result) == [GOOD]
    assert sink.taken[0].mail.params == ()


def test_a_server_that_refuses_every_greeting_is_unreachable():
    with Sink(to(Helo, Reply(550, b"", b"I do not know you"))) as sink, pytest.raises(Unreachable, match="know you"):
        connect(sink)


def test_one_recipient_too_many_can_be_told_apart():
    def answer(asked):
        late = isinstance(asked.request, RcptTo) and asked.request.rcpt.path > b"u3@" + b"~"
        return Reply(452, b"4.5.3", b"too many recipients") if late else None

    with Sink(answer) as sink:
        [result], _ = carry(sink, job(b"u1", b"u2", b"u3", b"u4", b"u5"))

    assert kinds(result) == [GOOD, GOOD, GOOD, Kind.CROWDED, Kind.CROWDED]


def test_lmtp_answers_for_each_recipient_alone():
    answer = per_user(on=EndOfData, full=Reply(452, b"4.2.2", b"over quota"), gone=Reply(550, b"5.1.1", b"gone"))
    with Sink(answer, protocol=Protocol.LMTP) as sink:
        [result], dots = carry(sink, job(b"one", b"full", b"gone", b"two"))

    assert (kinds(result), dots) == ([GOOD, LATER, NEVER, GOOD], 1)


def test_lmtp_with_some_refused_at_rcpt_keeps_the_order():
    def answer(asked):
        return per_user(bad=Reply(550, b"5.1.1", b"no"))(asked) or per_user(
            on=EndOfData, full=Reply(452, b"4.2.2", b"over quota")
        )(asked)

    with Sink(answer, protocol=Protocol.LMTP) as sink:
        [result], _ = carry(sink, job(b"bad", b"one", b"bad", b"full", b"two"))

    assert kinds(result) == [NEVER, GOOD, NEVER, LATER, GOOD]


def test_lmtp_lost_between_two_answers_doubts_only_the_rest():
    with Sink(per_user(on=EndOfData, two=DROP), protocol=Protocol.LMTP) as sink:
        [result], _ = carry(sink, job(b"one", b"two", b"three"))

    assert kinds(result) == [GOOD, DOUBT, DOUBT]


def test_many_recipients_with_long_parameters_do_not_choke_the_pipe(offers):
    names = [b"u%03d" % n + b"x" * 60 for n in range(1000)]
    with Sink(offers=offers) as sink:
        [result], _ = carry(sink, job(*names))

    assert kinds(result) == [GOOD] * 1000
    assert len(sink.taken[0].rcpts) == 1000


def test_a_line_that_was_turned_round_is_gone_on_with_and_its_greeting_is_not_missed():
    """The customer may greet so early that the greeting comes with the last packet of the other direction."""
    from bsmtp_batch.edge.sockets import SocketChannel
    from bsmtp_batch.wire.events import Atrn, Connect, Helo
    from bsmtp_batch.wire.session import Role, Session

    hub, customer = (Session(role) for role in (Role.SERVER, Role.CLIENT))
    for request, reply in (
        (Connect(), Reply(220, b"", b"hub")),
        (Helo(b"site"), Reply(250, b"", b"hub\nATRN")),
        (Atrn(), Reply(250, b"2.0.0", b"turning")),
    ):
        if not isinstance(request, Connect):
            hub.receive(customer.send(request))
        customer.receive(hub.send(reply))
    customer.turn()
    hub.receive(customer.send(Reply(220, b"", b"site")))  # before the hub itself has turned
    hub.turn()

    ours, theirs = socket.socketpair()
    theirs.sendall(b"250-site\r\n250 PIPELINING\r\n")
    connection = SmtpConnection(SocketChannel(ours), Protocol.SMTP, session=hub, patience=0.01)
    connection.greet("hub.example")
    assert b"PIPELINING" in connection.extensions
    theirs.sendall(b"250 2.0.0 alive\r\n")
    assert connection.still_there()
    theirs.close()
    assert not connection.still_there()
    connection.close()
