"""One contact with a provider: what each of its replies means, what goes up, what comes down, and what bounds it."""

from __future__ import annotations

import pytest
from support.importing import Letter, letters
from support.odmr_hub import Hub, Plan

from bsmtp_batch.odmr import Access
from bsmtp_batch.replay.contract import Job
from bsmtp_batch.spool import durable
from bsmtp_batch.wire.command import Mail, Rcpt

HOSTILE = b"Subject: x\r\n\r\n.\r\n..\r\nMAIL FROM:<x@y>\r\nno end"


def told(found):
    return [(one, b"c@site.example", two) for one, two in found]


def expected(found):
    return [(one.sender, one.to, one.content) for one in found]


def test_what_waits_is_in_the_spool_when_the_provider_hears_250(site, monkeypatch):
    mail = [*letters(2), Letter(to=(b"c@site.example", b"d@site.example"), content=HOSTILE + b"\r\n")]
    plan = Plan(letters=list(mail))
    order = []
    real = durable.rename_durably
    monkeypatch.setattr(durable, "rename_durably", lambda *a, **k: (real(*a, **k), order.append(len(plan.verdicts))))
    with Hub(plan) as hub:
        found = site.collect(hub.port)

    assert (found.code, found.messages, found.turned) == (0, 3, True)
    assert site.stored() == expected(mail)
    assert order == [0, 1, 2], "each was durable before its verdict was known"
    assert plan.asked == [b"EHLO site.example", b"AUTH CRAM-MD5", b"ATRN"]
    assert plan.greeted.startswith(b"220 ")
    contact = site.contact()
    assert (contact.direction, contact.batches, contact.result, contact.code) == ("pull", 3, "ok", 0)
    assert [event.kind for event in site.events] == ["message"] * 3 + ["taken"]


def test_a_log_that_takes_no_more_does_not_have_mail_sent_twice(site, monkeypatch):
    def full(event):
        if event.kind == "message":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(site, "event", full)
    plan = Plan(letters=letters(2))
    with Hub(plan) as hub:
        found = site.collect(hub.port)

    assert (found.code, found.messages, len(site.stored())) == (0, 2, 2)
    assert [verdict[:3] for verdict in plan.verdicts] == [b"250"] * 2


def test_domains_are_named_with_commas_between(site):
    plan = Plan()
    with Hub(plan) as hub:
        site.collect(hub.port, domains=(b"a.example", b"b.example"))

    assert plan.asked[-1] == b"ATRN a.example,b.example"


def test_what_stands_behind_the_250_in_the_same_packet_is_answered(site):
    plan = Plan(hurried=True, letters=letters(2))
    with Hub(plan) as hub:
        assert site.collect(hub.port).code == 0

    assert plan.greeted.startswith(b"220 ")
    assert b"8BITMIME" in plan.offered
    assert len(site.stored()) == 2


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (b"453 you have no mail", 0, "ok"),
        (b"453-you have\r\n453 no mail", 0, "ok"),
        (b"450 4.7.1 not yours", 78, "may not have a.example"),
        (b"451 4.3.0 later", 75, "later"),
        (b"421 4.3.2 going down", 75, "going down"),
        (b"452 4.3.1 full", 75, "full"),
        (b"500 what", 78, "what"),
        (b"502 no such thing", 78, "no such thing"),
        (b"503 not here", 78, "not here"),
        (b"530 who are you", 78, "login"),
        (b"535 not you", 78, "login"),
        (b"554 no", 78, "no"),
        (b"354 go on", 75, "354"),
        (b"what?", 75, "no reply"),
    ],
)
def test_each_reply_to_atrn_has_its_exit_code_and_its_place_in_the_ledger(site, reply, code, said):
    with Hub(Plan(atrn=reply)) as hub:
        found = site.collect(hub.port, domains=(b"a.example",))

    assert found.code == code
    assert said in found.result
    assert (site.contact().result, site.contact().code) == (found.result, code)
    assert not site.stored()
    assert site.events[-1].kind == {0: "empty", 75: "later", 78: "fault"}[code]


def test_a_provider_that_only_turns_and_leaves_had_nothing(site):
    with Hub(Plan()) as hub:
        found = site.collect(hub.port)

    assert (found.code, found.turned, site.events[-1].kind) == (0, True, "empty")


def test_a_server_without_atrn_is_told_nothing_of_the_password(site):
    plan = Plan(offers=(b"AUTH PLAIN CRAM-MD5",))
    with Hub(plan) as hub:
        found = site.collect(hub.port)

    assert found.code == 78
    assert "ATRN" in found.result
    assert plan.asked == [b"EHLO site.example", b"QUIT"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [(b"535 5.7.8 wrong", 78), (b"454 4.7.0 not now", 75), (b"432 5.7.12 x", 75), (b"534 5.7.9 x", 78)],
)
def test_a_refused_login_is_a_setting_and_a_put_off_one_is_not(site, reply, code):
    with Hub(Plan(auth=reply)) as hub:
        found = site.collect(hub.port)

    assert found.code == code
    assert b"ATRN" not in b" ".join(hub.plans[0].asked)


