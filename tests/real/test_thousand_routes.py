"""Ten thousand messages to a thousand customers, through Postfix and LMTP: none is lost, none is there twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from support.box import SPOOL
from support.debian import Unavailable, need
from support.flood import Flood, assert_all_there, letters
from support.postfix_lmtp import PORT, LmtpHub

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lmtp"), pytest.mark.timeout(400)]

MESSAGES, ROUTES = 10_000, 1_000
DOMAINS = [f"c{n}.site.example" for n in range(ROUTES)]
KILLS = {1_500: signal.SIGKILL, 3_500: signal.SIGTERM, 5_500: signal.SIGKILL, 7_500: signal.SIGKILL}
"""After how many deliveries the daemon is ended, and how."""
LATE = ["strace", "-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync"]
LATE += ["-e", "inject=fsync:delay_exit=20000"]
"""Under this there is time between a commit and the answers: most kills come there, where mail is ours and the mail
server does not know it."""


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LmtpHub]:
    try:
        running = LmtpHub(tmp_path_factory.mktemp("thousand"))
    except Unavailable as missing:
        need(str(missing))
    running.box.batch("route", "add", *DOMAINS)
    yield running
    running.close()


class Deliveries:
    """Counts the deliveries in Postfix's log as it grows."""

    def __init__(self, hub: LmtpHub):
        self._file = hub.box.path(hub.provider.logfile).open("rb")
        self.sent = self.broken_off = 0

    def look(self) -> int:
        text = self._file.read()
        assert b"status=bounced" not in text
        self.sent += text.count(b", status=sent")
        self.broken_off += text.count(b"(lost connection with ")
        return self.sent

    def wait(self, count: int) -> None:
        end = time.monotonic() + 120
        while self.look() < count:
            assert time.monotonic() < end, f"{self.sent} deliveries and not {count}"
            time.sleep(0.02)

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("kills", [{}, KILLS], ids=["undisturbed", "killed"])
def test_nothing_is_lost_and_nothing_is_there_twice(hub: LmtpHub, kills: dict[int, signal.Signals]) -> None:
    sent = letters(MESSAGES, DOMAINS)
    seen = Deliveries(hub)
    if kills:
        hub.intake.end()
        hub.intake.start(*LATE)
    with Flood(hub.box, PORT, sent):
        for count, how in kills.items():
            seen.wait(count)
            hub.intake.end(how)
            hub.intake.start(*LATE)
            hub.box.run("postqueue", "-c", hub.provider.directory, "-f")
    drained(hub, seen)
    assert seen.sent == sum(len(letter.rcpts) for letter in sent)
    seen.close()
    assert bool(seen.broken_off) == bool(kills), "what was under way when the daemon was killed had to be tried again"
    assert hub.recorder.all() == [], "nobody was told anything"
    assert_all_there(sent, sealed(hub))


def drained(hub: LmtpHub, seen: Deliveries) -> None:
    """Wait until Postfix has nothing left, with all that was put off tried again at once."""
    end = time.monotonic() + 200
    while queued := hub.provider.queue():
        assert time.monotonic() < end, f"{len(queued)} messages are left: {queued[:2]}"
        if {m["queue_name"] for m in queued} == {"deferred"}:
            hub.box.run("postqueue", "-c", hub.provider.directory, "-f")
        seen.look()
        time.sleep(0.5)
    seen.look()


def sealed(hub: LmtpHub) -> dict[str, bytes]:
    """What is in the batches, after everything that waits has been sealed: for each route."""
    hub.intake.end()
    hub.box.batch("seal")
    found = {}
    for route in hub.box.path(f"{SPOOL}/out").iterdir():
        (batch,) = (route / "ready").glob("*.bsmtp")
        found[route.name] = batch.read_bytes()
    assert len(found) == ROUTES
    return found
