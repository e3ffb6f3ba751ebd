"""Postfix, twice in one box: the provider's and the customer's, each with its own configuration, queue and log.

The provider accepts mail on a loopback port and hands it on as ``contrib/postfix-master.cf`` says, appended to its
master.cf as the file stands. The customer accepts mail for its domain and gives it, and everything it sends elsewhere,
to a recorder.
"""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.box import OWNER, PYTHON, SPOOL, Box
from support.corpus import DOMAIN, Mail
from support.mailcheck import Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTRIB = Path(__file__).parents[2] / "contrib"
HERE = Path(__file__).parent
RECORDER = 2324
DIE = "/opt/die"
STOCK = """\
smtp      inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
relay     unix  -       -       n       -       -       smtp
smtp      unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""
COMMON = """\
compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_header_rewrite_clients =
allow_min_user = yes
message_size_limit = 20000000
smtpd_tls_security_level = none
smtp_tls_security_level = none
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
minimal_backoff_time = 300s
queue_run_delay = 300s
"""


class Postfix:
    """One instance: ``name`` is also its configuration's, queue's and log's name."""

    def __init__(self, box: Box, name: str, port: int, main: str, master: str = ""):
        self.box, self.name, self.port = box, name, port
        self.directory = f"/etc/postfix-{name}"
        self.logfile = f"/var/log/postfix-{name}.log"
        own = (
            f"myhostname = {name}.example\nqueue_directory = /var/spool/postfix-{name}\n"
            f"data_directory = /var/lib/postfix-{name}\nmaillog_file = {self.logfile}\n"
        )
        service = STOCK.replace("smtp      inet", f"127.0.0.1:{port} inet", 1)
        box.write(f"{self.directory}/main.cf", COMMON + own + main)
        box.write(f"{self.directory}/master.cf", service + master)
        box.run("install", "-d", f"/var/spool/postfix-{name}")
        box.run("install", "-d", "-o", "postfix", f"/var/lib/postfix-{name}")
        self.start()

    def reconfigure(self, **settings: str) -> None:
        """Change lines of main.cf and make the running instance read them."""
        self.box.run("postconf", "-c", self.directory, "-e", *(f"{k} = {v}" for k, v in settings.items()))
        self.reload()

    def setting(self, name: str) -> str:
        """A setting of the running instance."""
        return self.box.run("postconf", "-c", self.directory, "-h", name).stdout.decode().strip()

    def reload(self) -> None:
        """Make the running instance read its files again."""
        self.box.run("postfix", "-c", self.directory, "reload")

    def add_service(self, entry: str) -> None:
        """Append an entry to master.cf and make the running instance read it."""
        file = self.box.path(f"{self.directory}/master.cf")
        file.write_text(file.read_text() + "\n" + entry)
        self.reload()

    def inject(self, mails: Iterable[Mail]) -> list[str]:
        """Send messages by SMTP; the queue id each one got."""
        return [_queue_id(answer) for answer in inject(self.box, self.port, mails)]

    def log(self, queue_id: str = "") -> str:
        """The lines of the log that name ``queue_id``, or all."""
        file = self.box.path(self.logfile)
        return "".join(x for x in file.read_text(errors="replace").splitlines(True) if f" {queue_id}" in x)

    def queue(self) -> list[dict[str, Any]]:
        """What ``postqueue -j`` shows: every message that is still here."""
        return [json.loads(line) for line in self.box.run("postqueue", "-c", self.directory, "-j").stdout.splitlines()]

    def flush(self, queue_id: str) -> None:
        """Try one message again, now."""
        self.box.run("postqueue", "-c", self.directory, "-i", queue_id)

    def wait(self, queue_ids: Iterable[str], what: str = "removed", seconds: float = 50) -> None:
        """Wait until the log says ``what`` (a pattern) of every message in ``queue_ids``."""
        end = time.monotonic() + seconds
        waiting = set(queue_ids)
        while waiting:
            seen = re.findall(rf" ([0-9A-Za-z]+): (?:.*{what})", self.log())
            waiting -= set(seen)
            assert time.monotonic() < end, f"{sorted(waiting)[:3]} not {what} within {seconds} s:\n{self.log()[-3000:]}"
            time.sleep(0.05 if waiting else 0)

    def wait_empty(self, seconds: float = 20) -> None:
        """Wait until there is nothing in the queue."""
        end = time.monotonic() + seconds
        while queued := self.queue():
            assert time.monotonic() < end, f"{len(queued)} messages are left: {queued[:2]}"
            time.sleep(0.1)

    def start(self) -> None:
        self.box.run("postfix", "-c", self.directory, "start")

    def stop(self) -> None:
        self.box.run("postfix", "-c", self.directory, "stop")


