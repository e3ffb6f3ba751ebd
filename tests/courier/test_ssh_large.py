"""A batch of 1 GB over rsync, cut at half: the second run sends what is missing, and nobody's memory grows with it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pair import SITE, Pair, seal
from support.relay import Relay
from support.sshd import RECEIVE, Sshd, children, words_of

from bsmtp_batch.spool import names
from bsmtp_batch.spool.inbox import digest_of
from bsmtp_batch.spool.store import Route

pytestmark = pytest.mark.real

SIZE = 1_000_000_000
LIMIT = 64 * 1024
"""KiB that any process of ours, or rsync or ssh, may take."""
MEASURE = [sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "support" / "measure.py")]


def hand_in(route: Route) -> None:
    """One message of :data:`SIZE` octets, written as it is made: no two of its lines are the same."""
    path = Path(route.at(names.NEW, "large"))
    digest = hashlib.sha256()
    noise = os.urandom(48_000).hex()
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write(b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\nSubject: large\r\n\r\n")
        lines = [noise[at : at + 900] + "\r\n" for at in range(0, len(noise), 900)]
        block = 0
        while file.tell() < SIZE:
            write("".join(f"{block:08d}{line}" for line in lines).encode())
            block += 1
        write(b".\r\n")
    path.rename(route.at(names.NEW, names.fragment_name(names.key_of(b"L", digest.digest()), digest.hexdigest())))


@pytest.fixture
def pair(sshd: Sshd, tmp_path: Path) -> Iterator[Pair]:
    """What is made here is not left for pytest to keep."""
    yield Pair(sshd, tmp_path / "pair", "rsync")
    shutil.rmtree(tmp_path / "pair")


def peaks(pid: int) -> dict[str, int]:
    """The largest resident set so far, in KiB, of each program below ``pid``."""
    found: dict[str, int] = {}
    for child in children(pid):
        words = words_of(child)
        name = Path((words or [""])[0]).name
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        peak = int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in status else 0
        found[name] = max(found.get(name, 0), peak)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_half_a_large_batch_need_not_be_sent_again(sshd: Sshd, pair: Pair, tmp_path: Path, verb: str) -> None:
    route = pair.up if verb == "push" else pair.down
    hand_in(route)
    (manifest,) = seal(route, node="site" if verb == "push" else "hub")
    assert manifest.bytes > SIZE
    relay = Relay(sshd.port)
    pair.port = relay.port
    near, far = tmp_path / "near", tmp_path / "far"
    receive = ["env", f"BSMTP_BATCH_PATH={sshd.path}", *RECEIVE, SITE, "--spool", pair.hub.path]
    pair.key = sshd.authorize(f"large.{verb}", *MEASURE, far, *receive)
    seen: dict[str, int] = {}

    relay.cut(manifest.bytes // 2)
    pair.run(verb, before=[*MEASURE, str(near)], code=75, seconds=250)
    assert relay.fired.is_set()
    first = relay.total
    relay.cut(manifest.bytes * 2 // 5, "nothing", action=lambda: seen.update(peaks(os.getpid()) | peaks(sshd.pid)))
    pair.run(verb, before=[*MEASURE, str(near)], seconds=250)
    second = relay.total - first
    relay.close()

    inbox = f"{pair.hub.path}/in/{SITE}" if verb == "push" else f"{pair.site.path}/in/hub"
    assert digest_of(f"{inbox}/new/{manifest.name}") == (manifest.bytes, manifest.sha256)
    assert os.listdir(route.at("ready")) == []
    taken = [int(line.split()[0]) for log in (near, far) for line in log.read_text().splitlines()]
    print(f"{verb}: {manifest.bytes} octets; first run {first}, second {second} ({second / manifest.bytes:.1%})")
    print(f"peak of a process {max(taken)} KiB; by program, in KiB: {seen}")
    assert second <= 0.6 * manifest.bytes
    assert len(taken) >= 4
    assert max(taken) < LIMIT
