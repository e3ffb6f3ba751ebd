"""From the provider's Postfix to the customer's, by way of a memory stick; and what the customer's Postfix refuses."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.box import OWNER, SPOOL
from support.corpus import DOMAIN, Mail
from support.mailcheck import Parcel, assert_arrived, assert_content
from support.postfix import RECORDER, Hub

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("postfix")]

SITE = "/var/spool/site"
STICK = "/media/stick"
TEXT = b"Subject: one\n\nline\n.\n..dots\nlast\n"


@pytest.fixture
def site(hub: Hub) -> str:
    """An empty spool of a customer."""
    hub.box.run("rm", "-rf", SITE)
    hub.box.run("install", "-d", "-o", OWNER, SITE)
    return SITE


def imported(hub: Hub, *arguments: str, to: str, code: int = 0) -> list[dict[str, Any]]:
    """What ``import --json`` said of each recipient."""
    words = ["import", "--to", to, "--local-domain", DOMAIN, "--json", *arguments]
    done = hub.box.batch(*words, spool=SITE, code=code)
    return [json.loads(line) for line in done.stdout.splitlines()]


def smtp(hub: Hub) -> str:
    return f"smtp://127.0.0.1:{hub.customer.port}"


def recorded(hub: Hub, count: int, known: int = 0) -> list[Parcel]:
    """The ``count`` messages that the recorder gets beyond the first ``known``, waiting for them."""
    end = time.monotonic() + 40
    while ((got := hub.recorder.all()[known:]) and len(got) >= count) or time.monotonic() < end:
        if len(got) >= count:
            assert hub.customer.queue() == []
            return got
        time.sleep(0.05)
    raise AssertionError(f"{len(got)} of {count} came")


def outcomes(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["outcome"] for row in rows)


def test_every_message_of_the_corpus_reaches_the_customers_users_unchanged_and_once(
    hub: Hub, mails: list[Mail], batch: str, site: str
) -> None:
    hub.box.run("install", "-d", "-o", OWNER, STICK)
    known = len(hub.recorder.all())
    hub.box.batch("push", f"dir:{STICK}", DOMAIN)
    hub.box.batch("pull", f"dir:{STICK}", spool=site)
    rows = imported(hub, to=smtp(hub))
    assert outcomes(rows) == {"delivered": sum(len(m.rcpts) for m in mails)}
    assert_arrived(mails, recorded(hub, len(mails), known), traces=2)

    hub.box.batch("push", f"dir:{STICK}", DOMAIN)
    kept = hub.box.path(f"{SPOOL}/out/{DOMAIN}/kept")
    assert Path(batch).name in {p.name for p in kept.iterdir()}, "the receipt came back with the stick"
    hub.box.batch("pull", f"dir:{STICK}", spool=site)
    assert imported(hub, to=smtp(hub)) == []
    assert set(outcomes(imported(hub, batch, to=smtp(hub)))) == {"skipped"}, "the same batch by another way"
    assert len(hub.recorder.all()) == known + len(mails)


def test_a_user_the_customer_does_not_know_is_told_to_the_sender_by_the_customers_postfix(hub: Hub, site: str) -> None:
    mails = [
        Mail(1, "", "asker@world.example", (f"nobody.here@{DOMAIN}", f"somebody.u1@{DOMAIN}"), TEXT),
        Mail(2, "", "other@world.example", (f"somebody.u2@{DOMAIN}",), TEXT),
    ]
    made = hub.batch("unknown.example", mails)
    known = len(hub.recorder.all())
    rows = imported(hub, made, to=smtp(hub))
    assert {row["rcpt_to"]: row["outcome"] for row in rows} == {
        f"nobody.here@{DOMAIN}": "bounced",
        f"somebody.u1@{DOMAIN}": "delivered",
        f"somebody.u2@{DOMAIN}": "delivered",
    }
    got = {p.rcpts: p for p in recorded(hub, 3, known)}
    notice = got[("asker@world.example",)]
    assert notice.sender == ""
    assert b"multipart/report; report-type=delivery-status" in notice.content.replace(b"\r\n\t", b" ").replace(
        b"\r\n ", b" "
    )
    assert f"Final-Recipient: rfc822; nobody.here@{DOMAIN}".lower().encode() in notice.content.lower()
    assert b"Status: 5.1.1" in notice.content
    assert_content(mails[0], got[(f"somebody.u1@{DOMAIN}",)].content)
    assert outcomes(imported(hub, made, to=smtp(hub))) == {"skipped": 3}
    assert len(hub.recorder.all()) == known + 3, "nobody is told twice"


def test_a_bounce_for_an_unknown_user_is_kept_and_answered_by_nobody(hub: Hub, site: str) -> None:
    made = hub.batch("nosender.example", [Mail(1, "", "", (f"nobody.at.all@{DOMAIN}",), TEXT)])
    known = len(hub.recorder.all())
    rows = imported(hub, made, to=smtp(hub), code=65)
    assert outcomes(rows) == {"quarantined": 1}
    assert [p for p in hub.box.path(f"{site}/in").rglob("*") if p.parent.name == "bad"]
    assert len(hub.recorder.all()) == known


def test_what_postfix_puts_off_stays_and_goes_in_on_the_next_run_without_the_rest(hub: Hub, site: str) -> None:
    mails = [
        Mail(1, "", "a@world.example", (f"later.on@{DOMAIN}", f"somebody.l1@{DOMAIN}"), TEXT),
        Mail(2, "", "a@world.example", (f"somebody.l2@{DOMAIN}",), TEXT),
    ]
    made = hub.batch("later.example", mails)
    known = len(hub.recorder.all())
    assert outcomes(imported(hub, made, to=smtp(hub), code=75)) == {"delivered": 2, "deferred": 1}
    recorded(hub, 2, known)
    rows = imported(hub, made, to=f"lmtp://127.0.0.1:{RECORDER}")
    assert {row["rcpt_to"]: row["outcome"] for row in rows} == {
        f"later.on@{DOMAIN}": "delivered",
        f"somebody.l1@{DOMAIN}": "skipped",
        f"somebody.l2@{DOMAIN}": "skipped",
    }
    assert [p.rcpts for p in recorded(hub, 3, known)[2:]] == [(f"later.on@{DOMAIN}",)]


def test_a_customer_that_is_down_gets_everything_when_it_is_back(hub: Hub, site: str) -> None:
    made = hub.batch("down.example", [Mail(1, "", "a@world.example", (f"somebody.d1@{DOMAIN}",), TEXT)])
    known = len(hub.recorder.all())
    hub.customer.stop()
    try:
        assert outcomes(imported(hub, made, to=smtp(hub), code=75)) == {"deferred": 1}
    finally:
        hub.customer.start()
    assert outcomes(imported(hub, made, to=smtp(hub))) == {"delivered": 1}
    recorded(hub, 1, known)


def test_a_recipient_of_another_domain_never_reaches_postfix_although_it_would_relay(hub: Hub, site: str) -> None:
    rcpts = ("victim@world.example", f"victim%world.example@{DOMAIN}", f"somebody.f1@{DOMAIN}")
    made = hub.batch("foreign.example", [Mail(1, "", "a@world.example", rcpts, TEXT)])
    known = len(hub.recorder.all())
    rows = imported(hub, made, to=smtp(hub), code=65)
    assert {row["rcpt_to"]: row["outcome"] for row in rows} == dict(
        zip(rcpts, ["quarantined", "quarantined", "delivered"], strict=True)
    )
    assert [p.rcpts for p in recorded(hub, 1, known)] == [(rcpts[2],)]


def test_the_corpus_goes_in_through_sendmail_bs(hub: Hub, mails: list[Mail], batch: str, site: str) -> None:
    """Postfix's sendmail(1) speaks SMTP on standard input; and asks nobody whether a user exists."""
    known = len(hub.recorder.all())
    rows = imported(hub, batch, to="sendmail:/usr/sbin/sendmail")
    assert outcomes(rows) == {"delivered": sum(len(m.rcpts) for m in mails)}
    assert_arrived(mails, recorded(hub, len(mails), known), traces=3)  # sendmail(1) and pickup(8) each add theirs


def test_the_corpus_goes_in_through_lmtp(hub: Hub, mails: list[Mail], batch: str, site: str) -> None:
    known = len(hub.recorder.all())
    rows = imported(hub, batch, to=f"lmtp://127.0.0.1:{RECORDER}")
    assert outcomes(rows) == {"delivered": sum(len(m.rcpts) for m in mails)}
    assert_arrived(mails, recorded(hub, len(mails), known))
