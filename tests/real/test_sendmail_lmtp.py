"""Sendmail hands mail over by LMTP as the contributed mailer says."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest
from support.box import SPOOL
from support.corpus import DOMAIN, Mail
from support.intake import Intake, asked, until
from support.mailcheck import assert_arrived, read_batch
from support.odmr_raw import Wire
from support.sendmail import CONTRIB, PORT, Sendmail
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("sendmail-lmtp")]

# Sendmail adds these where they are missing.
HEAD = b"Date: Thu, 1 Oct 2026 10:00:00 +0200\nFrom: <a@world.example>\nMessage-Id: <1@world.example>\n\n"
FAULTS = ["no route", "no room", "no permission", "bad setting", "ended", "killed"]


@pytest.fixture(scope="module")
def sendmail() -> Iterator[Sendmail]:
    yield from running(lambda: Sendmail("l"))


@pytest.fixture(scope="module")
def intake(sendmail: Sendmail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    running = Intake(sendmail.box, tmp_path_factory.mktemp("lmtp"), CONTRIB.read_text())
    yield running
    running.close()
    assert "fault of ours" not in running.log()


@pytest.fixture
def route(intake: Intake) -> str:
    return intake.new_route()


def test_messages_of_every_kind_arrive_unchanged(sendmail: Sendmail, intake: Intake, mails: list[Mail]) -> None:
    """But for what Sendmail itself cannot: addresses with SMTPUTF8, header lines over 2,000 characters, no body."""
    intake.box.batch("route", "add", DOMAIN)
    cannot = {"long headers", "headers only"}
    some = [m for m in mails[:100] if not m.utf8 and m.kind not in cannot]
    assert {m.kind for m in some} == {m.kind for m in mails} - cannot
    sendmail.wait_gone(sendmail.inject(some))
    intake.wait_waiting(DOMAIN, len(some))
    assert_arrived(some, read_batch(intake.sealed(DOMAIN)))


def test_all_recipients_come_in_one_piece_with_what_the_sender_asked_for(
    sendmail: Sendmail, intake: Intake, route: str
) -> None:
    wire = Wire(sendmail.box.connect(PORT))
    wire.reply()
    rcpts = [b"crew%d@%s" % (n, route.encode()) for n in range(450)]
    wire.ask(b"EHLO world.example")
    assert wire.ask(b"MAIL FROM:<anna@world.example> BODY=8BITMIME RET=HDRS ENVID=QQ314159")[:3] == b"250"
    for rcpt in rcpts:
        assert wire.ask(b"RCPT TO:<%s> NOTIFY=FAILURE,DELAY ORCPT=rfc822;%s" % (rcpt, rcpt))[:3] == b"250"
    wire.ask(b"DATA")
    said = wire.ask(HEAD.replace(b"\n", b"\r\n") + b"Gr\xfc\xdfe\r\n.")
    wire.close()
    found = re.search(rb"2\.0\.0 (\w+) Message accepted", said)
    assert found, said
    sendmail.wait_gone([found[1].decode()])
    intake.wait_waiting(route, 1)
    params, found = asked(intake.sealed(route))
    assert params == {"BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159"}
    assert found == {r.decode(): {"NOTIFY=FAILURE,DELAY", f"ORCPT=rfc822;{r.decode()}"} for r in rcpts}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_the_mail_in_the_queue(sendmail: Sendmail, intake: Intake, route: str, fault: str) -> None:
    mail = Mail(1, "", "a@world.example", (f"crew@{route}",), HEAD + b".\n")
    if fault in ("ended", "killed"):
        intake.end(signal.SIGTERM if fault == "ended" else signal.SIGKILL)
        try:
            queue_id = put_off(sendmail, mail)
        finally:
            intake.start()
    else:
        with sendmail.box.broken(fault, f"{SPOOL}/out/{route}"):
            queue_id = put_off(sendmail, mail)
    until(lambda: queue_id not in sendmail.queued(), sendmail.run_queue)
    intake.wait_waiting(route, 1)
    assert_arrived([mail], read_batch(intake.sealed(route)))
    assert sendmail.recorder.all() == []


def put_off(sendmail: Sendmail, mail: Mail) -> str:
    """Hand a message to Sendmail that it cannot hand on now; its queue id."""
    (queue_id,) = sendmail.inject([mail])
    sendmail.wait([queue_id], "stat=")
    assert queue_id in sendmail.queued()
    assert "stat=Deferred" in sendmail.log(queue_id) or "dsn=4." in sendmail.log(queue_id)
    return queue_id


def test_a_message_over_the_limit_goes_back_to_its_sender(sendmail: Sendmail, intake: Intake, route: str) -> None:
    limits = sendmail.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^max_size .*", "max_size 1000", limits.read_text()))
    mail = Mail(1, "", "too.long@world.example", (f"crew@{route}",), b"Subject: x\n\n" + b"long\n" * 20_000)
    (queue_id,) = sendmail.inject([mail])
    sendmail.wait_gone([queue_id])
    (back,) = sendmail.recorder.wait(mail.sender)
    assert back.sender == ""
    assert b"5.3.4" in back.content, "what the daemon said is in the notification"
    sendmail.recorder.clear()
    assert intake.waiting(route) == []
