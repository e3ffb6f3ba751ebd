"""Exim in a box: a provider wired by ``contrib/exim.conf``, a writer of ``use_bsmtp`` files, a reader of batches."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.box import Box
from support.postfix import RECORDER, Recorder, inject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.corpus import Mail

CONTRIB = Path(__file__).parents[2] / "contrib" / "exim.conf"
PORT = 2525
FILES = "/var/spool/use_bsmtp"
MAIN = f"""\
primary_hostname = hub.example
daemon_smtp_ports = {PORT}
local_interfaces = 127.0.0.1
acl_smtp_rcpt = accept
trusted_users = root : bsmtp-batch
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 50M
received_header_text = Received: by $primary_hostname with $received_protocol id $message_exim_id
allow_utf8_domains
log_selector = +all
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
timeout_frozen_after = 7d
"""
ROUTERS = """\
use_bsmtp:
  driver = accept
  domains = file.example : crlf.example : directory.example
  transport = ${if eq{$domain}{file.example}{to_file}{${if eq{$domain}{crlf.example}{to_crlf}{to_directory}}}}

batched:
  driver = accept
  condition = ${if match{$received_protocol}{bsmtp}}
  transport = to_batched

world:
  driver = manualroute
  domains = ! aurora.example : ! *.site.example
  transport = world
  route_list = * 127.0.0.1
  self = send

"""
TRANSPORTS = f"""\
to_file:
  driver = appendfile
  file = {FILES}/file
  use_bsmtp
  batch_max = 100
  user = mail

to_crlf:
  driver = appendfile
  file = {FILES}/crlf
  use_bsmtp
  use_crlf
  batch_max = 100
  user = mail

to_directory:
  driver = appendfile
  directory = {FILES}/directory
  use_bsmtp
  batch_max = 100
  user = mail

to_batched:
  driver = appendfile
  directory = {FILES}/batched
  use_bsmtp
  batch_max = 1000
  user = mail

world:
  driver = smtp
  port = {RECORDER}
  allow_localhost

"""


class Exim:
    """A running Exim daemon. ``lmtp``: of the two contributed routers it has the one for LMTP, and not the pipe's;
    every domain below ``site.example`` is a customer as well."""

    def __init__(self, *, lmtp: bool = False) -> None:
        self.box = box = exim_box()
        self.recorder = Recorder(box)
        parts = re.split(r"^begin (\w+)$", CONTRIB.read_text(), flags=re.M)
        contrib = dict(zip(parts[1::2], parts[2::2], strict=True))
        if lmtp:
            contrib["routers"] = "".join(line + "\n" for line in re.findall(r"(?m)^#l (.*)$", contrib["routers"]))
            contrib["routers"] = contrib["routers"].replace(" aurora.example", " aurora.example : *.site.example")
        routers, transports = ROUTERS + contrib["routers"], TRANSPORTS + contrib["transports"]
        main = MAIN + ("dsn_advertise_hosts = *\n" if lmtp else "")
        text = f"{main}\nbegin routers\n{routers}\nbegin transports\n{transports}\nbegin retry\n* * F,4d,1h\n"
        box.write("/etc/exim4/exim4.conf", text + contrib["retry"])
        for name in ("/var/spool/exim4", "/var/log/exim4", "/run/exim4"):
            box.run("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", name)
        box.run("install", "-d", "-o", "mail", FILES)
        box.run("exim4", "-bV")
        box.run("exim4", "-bd")
        box.wait_port(PORT)

    def close(self) -> None:
        self.box.close()

    def inject(self, mails: Iterable[Mail]) -> list[str]:
        """Send messages by SMTP; the queue id each one got."""
        found = []
        for answer in inject(self.box, PORT, mails):
            accepted = re.search(r"id=(\S+)", answer)
            assert accepted, answer
            found.append(accepted[1])
        return found

    def log(self, queue_id: str = "") -> str:
        file = self.box.path("/var/log/exim4/mainlog")
        return "".join(line for line in file.read_text(errors="replace").splitlines(True) if f" {queue_id}" in line)

    def wait(self, queue_ids: Iterable[str], what: str = "Completed", seconds: float = 50) -> None:
        """Wait until the log says ``what`` (a pattern) of every message in ``queue_ids``."""
        end = time.monotonic() + seconds
        waiting = set(queue_ids)
        while waiting:
            waiting -= {found[1] for found in re.finditer(rf" (\w+-\w+-\w+) .*(?:{what})", self.log())}
            assert time.monotonic() < end, f"{sorted(waiting)[:3]} not {what} within {seconds} s:\n{self.log()[-3000:]}"
            time.sleep(0.05 if waiting else 0)

    def read_batch(self, batch: bytes) -> tuple[int, str]:
        """Feed a batch to ``exim -bS``; its exit code and what it printed."""
        done = self.box.run("exim4", "-bS", "-odi", code=None, input=batch)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def exim_box() -> Box:
    return Box("exim", "fetchmail", "spamc", accounts={"Debian-exim": "/var/spool/exim4"})
