"""Postfix hands mail over by LMTP as the contributed lines say; nothing is lost, changed, doubled or sent back."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from support.box import SPOOL
from support.corpus import DOMAIN, Mail
from support.intake import CONFIG, asked, until
from support.mailcheck import TRACE, assert_arrived, read_batch
from support.odmr_raw import Wire
from support.postfix import CONTRIB, main_cf
from support.postfix_lmtp import PORT, LmtpHub
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lmtp")]

FAULTS = ["no route", "no room", "no permission", "bad setting"]
TEXT = b"Subject: one\n\nline\n.\n..dots\nlast\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LmtpHub]:
    """Postfix, and the daemon it hands over to."""
    for started in running(lambda: LmtpHub(tmp_path_factory.mktemp("lmtp"))):
        yield started
        assert "fault of ours" not in started.intake.log()


def letter(route: str, number: int = 1, *, sender: str = "a.b@world.example", content: bytes = TEXT) -> Mail:
    return Mail(number, "letter", sender, (f"someone{number}@{route}",), content)


def kept(hub: LmtpHub, queue_id: str) -> str:
    """Why Postfix still has the message, checking that it does and that nothing went back to the sender."""
    hub.provider.wait([queue_id], "status=")
    found = [m for m in hub.provider.queue() if m["queue_id"] == queue_id]
    assert [m["queue_name"] for m in found] == ["deferred"], hub.provider.log(queue_id)
    log = hub.provider.log(queue_id)
    assert "status=deferred" in log and "status=bounced" not in log and re.search(r"dsn=4\.\d\.\d", log)
    return str(found[0]["recipients"][0]["delay_reason"])


def tried_again(hub: LmtpHub, queue_id: str) -> None:
    """Have Postfix try the message until it is gone from its queue."""
    until(lambda: f" {queue_id}: removed" in hub.provider.log(queue_id), lambda: hub.provider.flush(queue_id))


def goes_through(hub: LmtpHub, route: str, queue_id: str) -> None:
    """Once the fault is mended the next try delivers the message, whole, and once."""
    tried_again(hub, queue_id)
    hub.intake.wait_waiting(route, 1)
    assert_arrived([letter(route)], read_batch(hub.intake.sealed(route)))


def set_limit(hub: LmtpHub, route: str, name: str, value: str) -> None:
    limits = hub.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(rf"(?m)^{name} .*\n", "", limits.read_text()) + f"{name} {value}\n")


def returned(hub: LmtpHub, sender: str) -> bytes:
    """The one notification that came back to ``sender``."""
    (found,) = hub.recorder.wait(sender)
    assert found.sender == ""
    return found.content


# --- fidelity -------------------------------------------------------------------------------------------------------


def test_the_contributed_lines_bring_every_message_of_the_corpus_into_the_batch(
    hub: LmtpHub, mails: list[Mail]
) -> None:
    hub.box.batch("route", "add", DOMAIN)
    hub.provider.wait(hub.provider.inject(mails))
    hub.intake.wait_waiting(DOMAIN, len(mails))
    batch = hub.intake.sealed(DOMAIN)
    assert_arrived(mails, read_batch(batch))
    envelopes = re.findall(rb"(?m)^MAIL FROM:<(.*)>(.*)\r$", batch)
    for sender, params in (e for e in envelopes if not e[0].isascii()):
        assert b" SMTPUTF8" in params and b" BODY=8BITMIME" in params, sender


def test_what_the_sender_asked_for_is_in_the_batch(hub: LmtpHub) -> None:
    route = hub.route()
    wire = Wire(hub.box.connect(PORT))
    wire.reply()
    for command in [
        b"EHLO world.example",
        b"MAIL FROM:<anna@world.example> BODY=8BITMIME RET=HDRS ENVID=QQ+2B314159",
        b"RCPT TO:<crew@%s> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bname@world.example" % route.encode(),
        b"RCPT TO:<mate@%s> NOTIFY=NEVER" % route.encode(),
        b"DATA",
        b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n.",
        b"QUIT",
    ]:
        assert wire.ask(command)[:1] in b"23"
    wire.close()
    hub.intake.wait_waiting(route, 1)
    params, rcpts = asked(hub.intake.sealed(route))
    assert params == {"BODY=8BITMIME", "RET=HDRS", "ENVID=QQ+2B314159"}
    assert rcpts == {
        f"crew@{route}": {"NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;old+2Bname@world.example"},
        f"mate@{route}": {"NOTIFY=NEVER", f"ORCPT=rfc822;mate@{route}"},
    }
    told = [p for p in hub.recorder.all() if "anna@world.example" in p.rcpts]
    assert told == [], "the report about it is the site's to make"


def test_a_message_for_several_customers_comes_over_once_and_is_in_the_route_of_each(hub: LmtpHub) -> None:
    routes = [hub.route() for _ in range(5)]
    everybody = tuple(f"crew{n}@{route}" for route in routes for n in range(3))
    hub.provider.wait(hub.provider.inject([Mail(1, "", "a@world.example", everybody, TEXT)]))
    for route in routes:
        hub.intake.wait_waiting(route, 1)
        mine = tuple(r for r in everybody if r.endswith("@" + route))
        assert_arrived([Mail(1, "", "a@world.example", mine, TEXT)], read_batch(hub.intake.sealed(route)))


def test_more_recipients_than_one_transaction_has_come_in_two(hub: LmtpHub) -> None:
    route = hub.route()
    rcpts = tuple(f"crew{n}@{route}" for n in range(1200))
    hub.provider.wait(hub.provider.inject([Mail(1, "", "a@world.example", rcpts, TEXT)]))
    hub.intake.wait_waiting(route, 2)
    parcels = read_batch(hub.intake.sealed(route))
    assert sorted(r for p in parcels for r in p.rcpts) == sorted(rcpts)
    assert sorted(len(p.rcpts) for p in parcels) == [200, 1000]


def test_a_site_sends_what_it_has_for_anybody_to_its_hub(hub: LmtpHub) -> None:
    """With the lines for a site, mail for domains that have no route here takes the one of ``lmtp_route``."""
    hub.box.batch("route", "add", "hub.example")
    lines = dict(re.findall(r"(\S+) = (.*)\n", main_cf((CONTRIB / "postfix-master.cf").read_text(), "h")))
    before = {name: hub.provider.setting(name) for name in lines}
    settings = hub.box.path(CONFIG)
    text = settings.read_text()
    with hub.intake.away():
        settings.write_text(text + 'lmtp_route = "hub.example"\n')
    hub.provider.reconfigure(**lines)
    mail = Mail(1, "", "crew@world.example", ("anna@shop.example", "berit@bank.example"), TEXT)
    try:
        hub.provider.wait(hub.provider.inject([mail]))
        hub.intake.wait_waiting("hub.example", 1)
    finally:
        with hub.intake.away():
            settings.write_text(text)
        hub.provider.reconfigure(**before)
    assert_arrived([mail], read_batch(hub.intake.sealed("hub.example")))


@pytest.mark.parametrize("policy", ["remove", "refuse"])
def test_nul_octets_are_treated_as_the_route_says(hub: LmtpHub, policy: str) -> None:
    route = hub.route()
    set_limit(hub, route, "nul", policy)
    mail = letter(route, sender=f"nul.{policy}@world.example", content=b"Subject: x\n\na\0b\0\n")
    (queue_id,) = hub.provider.inject([mail])
    hub.provider.wait([queue_id])
    if policy == "refuse":
        assert "status=bounced" in hub.provider.log(queue_id)
        assert b"NUL" in returned(hub, mail.sender)
        assert hub.intake.waiting(route) == []
        return
    hub.intake.wait_waiting(route, 1)
    (parcel,) = read_batch(hub.intake.sealed(route))
    assert TRACE.sub(b"", parcel.content, count=1) == b"Subject: x\r\n\r\nab\r\n"


def test_a_large_message_arrives_unchanged(hub: LmtpHub) -> None:
    route = hub.route()
    mail = letter(route, content=b"Subject: x\n\n" + b".%s\n" % (b"x" * 1989) * 4000)
    hub.provider.wait(hub.provider.inject([mail]))
    hub.intake.wait_waiting(route, 1)
    assert_arrived([mail], read_batch(hub.intake.sealed(route)))


# --- faults: the mail stays in the queue ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_the_mail_in_the_queue(hub: LmtpHub, fault: str) -> None:
    route = hub.route()
    with hub.box.broken(fault, f"{SPOOL}/out/{route}"):
        (queue_id,) = hub.provider.inject([letter(route)])
        kept(hub, queue_id)
    goes_through(hub, route, queue_id)


def test_a_fault_of_one_customer_is_no_other_customers(hub: LmtpHub) -> None:
    """One message for two: the one whose route is in order gets it at once, and the other later, nobody twice."""
    good, bad = hub.route(), hub.route()
    mail = Mail(1, "", "a@world.example", (f"crew@{good}", f"crew@{bad}"), TEXT)
    with hub.box.broken("no room", f"{SPOOL}/out/{bad}"):
        (queue_id,) = hub.provider.inject([mail])
        hub.provider.wait([queue_id], "status=deferred")
        (left,) = [m for m in hub.provider.queue() if m["queue_id"] == queue_id]
        assert [r["address"] for r in left["recipients"]] == [f"crew@{bad}"]
        hub.intake.wait_waiting(good, 1)
    tried_again(hub, queue_id)
    for route in (good, bad):
        hub.intake.wait_waiting(route, 1)
        assert_arrived([Mail(1, "", "a@world.example", (f"crew@{route}",), TEXT)], read_batch(hub.intake.sealed(route)))


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_with_the_daemon_away_the_mail_waits_in_the_queue(hub: LmtpHub, how: str) -> None:
    route = hub.route()
    hub.intake.end(signal.SIGTERM if how == "ended" else signal.SIGKILL)
    try:
        (queue_id,) = hub.provider.inject([letter(route)])
        reason = kept(hub, queue_id)
    finally:
        hub.intake.start()
    assert "connect to" in reason or "suspended" in reason
    goes_through(hub, route, queue_id)


def test_a_daemon_that_hangs_leaves_the_mail_in_the_queue(hub: LmtpHub) -> None:
    route = hub.route()
    hub.provider.reconfigure(lmtp_lhlo_timeout="1s")
    hub.intake.stop()
    try:
        (queue_id,) = hub.provider.inject([letter(route)])
        assert "timed out" in kept(hub, queue_id)
    finally:
        hub.intake.go_on()
        hub.provider.reconfigure(lmtp_lhlo_timeout="300s")
    goes_through(hub, route, queue_id)


def test_a_full_disk_leaves_the_mail_in_the_queue(hub: LmtpHub) -> None:
    """The group file is what cannot be written: it lies on a file system of its own for as long as this lasts."""
    route = hub.route()
    set_limit(hub, route, "min_free", "0")
    set_limit(hub, route, "min_inodes", "0")
    groups = f"{SPOOL}/groups"
    with hub.intake.away():
        hub.box.run("install", "-d", "-o", "bsmtp-batch", "-g", "bsmtp-batch", "-m", "700", groups)
        hub.box.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=700,uid=bsmtp-batch", "tmpfs", groups)
    mail = letter(route, content=b"Subject: x\n\n" + b"0123456789abcde\n" * 10_000)
    try:
        (queue_id,) = hub.provider.inject([mail])
        kept(hub, queue_id)
        assert hub.intake.waiting(route) == []
    finally:
        with hub.intake.away():
            hub.box.run("umount", groups)
    tried_again(hub, queue_id)
    hub.intake.wait_waiting(route, 1)
    assert_arrived([mail], read_batch(hub.intake.sealed(route)))


def test_with_less_room_than_the_reserve_nothing_is_taken_and_nothing_is_sent_back(hub: LmtpHub) -> None:
    """The whole spool is on a small disk that somebody else fills: 421 until there is room again."""
    route, small = hub.route(), "/var/spool/small"
    hub.box.run("install", "-d", small)
    hub.box.run("mount", "-t", "tmpfs", "-o", "size=40m,mode=750,uid=bsmtp-batch,gid=bsmtp-batch", "tmpfs", small)
    hub.box.batch("route", "add", route, spool=small)
    settings = hub.box.path(CONFIG)
    text = settings.read_text()
    with hub.intake.away():
        settings.write_text(text.replace(f'"{SPOOL}"', f'"{small}"'))
    try:
        hub.box.run("fallocate", "-l", "25M", f"{small}/somebody")
        (queue_id,) = hub.provider.inject([letter(route)])
        assert "421 4.3.1" in kept(hub, queue_id)
        hub.box.run("rm", f"{small}/somebody")
        tried_again(hub, queue_id)
        hub.box.batch("seal", route, spool=small)
    finally:
        with hub.intake.away():
            settings.write_text(text)
    (batch,) = hub.box.path(f"{small}/out/{route}/ready").glob("*.bsmtp")
    assert_arrived([letter(route)], read_batch(batch.read_bytes()))


# --- handed over again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", ["nothing", "seal"])
@pytest.mark.parametrize("submitted", ["smtp", "sendmail"])
def test_mail_that_postfix_hands_over_again_after_a_lost_answer_is_there_once(
    hub: LmtpHub, submitted: str, between: str
) -> None:
    """It was accepted, and the line broke before the answer. Postfix tells its queue id for what came by SMTP only."""
    route = hub.route("tap")
    hub.tap.swallow = True
    if submitted == "smtp":
        (queue_id,) = hub.provider.inject([letter(route)])
    else:
        known = {m["queue_id"] for m in hub.provider.queue()}
        rcpt = letter(route).rcpts[0]
        hub.box.run("sendmail", "-i", "-f", "a.b@world.example", rcpt, input=TEXT)
        (queue_id,) = wait_queued(hub, known)
    kept(hub, queue_id)
    assert hub.tap.swallowed.pop().startswith(b"250 2.0.0 ")
    hub.intake.wait_waiting(route, 1)
    first = hub.intake.sealed(route) if between == "seal" else b""
    tried_again(hub, queue_id)
    assert "status=sent" in hub.provider.log(queue_id)
    settle(hub)
    if between == "seal":
        assert hub.intake.waiting(route) == [], "it is known to be in a batch"
    batch = first or hub.intake.sealed(route)
    (parcel,) = read_batch(batch)
    assert parcel.sender == "a.b@world.example" and parcel.rcpts == letter(route).rcpts


def wait_queued(hub: LmtpHub, known: set[str]) -> set[str]:
    """The queue ids of what is put off now and is not among ``known``."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        new = {m["queue_id"] for m in hub.provider.queue() if m["queue_name"] == "deferred"} - known
        if new:
            return new
        time.sleep(0.05)
    raise AssertionError(hub.provider.log()[-2000:])


