"""Sendmail as provider, in a box, with ``contrib/sendmail.mc`` appended to a configuration as the file stands."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.box import Box
from support.corpus import DOMAIN
from support.postfix import RECORDER, Recorder, inject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.corpus import Mail

CONTRIB = Path(__file__).parents[2] / "contrib" / "sendmail.mc"
PORT = 25
PROGRAM = "/usr/libexec/sendmail/sendmail"
HEAD = f"""\
define(`_USE_ETC_MAIL_')dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port={PORT}, Addr=127.0.0.1')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch-nodns')dnl
define(`confDOMAIN_NAME', `hub.example')dnl
define(`confMAX_RCPTS_PER_MESSAGE', `0')dnl
define(`confTO_IDENT', `0')dnl
define(`confLOG_LEVEL', `9')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
define(`SMART_HOST', `esmtp:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {RECORDER}')dnl
define(`ESMTP_MAILER_ARGS', `TCP $h {RECORDER}')dnl
"""


class Sendmail:
    """A running Sendmail daemon that sends its bounces to the recorder of the box.

    ``way`` is the mark of the contributed line for the mailertable: "t" is the pipe, "l" is LMTP. By LMTP every domain
    below ``site.example`` is a customer as well.
    """

    def __init__(self, way: str = "t") -> None:
        self.box = box = sendmail_box()
        self.recorder = Recorder(box)
        contrib = CONTRIB.read_text()
        box.write("/etc/mail/sendmail.mc", HEAD + marked(contrib, "m") + "MAILER(`smtp')dnl\n" + contrib)
        line = marked(contrib, way)
        sites = line.replace(DOMAIN, ".site.example") if way == "l" else ""
        box.write("/etc/mail/mailertable", line + sites)
        box.write("/etc/mail/relay-domains", marked(contrib, "r") + "site.example\n")
        for name in ("local-host-names", "trusted-users", "aliases"):
            box.write(f"/etc/mail/{name}", "")
        box.run("sh", "-c", "m4 /etc/mail/sendmail.mc > /etc/mail/sendmail.cf")
        box.run("sh", "-c", "makemap hash /etc/mail/mailertable < /etc/mail/mailertable")
        for name in ("/var/spool/mqueue", "/var/lib/sendmail", "/run/sendmail/mta"):
            box.run("install", "-d", "-m", "700", name)
        box.run(PROGRAM, "-bd")
        box.wait_port(PORT)

    def close(self) -> None:
        self.box.close()

    def inject(self, mails: Iterable[Mail]) -> list[str]:
        """Send messages by SMTP; the queue id each one got."""
        found = [re.search(r"2\.0\.0 (\w+) Message accepted", a) for a in inject(self.box, PORT, mails)]
        return [f[1] if f else "" for f in found]

    def log(self, queue_id: str = "") -> str:
        return "".join(line for line in self.box.log().splitlines(True) if f" {queue_id}" in line)

    def wait(self, queue_ids: Iterable[str], what: str = "stat=Sent", seconds: float = 50) -> None:
        """Wait until the log says ``what`` (a pattern) of every message in ``queue_ids``."""
        end = time.monotonic() + seconds
        waiting = set(queue_ids)
        while waiting:
            waiting -= {found[1] for found in re.finditer(rf" (\w+): .*(?:{what})", self.log())}
            assert time.monotonic() < end, f"{sorted(waiting)[:3]} not {what} within {seconds} s:\n{self.log()[-3000:]}"
            time.sleep(0.05 if waiting else 0)

    def queued(self) -> list[str]:
        """The queue ids of what is still here."""
        return [p.name[2:] for p in self.box.path("/var/spool/mqueue").glob("qf*")]

    def wait_gone(self, queue_ids: Iterable[str], seconds: float = 50) -> None:
        """Wait until none of ``queue_ids`` is in the queue any more."""
        assert all(queue_ids)
        end = time.monotonic() + seconds
        while set(queue_ids) & set(self.queued()):
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.05)

    def run_queue(self) -> None:
        """Try everything again, now."""
        self.box.run(PROGRAM, "-qf", "-O", "MinQueueAge=0")


def marked(text: str, mark: str) -> str:
    """The lines that a contrib file carries as comments for another file."""
    return "".join(line + "\n" for line in re.findall(rf"^dnl {mark} +(.*)$", text, re.M))


def sendmail_box() -> Box:
    return Box("sendmail", accounts={"smmta": "/var/lib/sendmail", "smmsp": "/var/lib/sendmail"})
