"""Exim with ATRN (4.99 or newer) in a box: as the provider that turns a connection round, as the customer that asks.

The machine's own Exim may be too old, so it comes from a newer Debian and runs in a root with the libraries of that
one. A box holds either, and whoever is its peer: a program in the box, or the test itself (``box.connect``,
``box.listen``).

What Exim 4.100.1 does as provider, and a test has to live with: a turn brings most of what waits and not always all of
it (its queue runner loses sight of a few when many wait), so that a customer asks until 453; under TLS a turn brings
one message, and then the connection is closed within the envelope of the next; addresses with SMTPUTF8 go out as
A-labels although the customer offers SMTPUTF8; a message without a blank line behind its header gets one.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from support.box import Box
from support.certificates import certificate
from support.mailcheck import Parcel, read_batch
from support.postfix import inject

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

    from support.corpus import Mail

APART = "/opt/newer"
CONFIG = "/etc/exim4/exim4.conf"
ODMR, SMTP = 366, 2525
USER, SECRET = "customer", "a secret that was generated"
DOMAINS = ("aurora.example", "second.example")
"""What the customer may ask for; without a list it gets both."""
ALL = ":".join(DOMAINS)
RECEIVED = "/var/spool/received"
CERTIFICATE, KEY = "/etc/exim4/exim.crt", "/etc/exim4/exim.key"

MAIN = f"""\
local_interfaces = 127.0.0.1
acl_smtp_rcpt = accept
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 50M
received_header_text = Received: by $primary_hostname with $received_protocol id $message_exim_id
allow_utf8_domains
log_selector = +all
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = ${{if exists{{{CERTIFICATE}}}{{*}}}}
tls_certificate = {CERTIFICATE}
tls_privatekey = {KEY}
keep_environment =
"""
CRAM = f"""\
begin authenticators

cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{USER}}}{{{SECRET}}}fail}}
  server_set_id = $auth1
  client_name = {USER}
  client_secret = {SECRET}
"""
# Exim calls a list of which one domain is foreign a denial, and with that says 450. What the client wrote is tainted:
# the part that is used has to come out of a list of our own.
PROVIDER = f"""\
primary_hostname = provider.example
daemon_smtp_ports = {ODMR} : {SMTP}
queue_only
acl_smtp_atrn = ${{if ={{$received_port}}{{{ODMR}}}{{turn}}{{}}}}
{MAIN}
begin acl

turn:
  deny condition = ${{if forany{{<, $smtp_command_argument}}{{!inlisti{{$item}}{{{ALL}}}}}}}
  warn set acl_m_asked = ${{map{{<, $smtp_command_argument}}{{${{if inlisti{{$item}}{{{ALL}}}{{$value}}}}}}}}
  warn !condition = ${{if def:acl_m_asked}}
       set acl_m_asked = {",".join(DOMAINS)}
  defer !atrn_domains = <, $acl_m_asked
       message = 453 You have no mail
  accept

begin routers

customer:
  driver = manualroute
  route_data = <;$atrn_host
  self = send
  transport = customer

waiting:
  driver = redirect
  allow_defer
  data = :defer: until the customer asks

begin transports

customer:
  driver = smtp
  allow_localhost
  max_rcpt = 0
  message_linelength_limit = 1G

begin retry

* * F,4d,1s

{CRAM}"""
CUSTOMER = f"""\
primary_hostname = customer.example
{MAIN}
begin routers

provider:
  driver = manualroute
  condition = ${{if eq{{$atrn_mode}}{{C}}}}
  route_data = <;$domain
  self = send
  transport = provider

local:
  driver = accept
  transport = file

begin transports

provider:
  driver = smtp
  port = PORT
  allow_localhost
  command_timeout = 10m
  hosts_require_auth = *
  hosts_require_tls = ${{if exists{{{CERTIFICATE}}}{{*}}}}
  tls_verify_certificates =

file:
  driver = appendfile
  directory = {RECEIVED}
  use_bsmtp
  use_crlf
  batch_max = 1000
  user = Debian-exim

begin retry

* * F,4d,1s

{CRAM}"""


class _Exim:
    """What both have: a box with the program in it, its queue, its log."""

    def __init__(self, config: str, name: str, tls: bool) -> None:
        hosts = ["provider.example", "customer.example"]
        accounts = {"Debian-exim": "/var/spool/exim4"}
        self.box = Box(accounts=accounts, hosts=hosts, name=name, apart={APART: "exim-odmr"})
        self.box.write(CONFIG, config)
        if tls:
            with TemporaryDirectory() as directory:
                for made, place in zip(certificate(Path(directory), name), (CERTIFICATE, KEY), strict=True):
                    self.box.write(place, Path(made).read_text())
        for place in ("/var/spool/exim4", "/var/log/exim4", "/run/exim4"):
            self.box.run("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", place)

    def exim(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        """Run ``exim4 ARGUMENTS`` in the box to its end."""
        return self.box.run("chroot", APART, "/usr/sbin/exim4", *arguments, code=code)

    def queued(self) -> int:
        """How many messages wait."""
        return int(self.exim("-bpc").stdout)

    def wait_empty(self, seconds: float = 50) -> None:
        """Wait until nothing waits any more."""
        end = time.monotonic() + seconds
        while self.queued():
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.05)

    def wait_log(self, pattern: str, seconds: float = 50) -> None:
        """Wait until the log says ``pattern``."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.log()):
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.05)

    def log(self) -> str:
        file = self.box.path("/var/log/exim4/mainlog")
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        self.box.close()


class OdmrProvider(_Exim):
    """A daemon: mail for :data:`DOMAINS` waits in its queue until :data:`USER` says ATRN on port :data:`ODMR`; with
    ``tls`` it offers STARTTLS."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(PROVIDER, "provider.example", tls)
        self.exim("-bd")
        for port in (ODMR, SMTP):
            self.box.wait_port(port)

    def inject(self, mails: Iterable[Mail]) -> None:
        """Queue messages, by SMTP."""
        for answer in inject(self.box, SMTP, mails):
            assert " id=" in answer, answer


class OdmrCustomer(_Exim):
    """``exim -atrn``, and the files into which the mail goes that comes; with ``tls`` it insists on STARTTLS and takes
    any certificate."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(CUSTOMER.replace("PORT", str(ODMR)), "customer.example", tls)
        self.box.run("install", "-d", "-o", "Debian-exim", RECEIVED)
        self.secret = SECRET

    def pull(self, domains: str = "", port: int = ODMR, code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        """Ask the provider on ``port`` of the box for the mail of ``domains`` (with commas; "": whatever there is)."""
        self.box.write(CONFIG, CUSTOMER.replace("PORT", str(port)).replace(SECRET, self.secret))
        return self.exim("-atrn", "127.0.0.1", domains, code=code)

    def received(self) -> list[Parcel]:
        """What came, once all of it is in its files."""
        self.wait_empty()
        parcels = []
        for file in sorted(self.box.path(RECEIVED).iterdir()):
            parcels += read_batch(b"HELO exim\r\n" + file.read_bytes() + b"QUIT\r\n")
        return parcels

    def clear(self) -> None:
        """Forget what came."""
        for file in self.box.path(RECEIVED).iterdir():
            file.unlink()
