"""The plan: every recipient is somebody's business, and exactly one's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.batch.events import Message
from bsmtp_batch.importer.policy import Policy
from bsmtp_batch.ledger import Fate, Outcome
from bsmtp_batch.replay.plan import FINAL, notices, plan
from bsmtp_batch.wire.command import Mail, Rcpt

ADDRESSES = [b"a@site.example", b"b@site.example", b"x@evil.example", b"y%evil@site.example", b"postmaster"]
OURS = Policy(["site.example"]).refusal


def message(number, rcpts):
    return Message(
        number=number,
        mail=Mail(b"s@hub.example"),
        rcpts=tuple(map(Rcpt, rcpts)),
        offset=0,
        wire_size=0,
        size=0,
        sha256="",
        line=1,
        newline=b"\r\n",
        exact=True,
        eight_bit=False,
        esmtp=True,
    )


@st.composite
def batches(draw):
    messages, fates = [], {}
    for number in range(1, draw(st.integers(1, 4)) + 1):
        rcpts = draw(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=5))
        messages.append(message(number, rcpts))
        if draw(st.booleans()):
            outcomes = {
                index: Outcome(
                    index,
                    rcpts[index],
                    draw(st.sampled_from([*sorted(FINAL), "deferred"])),
                    "",
                    draw(st.integers(1, 3)),
                    draw(st.sampled_from(["", "due", "sent"])),
                )
                for index in draw(st.sets(st.integers(0, len(rcpts) - 1)))
            }
            state = draw(st.sampled_from(["pending", "finishing", "done"]))
            fates[number] = Fate(number, b"s@hub.example", state, draw(st.integers(1, 3)), outcomes)
    return messages, fates


@given(batches())
def test_no_recipient_is_forgotten_and_none_is_planned_twice(found):
    messages, fates = found
    work = plan(messages, fates, OURS)

    planned = [(task.message.number, index) for task in work.tasks for index in task.recipients]
    planned += [(foreign.message.number, index) for foreign in work.foreign for index in foreign.reasons]
    planned += [(one.number, outcome.recipient) for one, outcome in work.settled]
    assert sorted(planned) == [(one.number, index) for one in messages for index in range(len(one.rcpts))]


@given(batches())
def test_nobody_who_is_settled_or_foreign_is_sent_anything(found):
    messages, fates = found
    for task in plan(messages, fates, OURS).tasks:
        fate = fates.get(task.message.number)
        for index in task.recipients:
            assert not OURS(task.message.rcpts[index].path)
            assert not fate or index not in fate.outcomes or fate.outcomes[index].outcome == "deferred"
        assert task.attempt == (fate.attempts if fate else 0) + 1
        assert task.doubtful == (fate is not None and fate.state == "finishing")


@given(batches())
def test_a_run_for_doubts_only_touches_nothing_else(found):
    messages, fates = found
    work = plan(messages, fates, OURS, doubtful_only=True)

    doubtful = {number for number, fate in fates.items() if fate.state == "finishing"}
    assert {task.message.number for task in work.tasks} <= doubtful
    assert {foreign.message.number for foreign in work.foreign} <= doubtful


@given(batches())
def test_every_report_that_is_owed_is_owed_once(found):
    messages, fates = found
    owed = [(one.message.number, outcome.recipient) for one in notices(messages, fates) for outcome in one.outcomes]

    due = [(number, index) for number, fate in fates.items() for index, o in fate.outcomes.items() if o.dsn == "due"]
    assert sorted(owed) == sorted(due)
    for one in notices(messages, fates):
        assert {outcome.attempt for outcome in one.outcomes} == {one.attempt}
