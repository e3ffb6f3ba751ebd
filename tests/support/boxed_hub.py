"""``bsmtp-batch serve`` in a box, for customers that run in the same one."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from pathlib import Path

from support.box import ENVIRONMENT, OWNER, PROGRAM, PYTHON, SPOOL, Box
from support.certificates import certificate
from support.corpus import DOMAIN, Mail

from bsmtp_batch.batch.writer import END, transaction
from bsmtp_batch.spool import names
from bsmtp_batch.wire.command import Mail as Sender
from bsmtp_batch.wire.command import Rcpt
from bsmtp_batch.wire.dots import stuff

CLEAR, SECURE = 3660, 3661
CONFIG = "/etc/bsmtp-batch/bsmtp-batch.toml"
SETTINGS = f"""\
[node]
name = "hub.example"
spool = "{SPOOL}"
secrets = "{SPOOL}/secrets"
[account.customer]
routes = ["{DOMAIN}"]
cram_md5 = true
[serve]
odmr = ["127.0.0.1:{CLEAR}"]
odmr_tls = ["127.0.0.1:{SECURE}"]
certificate = "/etc/bsmtp-batch/hub.pem"
key = "/etc/bsmtp-batch/hub.key"
"""


class BoxedHub:
    """The daemon with a route for :data:`DOMAIN`, and ``secret`` of the account that may collect it."""

    def __init__(self, box: Box, directory: Path) -> None:
        self.box = box
        for made, place in zip(certificate(directory, "hub.example"), ("pem", "key"), strict=True):
            self.box.write(f"/etc/bsmtp-batch/hub.{place}", Path(made).read_text(), 0o644)
        self.box.write(CONFIG, SETTINGS)
        self.box.batch("route", "add", DOMAIN)
        self.secret = self.box.batch("account", "add", "customer", "--cram-md5").stdout.decode().strip()
        self._told = directory / "log"
        with self._told.open("wb") as log:
            command = self.box.command(PROGRAM, "serve", "--config", CONFIG, user=OWNER)
            self._process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=log)
        for port in (CLEAR, SECURE):
            self.box.wait_port(port)
        self._round = 0

    def hand_in(self, mails: list[Mail]) -> None:
        """What an MTA would have handed in."""
        self._round += 1
        new = f"{SPOOL}/out/{DOMAIN}/new"
        for mail in mails:
            params = ((b"BODY", b"8BITMIME"), *(((b"SMTPUTF8", None),) if mail.utf8 else ()))
            sender = Sender(mail.sender.encode(), params)
            rcpts = [Rcpt(rcpt.encode()) for rcpt in mail.rcpts]
            data = transaction(sender, rcpts) + stuff(mail.canonical) + END
            digest = hashlib.sha256(data)
            key = names.key_of(b"Q%d.%d" % (self._round, mail.number), digest.digest())
            self.box.path(f"{new}/{names.fragment_name(key, digest.hexdigest())}").write_bytes(data)
        self.box.run("chown", "-R", OWNER, new)

    def contacts(self) -> int:
        """How many turned lines have ended."""
        return len(re.findall(r"(?m)^odmr customer: \d+ batches", self.log()))

    def wait_contacts(self, count: int) -> None:
        end = time.monotonic() + 40
        while self.contacts() < count:
            assert time.monotonic() < end, self.log()[-2000:]
            time.sleep(0.02)

    def in_doubt(self) -> set[tuple[str, int]]:
        """What the ledger names: batch and number."""
        program = (
            "import json; from bsmtp_batch.ledger import Ledger\n"
            f"print(json.dumps(Ledger('{SPOOL}/ledger.db').in_doubt()))"
        )
        done = self.box.run(PYTHON, "-c", program, user=OWNER)
        return {(batch, number) for batch, number in json.loads(done.stdout)}

    def log(self) -> str:
        return self._told.read_text(errors="replace")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