def settle(hub: LmtpHub) -> None:
    """Wait until what was acknowledged shows: a message sent after it does."""
    route = hub.route()
    hub.provider.wait(hub.provider.inject([letter(route)]))
    hub.intake.wait_waiting(route, 1)


# --- what goes back -------------------------------------------------------------------------------------------------


def test_a_message_over_the_limit_of_one_customer_goes_back_for_him_alone(hub: LmtpHub) -> None:
    small, other = hub.route(), hub.route()
    set_limit(hub, small, "max_size", "1000")
    content = b"Subject: x\n\n" + b"long\n" * 200_000
    mail = Mail(1, "", "too.long@world.example", (f"crew@{small}", f"crew@{other}"), content)
    (queue_id,) = hub.provider.inject([mail])
    hub.provider.wait([queue_id])
    log = hub.provider.log(queue_id)
    assert re.search(rf"to=<crew@{small}>.* dsn=5\.3\.4, status=bounced", log)
    assert re.search(rf"to=<crew@{other}>.* status=sent", log)
    back = returned(hub, mail.sender)
    assert b"Status: 5.3.4" in back and f"crew@{small}".encode() in back
    hub.intake.wait_waiting(other, 1)
    assert hub.intake.waiting(small) == []


def test_with_soft_bounce_it_stays_in_the_queue(hub: LmtpHub) -> None:
    route = hub.route("soft")
    set_limit(hub, route, "max_size", "10")
    (queue_id,) = hub.provider.inject([letter(route)])
    hub.provider.wait([queue_id], "status=")
    assert "dsn=4.3.4, status=SOFTBOUNCE" in hub.provider.log(queue_id)
    assert queue_id in {m["queue_id"] for m in hub.provider.queue()}
    hub.box.run("postsuper", "-c", hub.provider.directory, "-d", queue_id)


def test_an_address_no_mail_system_could_use_goes_back_to_its_sender(hub: LmtpHub) -> None:
    route = hub.route()
    mail = Mail(1, "letter", "odd.one@world.example", ("x" * 300 + f"@{route}",), TEXT)
    (queue_id,) = hub.provider.inject([mail])
    hub.provider.wait([queue_id])
    assert re.search(r"dsn=5\.1\.\d, status=bounced", hub.provider.log(queue_id))
    assert b"Status: 5.1." in returned(hub, mail.sender)
    assert hub.intake.waiting(route) == []
