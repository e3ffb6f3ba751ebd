"""Exim hands mail over by LMTP as the contributed router and transport say."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest
from support.box import SPOOL
from support.corpus import DOMAIN, Mail
from support.exim import CONTRIB, PORT, Exim
from support.intake import Intake, asked, until
from support.mailcheck import assert_arrived, read_batch
from support.odmr_raw import Wire
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("exim-lmtp")]

FAULTS = ["no route", "no room", "no permission", "bad setting", "ended", "killed"]


@pytest.fixture(scope="module")
def exim() -> Iterator[Exim]:
    yield from running(lambda: Exim(lmtp=True))


@pytest.fixture(scope="module")
def intake(exim: Exim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    running = Intake(exim.box, tmp_path_factory.mktemp("lmtp"), CONTRIB.read_text())
    yield running
    running.close()
    assert "fault of ours" not in running.log()


@pytest.fixture
def route(intake: Intake) -> str:
    return intake.new_route()


def test_messages_of_every_kind_arrive_unchanged(exim: Exim, intake: Intake, mails: list[Mail]) -> None:
    """In chunks (BDAT). Exim itself ends a message that is headers only with an empty line."""
    intake.box.batch("route", "add", DOMAIN)
    some = [m for m in mails if m.kind != "headers only"]
    exim.wait(exim.inject(some))
    intake.wait_waiting(DOMAIN, len(some))
    batch = intake.sealed(DOMAIN)
    assert_arrived(some, read_batch(batch))
    for sender, params in re.findall(rb"(?m)^MAIL FROM:<(.*)>(.*)\r$", batch):
        assert sender.isascii() or b" SMTPUTF8" in params
    assert " K C=" in exim.log(), "K: by CHUNKING"


def test_all_recipients_come_in_one_piece_with_what_the_sender_asked_for(
    exim: Exim, intake: Intake, route: str
) -> None:
    wire = Wire(exim.box.connect(PORT))
    wire.reply()
    rcpts = [b"crew%d@%s" % (n, route.encode()) for n in range(250)]
    wire.ask(b"EHLO world.example")
    assert wire.ask(b"MAIL FROM:<anna@world.example> RET=HDRS ENVID=QQ314159")[:3] == b"250"
    for rcpt in rcpts:
        assert wire.ask(b"RCPT TO:<%s> NOTIFY=FAILURE,DELAY ORCPT=rfc822;%s" % (rcpt, rcpt))[:3] == b"250"
    wire.ask(b"DATA")
    said = wire.ask(b"Subject: x\r\n\r\nx\r\n.")
    wire.close()
    found = re.search(rb"id=(\S+)", said)
    assert found, said
    exim.wait([found[1].decode()])
    intake.wait_waiting(route, 1)
    params, found = asked(intake.sealed(route))
    assert params == {"RET=HDRS", "ENVID=QQ314159"}
    assert found == {r.decode(): {"NOTIFY=FAILURE,DELAY", f"ORCPT=rfc822;{r.decode()}"} for r in rcpts}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_the_mail_in_exims_queue(exim: Exim, intake: Intake, route: str, fault: str) -> None:
    mail = Mail(1, "", "a@world.example", (f"crew@{route}",), b"Subject: one\n\n.\n")
    if fault in ("ended", "killed"):
        intake.end(signal.SIGTERM if fault == "ended" else signal.SIGKILL)
        try:
            queue_id = put_off(exim, mail)
        finally:
            intake.start()
    else:
        with exim.box.broken(fault, f"{SPOOL}/out/{route}"):
            queue_id = put_off(exim, mail)
    until(lambda: "Completed" in exim.log(queue_id), lambda: exim.box.run("exim4", "-M", queue_id, code=None))
    intake.wait_waiting(route, 1)
    assert_arrived([mail], read_batch(intake.sealed(route)))
    assert exim.recorder.all() == []


def put_off(exim: Exim, mail: Mail) -> str:
    """Hand a message to Exim that it cannot hand on now; its queue id."""
    (queue_id,) = exim.inject([mail])
    exim.wait([queue_id], "== ")
    assert " ** " not in exim.log(queue_id) and "Completed" not in exim.log(queue_id)
    return queue_id


def test_a_message_over_the_limit_goes_back_to_its_sender(exim: Exim, intake: Intake, route: str) -> None:
    limits = exim.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^max_size .*", "max_size 1000", limits.read_text()))
    mail = Mail(1, "", "too.long@world.example", (f"crew@{route}",), b"Subject: x\n\n" + b"long\n" * 20_000)
    (queue_id,) = exim.inject([mail])
    exim.wait([queue_id])
    (back,) = exim.recorder.wait(mail.sender)
    assert back.sender == "" and b"5.3.4" in back.content
    exim.recorder.clear()
    assert intake.waiting(route) == []


def test_a_message_within_the_limit_is_not_sent_back_for_the_size_that_exim_tells(
    exim: Exim, intake: Intake, route: str
) -> None:
    """SIZE is an estimate; Exim's is more than a thousand octets above the truth."""
    limits = exim.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^max_size .*", "max_size 3000", limits.read_text()))
    mail = Mail(1, "", "just.right@world.example", (f"crew@{route}",), b"Subject: x\n\n" + b"full\n" * 450)
    exim.wait(exim.inject([mail]))
    intake.wait_waiting(route, 1)
    assert_arrived([mail], read_batch(intake.sealed(route)))
