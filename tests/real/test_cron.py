"""The contributed cron lines: they run as they stand, and say nothing when there is nothing to do."""

from __future__ import annotations

import re

import pytest
from support.box import OWNER
from support.corpus import DOMAIN, Mail
from support.mailcheck import assert_arrived
from support.postfix import CONTRIB, RECORDER, Hub

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("postfix")]

LINE = re.compile(r"(?m)^(?:\S+ +){4}\S+ +bsmtp-batch +(bsmtp-batch (\w+).*)$")


def lines(name: str) -> dict[str, str]:
    """The commands of a cron file by their verb, in its order."""
    found = LINE.findall((CONTRIB / "cron" / name).read_text())
    return {verb: command for command, verb in found}


def cron(hub: Hub, command: str, spool: str) -> bytes:
    """What cron would mail to the operator."""
    path = re.search(r"(?m)^PATH=(.*)$", (CONTRIB / "cron/bsmtp-batch-hub").read_text())
    assert path
    environment = {"PATH": path[1], "BSMTP_BATCH_SPOOL": spool}
    done = hub.box.run("/bin/sh", "-c", command, user=OWNER, env=environment)
    return done.stdout + done.stderr


def test_the_lines_bring_a_message_across_and_are_silent_when_there_is_none(hub: Hub) -> None:
    hub_spool, site_spool = "/var/spool/cron-hub", "/var/spool/cron-site"
    hub.box.run("install", "-d", "-o", OWNER, hub_spool, site_spool, "/srv/shared")
    hub.box.batch("route", "add", DOMAIN, spool=hub_spool)
    here, there = lines("bsmtp-batch-hub"), lines("bsmtp-batch-site")
    assert list(here) == ["seal", "push", "pull", "import", "expire"]
    assert list(there) == ["pull", "import", "seal", "push", "expire"]
    for side in (here, there):
        side["import"] = side["import"].replace("smtp://127.0.0.1:25", f"lmtp://127.0.0.1:{RECORDER}")
    mail = Mail(1, "", "a@world.example", (f"cron@{DOMAIN}",), b"Subject: one\n\n.\n")
    known = len(hub.recorder.all())
    hub.box.batch("deliver", "-f", mail.sender, "--", DOMAIN, *mail.rcpts, spool=hub_spool, input=mail.content)
    for command in [here["seal"].replace(" --due", ""), here["push"]]:
        cron(hub, command, hub_spool)
    for command in there.values():
        cron(hub, command, site_spool)
    assert_arrived([mail], hub.recorder.all()[known:], traces=0)
    for _ in range(2):  # the first push still finds the receipt
        said = [cron(hub, command, hub_spool) for command in here.values()]
        said += [cron(hub, command, site_spool) for command in there.values()]
    assert said == [b""] * 10
