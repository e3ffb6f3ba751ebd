"""Postfix hands mail to ``deliver`` as the contributed lines say; nothing is lost, changed, doubled or sent back."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from support.box import SPOOL
from support.corpus import DOMAIN, Mail
from support.mailcheck import assert_arrived, read_batch
from support.postfix import CONTRIB, DIE, Hub

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("postfix")]

FAULTS = ["no route", "no room", "no permission", "bad setting", "no modules", "no interpreter"]
TEXT = b"Subject: one\n\nline\n.\n..dots\nlast\n"


def letter(route: str, number: int = 1, *, sender: str = "a.b@world.example", content: bytes = TEXT) -> Mail:
    return Mail(number, "letter", sender, (f"someone{number}@{route}",), content)


def sealed(hub: Hub, route: str) -> bytes:
    """Seal what waits in ``route``; the one batch that came of it."""
    hub.box.batch("seal", route)
    batches = [p for p in hub.box.path(f"{SPOOL}/out/{route}/ready").iterdir() if p.suffix == ".bsmtp"]
    assert len(batches) == 1
    return batches[0].read_bytes()


def kept(hub: Hub, queue_id: str) -> str:
    """Why Postfix still has the message, checking that it does and that nothing went back to the sender."""
    found = [m for m in hub.provider.queue() if m["queue_id"] == queue_id]
    assert [m["queue_name"] for m in found] == ["deferred"]
    log = hub.provider.log(queue_id)
    assert "status=deferred" in log and "status=bounced" not in log and "dsn=4.3.0" in log
    return str(found[0]["recipients"][0]["delay_reason"])


def goes_through(hub: Hub, route: str, queue_id: str) -> None:
    """Once the fault is mended the next try delivers the message, whole, and once."""
    hub.provider.flush(queue_id)
    hub.provider.wait([queue_id])
    assert len(hub.waiting(route)) == 1
    assert_arrived([letter(route)], read_batch(sealed(hub, route)))


def test_the_contributed_lines_bring_every_message_of_the_corpus_into_the_batch(
    hub: Hub, mails: list[Mail], batch: str
) -> None:
    assert_arrived(mails, read_batch(hub.box.path(batch).read_bytes()))


def test_show_tells_of_every_message_what_is_in_the_batch(hub: Hub, batch: str) -> None:
    octets = hub.box.path(batch).read_bytes()
    parcels = read_batch(octets)
    shown = [json.loads(line) for line in hub.box.batch("show", "--json", batch).stdout.splitlines()]
    assert [(s["message"], s["mail_from"], tuple(s["rcpt_to"])) for s in shown] == [
        (number, p.sender, p.rcpts) for number, p in enumerate(parcels, 1)
    ]
    assert [s["sha256"] for s in shown] == [hashlib.sha256(p.content).hexdigest() for p in parcels]
    for row, parcel in zip(shown, parcels, strict=True):
        assert octets[row["offset"] :].startswith(re.sub(rb"(?m)^\.", b"..", parcel.content[:200])[:150])
    for number in (1, 77, 1 + max(range(len(parcels)), key=lambda n: len(parcels[n].content))):
        raw = hub.box.batch("show", batch, "-m", str(number), "--raw").stdout
        assert raw == parcels[number - 1].content


def test_verify_finds_no_fault_in_it(hub: Hub, batch: str) -> None:
    hub.box.batch("verify", batch)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_the_mail_in_the_queue(hub: Hub, fault: str) -> None:
    route = hub.route()
    with hub.box.broken(fault, f"{SPOOL}/out/{route}"):
        (queue_id,) = hub.provider.inject([letter(route)])
        hub.provider.wait([queue_id], "status=")
        kept(hub, queue_id)
    goes_through(hub, route, queue_id)


def test_a_full_disk_leaves_the_mail_in_the_queue(hub: Hub) -> None:
    route = hub.route()
    limits = hub.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^(min_\w+) .*", r"\1 0", limits.read_text()))
    small = f"{SPOOL}/out/{route}"
    hub.box.run("cp", "-a", small, "/root/aside")
    hub.box.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small)
    hub.box.run("sh", "-c", f"cp -a /root/aside/. {small} && rm -r /root/aside")
    mail = letter(route, content=b"Subject: x\n\n" + b"0123456789abcde\n" * 10_000)
    (queue_id,) = hub.provider.inject([mail])
    hub.provider.wait([queue_id], "status=")
    assert "no room" in kept(hub, queue_id)
    assert hub.waiting(route) == []
    assert list(hub.box.path(f"{small}/tmp").iterdir()) == [], "what could not be finished is cleared away"
    hub.box.run("mount", "-o", "remount,size=1m", small)
    hub.provider.flush(queue_id)
    hub.provider.wait([queue_id])
    assert len(hub.waiting(route)) == 1


def process(queue_id: str) -> int:
    """The process, as seen from outside the box, that has ``queue_id`` on its command line."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for entry in os.listdir("/proc"):
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0") if entry.isdigit() else []
            except OSError:
                continue  # it has ended meanwhile
            if queue_id.encode() in words and any(w.endswith(b"bsmtp-batch-deliver") for w in words):
                return int(entry)
        time.sleep(0.01)
    raise AssertionError(f"no process for {queue_id}")


