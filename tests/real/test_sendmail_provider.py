"""Sendmail hands mail to ``deliver`` as the contributed mailer says."""

from __future__ import annotations

import re
import time

import pytest
from support.box import SPOOL
from support.corpus import DOMAIN, Mail
from support.mailcheck import assert_arrived, read_batch
from support.sendmail import Sendmail

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("sendmail")]

# Sendmail adds these where they are missing.
HEAD = b"Date: Thu, 1 Oct 2026 10:00:00 +0200\nFrom: <a@world.example>\nMessage-Id: <1@world.example>\n\n"
FAULTS = ["no route", "no room", "no permission", "bad setting", "no modules"]


@pytest.fixture
def route(sendmail: Sendmail) -> str:
    """The route of the contributed lines, with nothing in it."""
    sendmail.box.run("rm", "-rf", f"{SPOOL}/out/{DOMAIN}")
    sendmail.box.batch("route", "add", DOMAIN)
    return DOMAIN


def sealed(sendmail: Sendmail, route: str) -> bytes:
    sendmail.box.batch("seal", route)
    (found,) = sendmail.box.path(f"{SPOOL}/out/{route}/ready").glob("*.bsmtp")
    return found.read_bytes()


def queued_for_good_reason(sendmail: Sendmail, queue_id: str) -> None:
    """Put off and not sent back."""
    sendmail.wait([queue_id], "stat=")
    assert queue_id in sendmail.queued()
    assert "stat=Deferred" in sendmail.log(queue_id) or "dsn=4." in sendmail.log(queue_id)


def test_messages_of_every_kind_arrive_unchanged(sendmail: Sendmail, mails: list[Mail], route: str) -> None:
    """But for what Sendmail itself cannot: addresses with SMTPUTF8, header lines over 2,000 characters, no body."""
    cannot = {"long headers", "headers only"}
    some = [m for m in mails[:100] if not m.utf8 and m.kind not in cannot]
    assert {m.kind for m in some} == {m.kind for m in mails} - cannot
    ids = sendmail.inject(some)
    sendmail.wait_gone(ids)
    assert_arrived(some, read_batch(sealed(sendmail, route)))


def test_more_recipients_than_fit_into_one_call_come_in_several(sendmail: Sendmail, route: str) -> None:
    rcpts = tuple(f"crew{n}@{DOMAIN}" for n in range(450))
    ids = sendmail.inject([Mail(1, "", "a@world.example", rcpts, HEAD + b"all hands\n")])
    sendmail.wait_gone(ids)
    parcels = read_batch(sealed(sendmail, route))
    assert sorted(r for p in parcels for r in p.rcpts) == sorted(rcpts)
    assert len(parcels) < 5


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_the_mail_in_the_queue(sendmail: Sendmail, route: str, fault: str) -> None:
    mail = Mail(1, "", "a@world.example", (f"crew@{DOMAIN}",), HEAD + b".\n")
    with sendmail.box.broken(fault, f"{SPOOL}/out/{route}"):
        (queue_id,) = sendmail.inject([mail])
        queued_for_good_reason(sendmail, queue_id)
    sendmail.run_queue()
    sendmail.wait_gone([queue_id])
    assert_arrived([mail], read_batch(sealed(sendmail, route)))


def test_a_message_over_the_limit_goes_back_to_its_sender(sendmail: Sendmail, route: str) -> None:
    limits = sendmail.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^max_size .*", "max_size 1000", limits.read_text()))
    mail = Mail(1, "", "too.long@world.example", (f"crew@{DOMAIN}",), b"Subject: x\n\n" + b"long\n" * 20_000)
    (queue_id,) = sendmail.inject([mail])
    sendmail.wait_gone([queue_id])
    end = time.monotonic() + 20
    while not (back := [p for p in sendmail.recorder.all() if p.rcpts == (mail.sender,)]):
        assert time.monotonic() < end, sendmail.log()[-2000:]
        time.sleep(0.05)
    assert len(back) == 1 and back[0].sender == ""
    assert b"5.3.4" in back[0].content, "what the program printed is in the notification"
    assert not list(sendmail.box.path(f"{SPOOL}/out/{route}/new").iterdir())
