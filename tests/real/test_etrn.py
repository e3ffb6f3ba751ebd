"""`dequeue` against the mail servers that know ETRN: mail that waited there begins to move to the customer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Protocol

import pytest
from support.box import Box
from support.corpus import Mail
from support.exim import exim_box
from support.mailcheck import Parcel
from support.postfix import RECORDER, Postfix, Recorder, inject, postfix_box
from support.sendmail import PORT as SENDMAIL_PORT
from support.sendmail import PROGRAM, Sendmail
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("etrn")]

PORT = 2525
MINE, OTHER = "dialin.example", "other.example"
POSTFIX = f"""\
relay_domains = {MINE} {OTHER}
relay_transport = lmtp:[127.0.0.1]:{RECORDER}
smtpd_etrn_restrictions = check_etrn_access inline:{{ {{ {OTHER} = 459 4.7.1 not from there }} }} permit
"""
EXIM = f"""\
primary_hostname = provider.example
daemon_smtp_ports = {PORT}
local_interfaces = 127.0.0.1
acl_smtp_rcpt = accept
acl_smtp_etrn = accept
queue_only
keep_environment =

begin routers

customer:
  driver = manualroute
  transport = customer
  route_list = * 127.0.0.1
  self = send

begin transports

customer:
  driver = smtp
  port = {RECORDER}
  allow_localhost
"""


class Provider(Protocol):
    """A server with ETRN on ``port`` of its box."""

    box: Box
    port: int

    def keep(self, domain: str) -> None:
        """Take a message for ``domain`` and do not try to send it again by itself."""


class PostfixProvider:
    """Postfix, which found the customer away when the mail came."""

    port = PORT

    def __init__(self) -> None:
        self.box = postfix_box()
        self.postfix = Postfix(self.box, "provider", PORT, POSTFIX)

    def keep(self, domain: str) -> None:
        self.postfix.wait(self.postfix.inject([letter(domain)]), "status=deferred")

    def close(self) -> None:
        self.postfix.stop()
        self.box.close()


class SendmailProvider:
    """Sendmail, which was told to queue."""

    port = SENDMAIL_PORT

    def __init__(self) -> None:
        self.sendmail = Sendmail()
        self.box = self.sendmail.box

    def keep(self, domain: str) -> None:
        mail = letter(domain)
        self.box.run(PROGRAM, "-odq", "-oi", "-f", mail.sender, "--", *mail.rcpts, input=mail.content)

    def close(self) -> None:
        self.sendmail.close()


class EximProvider:
    """Exim, which queues all that comes; its ETRN takes a piece of an address."""

    port = PORT

    def __init__(self) -> None:
        self.box = exim_box()
        self.box.write("/etc/exim4/exim4.conf", EXIM)
        for name in ("/var/spool/exim4", "/var/log/exim4", "/run/exim4"):
            self.box.run("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", name)
        self.box.run("exim4", "-bd")
        self.box.wait_port(PORT)

    def keep(self, domain: str) -> None:
        (answer,) = inject(self.box, PORT, [letter(domain)])
        assert " id=" in answer

    def close(self) -> None:
        self.box.close()


def letter(domain: str) -> Mail:
    return Mail(1, "", "a@world.example", (f"b@{domain}",), b"Subject: waiting\n\nstill\n")


@pytest.fixture
def postfix() -> Iterator[Provider]:
    yield from running(PostfixProvider)


@pytest.fixture
def sendmail() -> Iterator[Provider]:
    yield from running(SendmailProvider)


@pytest.fixture
def exim() -> Iterator[Provider]:
    yield from running(EximProvider)


def dequeue(provider: Provider, *domains: str) -> list[tuple[str, str, str]]:
    """What was said of each domain: the domain, its outcome, and the code of the reply."""
    flags = [word for domain in domains for word in ("-d", domain)]
    done = provider.box.batch("dequeue", "127.0.0.1", "-p", str(provider.port), *flags, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [(row["domain"], row["outcome"], row["reply"][:3]) for row in rows]


def arrived(recorder: Recorder, count: int) -> list[Parcel]:
    """What has come to the customer, once it is ``count`` messages."""
    end = time.monotonic() + 40
    while len(found := recorder.all()) < count:
        assert time.monotonic() < end, recorder.box.log()[-2000:]
        time.sleep(0.05)
    return found


def test_postfix_begins_to_send_what_waits(postfix: Provider) -> None:
    postfix.keep(MINE)
    postfix.keep(OTHER)
    recorder = Recorder(postfix.box)

    assert dequeue(postfix, OTHER, "unknown.example", MINE) == [
        (OTHER, "refused", "459"),
        ("unknown.example", "refused", "459"),
        (MINE, "started", "250"),
    ]
    assert [p.rcpts for p in arrived(recorder, 1)] == [(f"b@{MINE}",)]


def test_postfix_takes_the_forms_with_a_mark_for_the_name_alone(postfix: Provider) -> None:
    postfix.keep(MINE)
    recorder = Recorder(postfix.box)

    assert dequeue(postfix, f"@{MINE}", f"#{MINE}") == [(f"@{MINE}", "started", "250"), (f"#{MINE}", "started", "250")]
    assert len(arrived(recorder, 1)) == 1


def test_sendmail_begins_to_send_what_waits(sendmail: Provider) -> None:
    sendmail.keep(MINE)
    sendmail.keep(f"below.{MINE}")
    sendmail.keep(OTHER)
    assert isinstance(sendmail, SendmailProvider)
    recorder = sendmail.sendmail.recorder

    assert dequeue(sendmail, "#nogroup", MINE) == [("#nogroup", "refused", "459"), (MINE, "started", "250")]
    assert [p.rcpts for p in arrived(recorder, 1)] == [(f"b@{MINE}",)]

    assert dequeue(sendmail, f"@{MINE}") == [(f"@{MINE}", "started", "250")]
    assert {p.rcpts for p in arrived(recorder, 2)} == {(f"b@{MINE}",), (f"b@below.{MINE}",)}


def test_exim_begins_to_send_what_waits(exim: Provider) -> None:
    exim.keep(MINE)
    exim.keep(OTHER)
    recorder = Recorder(exim.box)

    said = dequeue(exim, MINE, f"#{MINE}")

    assert said == [(MINE, "refused", "501"), (f"#{MINE}", "started", "250")]
    assert [p.rcpts for p in arrived(recorder, 1)] == [(f"b@{MINE}",)]