def _queue_id(answer: str) -> str:
    found = re.search(r"queued as (\w+)", answer)
    assert found, answer
    return found[1]


def inject(box: Box, port: int, mails: Iterable[Mail]) -> list[str]:
    """Send messages to the SMTP server on ``port`` of ``box``; the last reply to each."""
    rows = [
        {"sender": m.sender, "rcpts": list(m.rcpts), "content": base64.b64encode(m.canonical).decode()} for m in mails
    ]
    text = "".join(json.dumps(r) + "\n" for r in rows).encode()
    done = box.run(PYTHON, "-I", str(HERE / "inject.py"), str(port), input=text)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Recorder:
    """The recorder of a box, started in it."""

    directory = "/var/mail/recorded"

    def __init__(self, box: Box):
        self.box = box
        box.run("install", "-d", self.directory)
        box.spawn(PYTHON, "-I", str(HERE / "recorder.py"), str(RECORDER), self.directory)
        box.wait_port(RECORDER)

    def all(self) -> list[Parcel]:
        """Everything recorded so far, in the order of arrival."""
        found = []
        for name in sorted(self.box.path(self.directory).glob("*.json"), key=lambda p: int(p.stem)):
            envelope = json.loads(name.read_text())
            found.append(Parcel(envelope["sender"], tuple(envelope["rcpts"]), name.with_suffix(".eml").read_bytes()))
        return found

    def wait(self, rcpt: str) -> list[Parcel]:
        """Wait until something has come for ``rcpt`` alone; all that has."""
        end = time.monotonic() + 20
        while not (found := [p for p in self.all() if p.rcpts == (rcpt,)]):
            assert time.monotonic() < end, f"nothing came for {rcpt}"
            time.sleep(0.05)
        return found

    def clear(self) -> None:
        """Forget what was recorded."""
        for file in self.box.path(self.directory).iterdir():
            file.unlink()


def main_cf(text: str, mark: str = "m") -> str:
    """The lines for another file that a contrib file carries as comments: "m" is main.cf with the pipe."""
    return "".join(line + "\n" for line in re.findall(rf"^#{mark} +(.*)$", text, re.M))


def postfix_box() -> Box:
    """A box with Postfix's accounts, directories and set-group-id commands, nothing started."""
    accounts = {"postfix": "/var/spool/postfix", "postdrop": "/var/spool/postfix", "sshd": "/run/sshd"}
    hosts = ["provider.example", "customer.example", "world.example"]
    box = Box("postfix", "strace", "ssh", "rsync", accounts=accounts, hosts=hosts)
    for name in ("postdrop", "postqueue"):
        box.run("chgrp", "postdrop", f"/usr/sbin/{name}")
        box.run("chmod", "2755", f"/usr/sbin/{name}")
    return box


def provider(box: Box) -> Postfix:
    """The provider, wired as the contrib file says; all other mail, bounces for the most part, goes to the recorder.

    Beside the contrib file's customer it knows every domain below ``site.example``: each is a route of its own name.
    """
    entry = (CONTRIB / "postfix-master.cf").read_text()
    settings = main_cf(entry)
    assert DOMAIN in settings
    settings = settings.replace("transport_maps = ", "transport_maps = regexp:/etc/postfix-provider/sites ")
    services = {
        "site": "bsmtp-batch",
        "dying": "dying",
        "soft": "soft",
        "debian": "stock-debian",
        "upstream": "stock-upstream",
    }
    sites = [f"/@.*\\.{name}\\.example$/ {service}:\n" for name, service in services.items()]
    box.write("/etc/postfix-provider/sites", "".join(sites))
    settings += f"default_transport = lmtp:127.0.0.1:{RECORDER}\n"
    return Postfix(box, "provider", 2525, settings, entry + soft(entry) + dying(box, entry) + stock(box))