def test_no_login_is_tried_where_none_is_set(site):
    plan = Plan(atrn=b"530 5.7.0 authentication required")
    with Hub(plan) as hub:
        found = site.collect(hub.port, Access("none"))

    assert plan.asked[:2] == [b"EHLO site.example", b"ATRN"]
    assert (found.code, "secret_file" in found.result) == (78, True)


def test_in_the_clear_no_mechanism_shows_the_password(site):
    plan = Plan(offers=(b"ATRN", b"AUTH PLAIN LOGIN"))
    with Hub(plan) as hub:
        found = site.collect(hub.port)

    assert found.code == 78
    assert "without showing the password" in found.result
    assert not any(line.startswith(b"AUTH") for line in plan.asked)


def test_nobody_there_is_later(site):
    with Hub() as hub:
        port = hub.port
    found = site.collect(port)

    assert (found.code, site.contact().code) == (75, 75)


def test_a_provider_that_hangs_up_without_a_word_is_later_and_what_came_stays(site):
    with Hub(Plan(letters=letters(2), rude=True)) as hub:
        found = site.collect(hub.port)

    assert (found.code, found.messages) == (75, 2)
    assert len(site.stored()) == 2
    assert "closed" in site.contact().result


def test_the_wait_for_atrn_is_ten_minutes_and_ends(site):
    """With all time-outs at a ten-thousandth; of a greeting only five minutes may go by."""

    def silent(wire):
        wire.line()

    with Hub(Plan(atrn=b"", then=silent)) as hub:
        found = site.collect(hub.port, patience=0.001)

    assert found.code == 75


# -- bounds -------------------------------------------------------------------------------------------------------


def test_the_end_of_the_window_ends_the_contact_and_leaves_the_rest_there(site):
    plan = Plan(letters=letters(3))
    times = iter([0.0, 1.0, 2.0, 11.0])
    with Hub(plan) as hub:
        found = site.collect(hub.port, until=10.0, now=lambda: next(times, 12.0))

    assert (found.code, found.messages) == (75, 2)
    assert "window" in found.result
    assert plan.verdicts[-1].startswith(b"421 ")
    assert len(plan.letters) == 1


def test_a_bound_on_octets_leaves_the_rest_there(site):
    plan = Plan(letters=letters(5))
    size = len(letters(1)[0].content)
    with Hub(plan) as hub:
        found = site.collect(hub.port, max_octets=2 * size)

    assert (found.code, found.messages) == (75, 2)
    assert "max_bytes" in found.result
    assert [verdict[:3] for verdict in plan.verdicts] == [b"250", b"250", b"452", b"452", b"452"]


def test_a_disk_that_takes_nothing_keeps_the_mail_with_the_provider(site, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "x")

    plan = Plan(letters=letters(1))
    monkeypatch.setattr(durable, "sync_close", full)
    with Hub(plan) as hub:
        found = site.collect(hub.port)

    assert (found.code, found.messages, len(plan.letters)) == (75, 0, 1)
    assert plan.verdicts[0].startswith(b"451 ")
    assert site.told


# -- up -----------------------------------------------------------------------------------------------------------


def job(number):
    content = b"Subject: up %d\r\n\r\nx\r\n" % number
    return Job(
        f"up{number}",
        Mail(b"me@site.example"),
        (Rcpt(b"you@x.example"),),
        len(content),
        False,
        lambda: iter((content,)),
        lambda: iter((content,)),
    )


def test_our_own_mail_goes_up_first_over_the_same_connection(site):
    plan = Plan(letters=letters(1))

    def up(connection):
        for number in (1, 2):
            assert connection.carry(job(number), lambda: None).verdicts[0].reply.startswith("250")
        connection.close()
        return 0

    with Hub(plan) as hub:
        found = site.collect(hub.port, up=up)

    assert found.code == 0
    assert [one[-1] for one in plan.up] == [b"Subject: up %d\r\n\r\nx\r\n" % number for number in (1, 2)]
    assert hub.connections == 1
    assert plan.asked[-1] == b"ATRN"
    assert plan.asked.count(b"EHLO site.example") == 2, "what is offered after the login is asked for anew"
    assert len(site.stored()) == 1


def test_trouble_on_the_way_up_does_not_keep_ours_from_coming_down(site):
    with Hub(Plan(letters=letters(1))) as hub:
        found = site.collect(hub.port, up=lambda connection: 65)

    assert (found.code, found.messages) == (65, 1)


def test_a_line_that_breaks_on_the_way_up_is_later(site):
    def up(connection):
        hub.drop()
        result = connection.carry(job(1), lambda: None)
        assert result.ended
        return 75

    with Hub(Plan(letters=letters(1))) as hub:
        found = site.collect(hub.port, up=up)

    assert (found.code, found.messages) == (75, 0)
