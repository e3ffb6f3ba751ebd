"""A customer who speaks the protocols of ``ssh``, ``rsync`` and ``scp`` himself, as none of their programs would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fragments import make_route
from support.pair import SITE, contacts, sealed
from support.sshd import Sshd

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.courier.bounds import Over
from bsmtp_batch.courier.overssh import _unpack as unpack
from bsmtp_batch.edge import road
from bsmtp_batch.handover.parcel import parcel
from bsmtp_batch.spool.store import Spool

pytestmark = pytest.mark.real

CHANGER = """\
import json, os, subprocess, sys
ssh, old, new = json.loads(os.environ["CHANGER"])
child = subprocess.Popen(ssh + sys.argv[2:], stdin=subprocess.PIPE)
while data := os.read(0, 65536):
    child.stdin.write(data.replace(old.encode(), new.encode()))
    child.stdin.flush()
child.stdin.close()
sys.exit(child.wait())
"""
"""Between a real rsync and its ssh: puts words into its mouth."""


class Customer:
    """``site.example``, whose one batch waits at the hub."""

    def __init__(self, sshd: Sshd, directory: Path) -> None:
        self.sshd, self.directory = sshd, directory
        self.hub = Spool(str(directory / "hub"))
        route = make_route(directory / "hub", SITE)
        sealed(route, 1, node="hub")
        (manifest,) = Path(route.at("ready")).glob("*.json")
        self.name = Manifest.from_bytes(manifest.read_bytes()).name
        self.batch = Path(route.at("ready", self.name)).read_bytes()
        self.key = sshd.customer(f"attack.{directory.name}", SITE, self.hub.path)

    @contextmanager
    def conversation(self, *lines: bytes) -> Iterator[None]:
        """A conversation that stays open after ``lines`` were answered, each with a line."""
        talk = self.sshd.talk(self.key, "receive")
        assert talk.stdin is not None and talk.stdout is not None
        try:
            assert talk.stdout.readline() == b"READY 1\n"
            for line in lines:
                talk.stdin.write(line)
                talk.stdin.flush()
                assert not talk.stdout.readline().startswith(b"NO ")
            yield
        finally:
            talk.stdin.close()
            talk.wait(20)
            talk.stdout.close()

    def rsync(self, into: Path, *, says: str, instead_of: str) -> subprocess.CompletedProcess[str]:
        """Fetch the batch with a real rsync in whose words ``instead_of`` became ``says``."""
        import json

        program = self.directory / "changer.py"
        program.write_text(CHANGER)
        environ = {
            "PATH": self.sshd.path,
            "CHANGER": json.dumps([self.sshd.ssh_command(self.key), instead_of, says]),
        }
        options = [
            "--append-verify",
            "--timeout=5",
            f"--filter={instead_of}",
        ]  # how long the far side waits for us to go
        words = ["rsync", *options, "-e", f"{sys.executable} {program}", "--", f"hub:{self.name}", str(into)]
        return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=50, check=False)


def test_a_window_that_ends_while_a_batch_is_unpacked_does_not_cost_what_has_come(tmp_path: Path) -> None:
    route = make_route(tmp_path / "hub", SITE)
    sealed(route, 1, node="hub")
    (manifest,) = (Manifest.from_bytes(p.read_bytes()) for p in Path(route.at("ready")).glob("*.json"))
    batch, part, into = route.at("ready", manifest.name), str(tmp_path / "part.gz"), str(tmp_path / "part")
    road.compress(batch, part, "gzip", lambda _: None)
    before = Path(part).read_bytes()

    def over(_: int) -> None:
        raise Over("the window is over", safe="x", next="x")

    with pytest.raises(Over):
        unpack(part, into, "gzip", parcel(manifest.name, manifest.to_bytes()), over)
    assert Path(part).read_bytes() == before
    assert not os.path.exists(into)

    unpack(part, into, "gzip", parcel(manifest.name, manifest.to_bytes()), lambda _: None)
    assert Path(into).read_bytes() == Path(batch).read_bytes()
    assert not os.path.exists(part)


@pytest.fixture
def customer(sshd: Sshd, tmp_path: Path) -> Customer:
    """A customer of a hub of the test's own."""
    return Customer(sshd, tmp_path)


@pytest.mark.parametrize("there", [True, False])
def test_rules_for_rsync_open_no_file_of_the_hub_and_tell_of_none(customer: Customer, there: bool) -> None:
    secret = customer.directory / "file"
    if there:
        secret.write_text("the secret of somebody else\n")
    instead = "- " + "x" * len(str(secret))
    into = customer.directory / "out"

    with customer.conversation(b"pack %s plain\n" % customer.name.encode()):
        done = customer.rsync(into, says=f". {secret}", instead_of=instead)

    assert done.returncode != 0
    assert not into.exists()
    assert str(secret) not in done.stderr
    assert "rule" not in done.stderr.replace("it sends rules of its own", "")
    (noted,) = [c.result for c in contacts(customer.hub) if c.result.startswith("refused")]
    assert "it sends rules of its own" in noted


def test_an_rsync_that_sends_no_rules_is_served(customer: Customer) -> None:
    into = customer.directory / "out"

    with customer.conversation(b"pack %s plain\n" % customer.name.encode()):
        words = [
            "rsync",
            "--append-verify",
            "--timeout=20",
            "-e",
            " ".join(customer.sshd.ssh_command(customer.key)[:-2]),
        ]
        host = customer.sshd.ssh_command(customer.key)[-2]
        done = subprocess.run(
            [*words, "--", f"{host}:{customer.name}", str(into)],
            env={"PATH": customer.sshd.path, **({"HOME": os.environ["HOME"]} if "HOME" in os.environ else {})},
            capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert into.read_bytes() == customer.batch
