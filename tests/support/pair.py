"""A hub behind a real sshd and a site that knows its address: what the tests of the ssh couriers start from."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

from support.fragments import fill, make_route, put, text
from support.sshd import Sshd

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.ledger.rows import BatchRow, Contact
from bsmtp_batch.seal import Caps, Sealed, seal_route
from bsmtp_batch.spool import names
from bsmtp_batch.spool.locks import Busy, waited_for
from bsmtp_batch.spool.store import Route, Spool

SITE, OTHER, HUB = "site.example", "other.example", "hub.example"
NEAR = [sys.executable, "-I", "-m", "bsmtp_batch"]


def seal(route: Route, *, node: str, per_batch: int = 10_000) -> list[Manifest]:
    """Seal what waits in ``route``; the manifests of its batches, by number.

    A contact that begins at this moment holds the sealer's lock while it looks for something unfinished: it is waited
    for.
    """
    while True:
        try:
            events = list(seal_route(route, node=node, caps=Caps(10**10, per_batch), reserve_size=0))
            break
        except Busy:
            with waited_for(route.at(names.SEAL_LOCK)):
                pass
    assert all(isinstance(e, Sealed) for e in events)
    found = Path(route.at("ready")).glob("*.bsmtp.json")
    return sorted((Manifest.from_bytes(p.read_bytes()) for p in found), key=lambda m: m.sequence)


def sealed(
    route: Route, batches: int, *, node: str, first: int = 1, sizes: dict[int, int] | None = None
) -> list[bytes]:
    """``batches`` batches of one message each; ``sizes``: octets of text for the message of a number. The messages."""
    made = []
    for number in range(first, first + batches):
        if size := (sizes or {}).get(number):
            line = b"%08d of a larger message, which goes on like this for some time\r\n" % number
            made.append(text(f"a{number}@x.example", f"b{number}@y.example", body=line * (size // len(line) + 1)))
            put(route, made[-1], queue_id=f"Q{number}")
        else:
            made += fill(route, 1, first=number)
        seal(route, node=node)
    return made


class Pair:
    """``hub`` and ``site`` below ``directory``; the site's key may start ``receive site.example`` at the hub.

    ``port`` is where the site believes sshd to be.
    """

    def __init__(self, sshd: Sshd, directory: Path, scheme: str, *, port: int | None = None) -> None:
        self.sshd, self.directory, self.scheme = sshd, directory, scheme
        self.port = port or sshd.port
        directory.mkdir(parents=True, exist_ok=True)
        self.hub, self.site = Spool(str(directory / "hub")), Spool(str(directory / "site"))
        self.down = make_route(directory / "hub", SITE)
        """The route of mail for the site."""
        self.up = make_route(directory / "site", HUB)
        """The route of mail from the site."""
        self.known_hosts = sshd.known_hosts
        self.temporary = os.environ.get("TMPDIR", "/tmp")
        self.key = sshd.customer(f"{abs(hash(str(directory)))}", SITE, self.hub.path)

    @property
    def url(self) -> str:
        """The hub's address."""
        return self.sshd.url(self.scheme, self.port)

    def command(self, verb: str, *more: str, config: str = "", to: str = "") -> list[str]:
        """The command line of a contact from the site; ``config`` is the text of a settings file, ``to`` a peer in
        it."""
        options = ["--spool", self.site.path, "--identity", str(self.key), "--known-hosts", str(self.known_hosts)]
        text = '[node]\nname = "site"\nreserve = 20000\n' + config
        settings = self.directory / f"site.{zlib.crc32(text.encode())}.toml"
        if not settings.exists():
            settings.write_text(text)
        return [*NEAR, verb, *options, "--config", str(settings), *more, to or self.url]

    def environment(self) -> dict[str, str]:
        """What the site's processes see."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.sshd.account_home),
            "BSMTP_BATCH_PATH": self.sshd.path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": self.temporary,
        }

    def start(self, verb: str, *more: str, **options: Any) -> subprocess.Popen[str]:
        """Start a contact from the site."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = self.command(verb, *more, config=options.pop("config", ""), to=options.pop("to", ""))
        return subprocess.Popen(
            options.pop("before", []) + command, env=self.environment(), text=True, **pipes, **options
        )

    def run(self, verb: str, *more: str, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """A contact from the site, to its end; ``code`` is the exit code it must have (None: any)."""
        seconds = options.pop("seconds", 50)
        process = self.start(verb, *more, **options)
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        assert code is None or done.returncode == code, f"{verb} ended with {done.returncode}:\n{out}{err}"
        return done


def contacts(spool: Spool) -> list[Contact]:
    """The contacts in the ledger of ``spool``, in order; none where there is no ledger."""
    if not os.path.exists(spool.ledger):
        return []
    with closing(sqlite3.connect(spool.ledger)) as found:
        columns = "peer, direction, started, ended, batches, octets, result"
        return [Contact(*row) for row in found.execute(f"SELECT {columns} FROM contact ORDER BY id")]


def rows(spool: Spool, direction: str) -> dict[str, BatchRow]:
    """What the ledger of ``spool`` knows of batches, by name."""
    with Ledger(spool.ledger, read_only=True) as ledger:
        return {row.name: row for row in ledger.batches(direction=direction)}
