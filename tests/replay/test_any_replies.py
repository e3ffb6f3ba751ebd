"""Whatever a server says, wherever the line breaks: each recipient is told about once, as the server meant it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from support.lockstep import LockstepTarget
from support.sink import DROP, Data, EndOfData, Helo, MailFrom, RcptTo, Say, Sink

from bsmtp_batch.replay.contract import Job, Kind
from bsmtp_batch.replay.engine import Engine
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Protocol

OK = None
ANSWERS = st.sampled_from(
    [OK] * 12
    + [Reply(550, b"5.1.1", b"no"), Reply(450, b"4.2.1", b"wait"), Reply(452, b"4.5.3", b"too many"), Reply(503)]
    + [Reply(421, b"4.3.2", b"bye"), DROP, Say(b"nonsense\r\n"), Say(b"250-half")]
)
FATES = {Kind.DELIVERED, Kind.DEFERRED, Kind.REJECTED, Kind.DOUBTFUL}


class Script:
    """A sink's answers, taken from a list in order, and what it had answered for by its dots: (message, recipient)."""

    def __init__(self, answers, log):
        self.answers = list(answers)
        self.log = log
        self.yes, self.no, self.open = Counter(), Counter(), Counter()
        self.message = 0

    def __call__(self, asked):
        if not isinstance(asked.request, (MailFrom, RcptTo, Data, EndOfData)):
            return None
        said = self.answers.pop(0) if self.answers else None
        if isinstance(asked.request, MailFrom):
            self.message = number(asked.request.mail)
        if isinstance(asked.request, EndOfData):
            self.log.append(("dot", self.message, asked.connection))
            taken = self.sink.taken[-1]
            assert number(taken.mail) == self.message
            for rcpt in [asked.rcpt.path] if asked.rcpt else taken.to:
                where = self.open if said in (DROP,) or isinstance(said, Say) else self.yes if said is None else self.no
                where[(self.message, rcpt)] += 1
        return said


def number(mail):
    return int(mail.path.split(b"@")[0])


class One:
    """A delivery that notes its marks and verdicts in ``log``."""

    def __init__(self, which, rcpts, log, verdicts):
        self.number, self.log, self.verdicts = which, log, verdicts
        wire = b"x: %d\r\n\r\n" % which
        self.job = Job(
            str(which),
            Mail(b"%d@h" % which),
            tuple(map(Rcpt, rcpts)),
            9,
            False,
            lambda: iter((wire,)),
            lambda: iter(()),
        )

    def begin(self):
        self.log.append(("mark", self.number, 0))

    def settle(self, result):
        self.log.append(("settle", self.number, 0))
        served = any(verdict.kind is Kind.DELIVERED for verdict in result.verdicts)
        again = []
        for rcpt, verdict in zip(self.job.rcpts, result.verdicts, strict=True):
            if verdict.kind is Kind.CROWDED and served:
                again.append(rcpt.path)
            else:
                kind = Kind.DEFERRED if verdict.kind is Kind.CROWDED else verdict.kind
                assert (self.number, rcpt.path) not in self.verdicts, "told about twice"
                self.verdicts[(self.number, rcpt.path)] = kind
        return One(self.number, again, self.log, self.verdicts) if again else None


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(ANSWERS, max_size=40),
    st.sampled_from(list(Protocol)),
    st.booleans(),
    st.sampled_from([1, 7, 65536]),
)
def test_each_recipient_gets_the_one_verdict_that_the_server_gave(sizes, answers, protocol, pipelined, pieces):
    log, verdicts = [], {}
    script = Script(answers, log)
    script.sink = sink = Sink(script, protocol=protocol, offers=b"PIPELINING\n8BITMIME" if pipelined else b"8BITMIME")
    target = LockstepTarget(sink, pieces=pieces)
    found = [One(n, [b"%d.%d@s" % (n, r) for r in range(size)], log, verdicts) for n, size in enumerate(sizes, 1)]
    with Engine(target) as engine:
        left = engine.run(found)

    everybody = {(one.number, rcpt.path) for one in found for rcpt in one.job.rcpts}
    begun = {(which, rcpt) for which, rcpt in everybody if which not in {one.number for one in left}}
    assert begun <= set(verdicts) <= everybody
    assert set(verdicts.values()) <= FATES
    for who, kind in verdicts.items():
        assert (kind is Kind.DELIVERED) == (script.yes[who] == 1 and not script.open[who]), (who, kind)
        assert kind is not Kind.DOUBTFUL or script.open[who] or unheard(script, who, protocol)
    assert max((script.yes + script.open).values(), default=0) <= 1, "handed in twice"
    assert max((script.yes + script.open + script.no).values(), default=0) <= 1
    assert ordered(log)
    assert sum(isinstance(request, Helo) for request in sink.requests) >= len(target.channels)


def unheard(script, who, protocol):
    """In LMTP a line that ends between two answers leaves the rest of the recipients without one."""
    return protocol is Protocol.LMTP and not script.yes[who] and not script.no[who]


def ordered(log):
    """No dot without its mark, and no mark before all that was sent earlier was settled."""
    marked, dotted = set(), set()
    for what, which, _ in log:
        if what == "mark":
            assert not dotted, f"{which} is about to finish, and {dotted} not settled"
            marked = {which}
        elif what == "dot":
            assert which in marked
            dotted.add(which)
        else:
            dotted.discard(which)
    return not dotted