def test_a_killed_hand_in_leaves_the_mail_in_the_queue(hub: Hub) -> None:
    route = hub.route()
    lock = str(hub.box.path(f"{SPOOL}/out/{route}/index.lock"))
    with open(lock, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # so that the hand-in waits, ready to publish
        (queue_id,) = hub.provider.inject([letter(route)])
        os.kill(process(queue_id), signal.SIGKILL)
        hub.provider.wait([queue_id], "status=")
    assert "signal 9" in kept(hub, queue_id)
    goes_through(hub, route, queue_id)


@pytest.mark.parametrize("between", ["nothing", "seal"])
def test_mail_that_postfix_hands_over_again_after_it_was_accepted_is_there_once(hub: Hub, between: str) -> None:
    """The program dies with the message committed but the exit code not yet told: Postfix has to try again."""
    route = hub.route("dying")
    hub.box.write(DIE, "")
    try:
        (queue_id,) = hub.provider.inject([letter(route)])
        hub.provider.wait([queue_id], "status=")
        assert "signal 9" in kept(hub, queue_id)
    finally:
        hub.box.path(DIE).unlink()
    assert len(hub.waiting(route)) == 1, "it was accepted"
    if between == "nothing":
        goes_through(hub, route, queue_id)
        return
    first = sealed(hub, route)
    hub.provider.flush(queue_id)
    hub.provider.wait([queue_id])
    assert hub.waiting(route) == [], "the second hand-in is known to be in a batch"
    assert sealed(hub, route) == first
    assert_arrived([letter(route)], read_batch(first))


def returned(hub: Hub, sender: str) -> bytes:
    """The one notification that came back to ``sender``."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = [p for p in hub.recorder.all() if p.rcpts == (sender,)]
        if found:
            assert len(found) == 1 and found[0].sender == ""
            return found[0].content
        time.sleep(0.05)
    raise AssertionError(f"nothing came back to {sender}")


def test_a_message_over_the_limit_goes_back_to_its_sender(hub: Hub) -> None:
    route = hub.route()
    limits = hub.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^max_size .*", "max_size 1000", limits.read_text()))
    mail = letter(route, sender="too.long@world.example", content=b"Subject: x\n\n" + b"long\n" * 200_000)
    (queue_id,) = hub.provider.inject([mail])
    hub.provider.wait([queue_id])
    assert "dsn=5.3.4, status=bounced" in hub.provider.log(queue_id)
    assert b"Status: 5.3.4" in returned(hub, mail.sender)
    assert hub.waiting(route) == []


def test_with_soft_bounce_it_stays_in_the_queue(hub: Hub) -> None:
    route = hub.route("soft")
    limits = hub.box.path(f"{SPOOL}/out/{route}/limits")
    limits.write_text(re.sub(r"(?m)^max_size .*", "max_size 10", limits.read_text()))
    (queue_id,) = hub.provider.inject([letter(route)])
    hub.provider.wait([queue_id], "status=")
    assert "dsn=4.3.4, status=SOFTBOUNCE" in hub.provider.log(queue_id)
    assert queue_id in {m["queue_id"] for m in hub.provider.queue()}
    hub.box.run("postsuper", "-c", hub.provider.directory, "-d", queue_id)


def test_an_address_no_mail_system_could_use_goes_back_to_its_sender(hub: Hub) -> None:
    route = hub.route()
    mail = Mail(1, "letter", "odd.one@world.example", ("x" * 300 + f"@{route}",), TEXT)
    (queue_id,) = hub.provider.inject([mail])
    hub.provider.wait([queue_id])
    assert "dsn=5.1.3, status=bounced" in hub.provider.log(queue_id)
    assert b"Status: 5.1.3" in returned(hub, mail.sender)
    assert hub.waiting(route) == []


@pytest.fixture(scope="module")
def old_names(hub: Hub) -> Hub:
    """What contrib/postfix-master.cf says about the old names, done as it says."""
    text = (CONTRIB / "postfix-master.cf").read_text()
    for line in re.findall(r"^#b +(.*)$", text, re.M):
        hub.box.run("sh", "-ec", line)
    return hub


@pytest.mark.parametrize("name", ["debian", "upstream"])
def test_the_stock_entry_works_as_it_stands(old_names: Hub, mails: list[Mail], name: str) -> None:
    hub = old_names
    route = hub.route(name)
    few = [
        Mail(m.number, m.kind, m.sender, tuple(r.replace(DOMAIN, route) for r in m.rcpts), m.content)
        for m in mails[20:60]
    ]
    hub.provider.wait(hub.provider.inject(few))
    assert_arrived(few, read_batch(sealed(hub, route)))