def soft(entry: str) -> str:
    """The contributed entry again, with the option its comment speaks of."""
    found = re.search(r"^bsmtp-batch( +unix.*?\n)(.*?\n)(?=\S|\n)", entry, re.S | re.M)
    assert found
    return f"soft{found[1]}  -o soft_bounce=yes\n{found[2]}"


def dying(box: Box, entry: str) -> str:
    """The contributed entry again, as a service whose program is killed at its very end while the file DIE is there."""
    argv = re.search(r"^bsmtp-batch +unix.*?argv=(.*?)\n(?=\S|\n)", entry, re.S | re.M)
    assert argv
    die = "exec strace -o /dev/null -e trace=exit_group -e inject=exit_group:signal=KILL"
    box.write("/opt/perhaps", f'#!/bin/sh\ntest ! -e {DIE} || {die} "$@"\nexec "$@"\n', 0o755)
    return f"dying unix - n n - - pipe\n  flags=q null_sender= user=bsmtp-batch argv=/opt/perhaps {argv[1]}\n"


def stock(box: Box) -> str:
    """The `bsmtp` entries people have in their master.cf: Debian's from its package, and that of Postfix's sources."""
    shipped = box.path("/usr/share/postfix/master.cf.dist").read_text()
    debian = re.search(r"^bsmtp +(unix.*\n(?: .*\n)+)", shipped, re.M)
    assert debian and "/usr/lib/bsmtp/bsmtp -t$nexthop -f$sender $recipient" in debian[1]
    upstream = "unix - n n - - pipe\n  flags=Fq. user=bsmtp argv=/usr/local/sbin/bsmtp -f $sender $nexthop $recipient\n"
    return f"stock-debian {debian[1]}stock-upstream {upstream}"


def customer(box: Box) -> Postfix:
    """The customer: knows its users, keeps their mail, and hands the rest to the world."""
    settings = (
        f"virtual_mailbox_domains = {DOMAIN}\nvirtual_transport = lmtp:127.0.0.1:{RECORDER}\n"
        "virtual_mailbox_maps = regexp:{ {!/^nobody/ yes} }\n"
        f"default_transport = lmtp:127.0.0.1:{RECORDER}\nlmtp_line_length_limit = 0\n"
        "default_destination_recipient_limit = 1000\nsmtpd_recipient_limit = 2000\n"
        "smtpd_recipient_restrictions = check_recipient_access regexp:{ {/^later/ 450 4.2.1 come again} }\n"
    )
    running = Postfix(box, "customer", 2626, settings)
    box.run("cp", f"{running.directory}/main.cf", f"{running.directory}/master.cf", "/etc/postfix")  # for sendmail(1)
    return running


class Hub:
    """Everything the Postfix tests share: one box with the provider, the customer and the recorder running in it."""

    def __init__(self) -> None:
        self.box = postfix_box()
        self.recorder = Recorder(self.box)
        self.provider = provider(self.box)
        self.customer = customer(self.box)
        self._routes = 0

    def route(self, kind: str = "site") -> str:
        """A new route, in use by nobody else, and a domain whose mail the provider hands to it.

        ``kind`` says how: "site" by the contributed entry, "dying", "debian", "upstream" by the other services.
        """
        self._routes += 1
        name = f"r{self._routes}.{kind}.example"
        self.box.batch("route", "add", name)
        return name

    def batch(self, name: str, mails: Iterable[Mail]) -> str:
        """A batch with ``mails``, made by handing them to ``deliver`` directly; its path in the box.

        ``name`` is its route, in a spool where no other test has anything.
        """
        spool = f"/var/spool/made-{name}"
        self.box.run("install", "-d", "-o", OWNER, spool)
        self.box.batch("route", "add", name, spool=spool)
        for mail in mails:
            arguments = ["deliver", "-f", mail.sender, "--", name, *mail.rcpts]
            self.box.batch(*arguments, spool=spool, input=mail.content)
        self.box.batch("seal", spool=spool)
        (found,) = self.box.path(f"{spool}/out/{name}/ready").glob("*.bsmtp")
        return f"{spool}/out/{name}/ready/{found.name}"

    def waiting(self, route: str) -> list[str]:
        """The names of the fragments that wait in ``route``."""
        return sorted(p.name for p in self.box.path(f"{SPOOL}/out/{route}/new").iterdir())

    def close(self) -> None:
        self.customer.stop()
        self.provider.stop()
        self.box.close()
