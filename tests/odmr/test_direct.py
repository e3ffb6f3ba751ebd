"""Straight to the mail server here: what it says is what the provider hears, so that nothing has to be returned."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from support.importing import Letter, letters
from support.odmr_hub import Hub, Plan
from support.sink import DROP, Data, EndOfData, MailFrom, RcptTo, Rset, Sink

from bsmtp_batch.reception.direct import Direct
from bsmtp_batch.reception.store import Store
from bsmtp_batch.replay import address, targets
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Protocol

TWO = Letter(to=(b"c@site.example", b"gone@site.example"))


@contextmanager
def direct(site, url):
    target = targets.target_of(address.parse(url), node="site.example", patience=0.1)
    rest = Store(site.inbox, "site.example", site.ledger, tell=site.told.append)
    made = Direct(target, rest, directory=str(site.base), tell=site.told.append)
    try:
        yield {"sink": made, "policy": made.policy}
    finally:
        made.close()


def collected(site, url, plan):
    with Hub(plan) as hub, direct(site, url) as means:
        return site.collect(hub.port, **means)


def at(kind, reply, *, whose=b""):
    """An answer of the local server to requests of ``kind`` (about a recipient that begins with ``whose``)."""

    def answer(asked):
        about = getattr(asked.request, "rcpt", None) or asked.rcpt
        fits = isinstance(asked.request, kind) and (not whose or (about and about.path.startswith(whose)))
        return reply if fits else None

    return answer


def test_the_local_server_has_it_before_the_provider_hears_250(site):
    hostile = Letter(content=b"Subject: x\r\n\r\n.\r\n..\r\n" + b"\xff" * 10 + b"\r\n")
    plan = Plan(letters=[*letters(2), hostile])
    with Sink() as mta:
        found = collected(site, mta.url, plan)

    assert (found.code, found.messages) == (0, 3)
    assert [one.content for one in mta.taken] == [*(one.content for one in letters(2)), hostile.content]
    assert mta.connections == 1
    assert site.stored() == []
    assert plan.verdicts[0].endswith(b"queued as 1")


def test_a_refused_recipient_is_refused_to_the_provider_and_the_other_is_served(site):
    plan = Plan(letters=[TWO])
    with Sink(at(RcptTo, Reply(550, b"5.1.1", b"no such user"), whose=b"gone")) as mta:
        found = collected(site, mta.url, plan)

    assert [line[:9] for line in plan.rcpts] == [b"250 2.1.5", b"550 5.1.1"]
    assert [one.to for one in mta.taken] == [[b"c@site.example"]]
    assert (found.code, found.messages, site.stored()) == (0, 1, [])


@pytest.mark.parametrize(
    ("kind", "reply", "heard"),
    [
        (MailFrom, Reply(550, b"5.7.1", b"not from them"), b"550 5.7.1"),
        (MailFrom, Reply(451, b"4.7.1", b"greylisted"), b"451 4.7.1"),
        (MailFrom, Reply(530, b"5.7.0", b"log in"), b"451 4.3.0"),
        (RcptTo, Reply(450, b"4.2.1", b"later"), b"450 4.2.1"),
        (RcptTo, Reply(452, b"4.5.3", b"too many"), b"452 4.5.3"),
    ],
)
def test_what_it_says_to_the_envelope_is_passed_on(site, kind, reply, heard):
    plan = Plan(letters=letters(1))
    with Sink(at(kind, reply)) as mta:
        found = collected(site, mta.url, plan)

    assert plan.rcpts[0].startswith(heard)
    assert (found.messages, len(plan.letters), mta.taken) == (0, 1, [])


@pytest.mark.parametrize(
    ("kind", "reply", "heard"),
    [
        (EndOfData, Reply(554, b"5.6.0", b"spam"), b"554 5.6.0 spam"),
        (EndOfData, Reply(451, b"4.3.0", b"busy"), b"451 4.3.0 busy"),
        (EndOfData, DROP, b"451 4.4.2"),
        (EndOfData, Reply(421, b"4.3.2", b"going down"), b"451 4.3.0"),
        (Data, Reply(452, b"4.3.1", b"full"), b"452 4.3.1 full"),
        (Data, Reply(554, b"5.5.0", b"no"), b"554 5.5.0 no"),
    ],
)
def test_what_it_says_to_the_message_is_passed_on(site, kind, reply, heard):
    plan = Plan(letters=letters(1))
    with Sink(at(kind, reply)) as mta:
        found = collected(site, mta.url, plan)

    assert plan.verdicts[0].startswith(heard)
    assert (found.code, found.messages, len(plan.letters)) == (75, 0, 1)
    assert site.stored() == []


def test_a_server_that_is_away_leaves_the_mail_with_the_provider(site):
    with Sink() as mta:
        url = mta.url
    plan = Plan(letters=letters(2))
    found = collected(site, url, plan)

    assert all(line.startswith(b"451 ") for line in plan.rcpts)
    assert (found.messages, len(plan.letters)) == (0, 2)


@pytest.mark.parametrize(("reply", "code"), [(b"550 5.1.1 who?", 0), (b"450 4.2.1 greylisted", 75)])
def test_who_is_refused_before_there_is_a_message_is_told_here_too(site, reply, code):
    with Sink(at(RcptTo, Reply(int(reply[:3]), reply[4:9], reply[10:]), whose=b"gone")) as mta:
        found = collected(site, mta.url, Plan(letters=[Letter(to=(b"gone@site.example",))]))

    assert (found.code, found.messages) == (code, 0)
    (notice,) = (event.note for event in site.events if event.kind == "notice")
    assert "<gone@site.example> was refused to <" in notice
    assert reply.decode() in notice
    assert site.events[-1].kind == ("later" if code else "taken")


def test_a_connection_that_the_server_closed_while_idle_is_made_again(site):
    def answer(asked):
        return DROP if asked.connection == 1 and asked.messages and isinstance(asked.request, Rset) else None

    plan = Plan(letters=letters(3))
    with Sink(answer) as mta:
        found = collected(site, mta.url, plan)

    assert (found.code, found.messages, mta.connections) == (0, 3, 2)
    assert len(mta.taken) == 3


@pytest.mark.parametrize("reply", [Reply(550, b"5.2.2", b"full"), Reply(452, b"4.2.2", b"full")])
def test_who_is_left_over_by_lmtp_goes_to_import(site, reply):
    plan = Plan(letters=[TWO])
    with Sink(at(EndOfData, reply, whose=b"gone"), protocol=Protocol.LMTP) as mta:
        found = collected(site, mta.url, plan)

    assert plan.verdicts[0].startswith(b"250 ")
    assert (found.code, found.messages) == (0, 1)
    assert site.stored() == [(TWO.sender, (b"gone@site.example",), TWO.content)]
    assert "left to import" in site.told[0]


@pytest.mark.parametrize(("mixed", "heard"), [(False, b"550 5.2.2"), (True, b"452 4.2.2")])
def test_all_refused_by_lmtp_is_a_refusal_and_one_to_be_tried_again_is_later(site, mixed, heard):
    def answer(asked):
        if not isinstance(asked.request, EndOfData):
            return None
        later = mixed and asked.rcpt.path.startswith(b"gone")
        return Reply(452, b"4.2.2", b"full") if later else Reply(550, b"5.2.2", b"no")

    plan = Plan(letters=[TWO])
    with Sink(answer, protocol=Protocol.LMTP) as mta:
        collected(site, mta.url, plan)

    assert plan.verdicts[0].startswith(heard)
    assert site.stored() == []


def test_a_maildir_takes_everybody(site, tmp_path):
    plan = Plan(letters=letters(2))
    found = collected(site, f"maildir:{tmp_path}/mail", plan)

    assert (found.code, found.messages) == (0, 2)
    assert len(list((tmp_path / "mail" / "new").iterdir())) == 2


def test_a_message_larger_than_memory_goes_through_a_file_without_a_name(site):
    large = Letter(content=b"\r\n".join([b"z" * 900] * 3000) + b"\r\n")
    with Sink() as mta:
        found = collected(site, mta.url, Plan(letters=[large]))

    assert found.code == 0
    assert mta.taken[0].content == large.content
