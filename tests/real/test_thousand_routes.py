"""Ten thousand messages to a thousand customers, through Postfix and LMTP: none is lost, none is there twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.box import SPOOL
from support.flood import Flood, Letter, assert_all_there, letters
from support.postfix_lmtp import PORT, LmtpHub
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lmtp"), pytest.mark.timeout(400)]

MESSAGES, ROUTES = 10_000, 1_000
DOMAINS = [f"c{n}.site.example" for n in range(ROUTES)]
KILLS = {1_500: signal.SIGKILL, 3_500: signal.SIGTERM, 5_500: signal.SIGKILL, 7_500: signal.SIGKILL}
"""After how many deliveries the daemon is ended, and how."""
LATE = ["strace", "-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync"]
LATE += ["-e", "inject=fsync:delay_exit=8000"]
"""Under this there is time between a commit and the answers: most kills come there, where mail is ours and the mail
server does not know it."""


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LmtpHub]:
    for started in running(lambda: LmtpHub(tmp_path_factory.mktemp("thousand"))):
        started.box.batch("route", "add", *DOMAINS)
        yield started


class Deliveries:
    """Counts the deliveries in Postfix's log as it grows."""

    def __init__(self, hub: LmtpHub):
        self._hub = hub
        self._file = hub.box.path(hub.provider.logfile).open("rb")
        self.sent = self.broken_off = 0

    def look(self) -> int:
        text = self._file.read()
        assert b"status=bounced" not in text
        self.sent += text.count(b", status=sent")
        self.broken_off += text.count(b"(lost connection with ")
        return self.sent

    def wait(self, count: int) -> None:
        """Wait for so many. Whenever it comes to a stand Postfix is asked to try what it put off: while the daemon is
        away it gives the whole destination up for minutes, and its queue manager may be too busy to hear us once."""
        end, moved = time.monotonic() + 200, time.monotonic()
        while (before := self.sent) < count:
            assert time.monotonic() < end, f"{before} deliveries and not {count}: {self._hub.provider.queue()[:2]}"
            if self.look() > before:
                moved = time.monotonic()
            elif time.monotonic() - moved > 0.5:
                moved = time.monotonic()
                self._hub.box.run("postqueue", "-c", self._hub.provider.directory, "-f", code=None)
            time.sleep(0.02)

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("kills", [{}, KILLS], ids=["undisturbed", "killed"])
def test_nothing_is_lost_and_nothing_is_there_twice(hub: LmtpHub, kills: dict[int, signal.Signals]) -> None:
    sent = letters(MESSAGES, DOMAINS)
    if kills:
        hub.intake.end()
        hub.intake.start(*LATE)
    with closing(Deliveries(hub)) as seen:
        carried(hub, seen, sent, kills)
    assert bool(seen.broken_off) == bool(kills), "what was under way when the daemon was killed had to be tried again"
    assert hub.recorder.all() == [], "nobody was told anything"
    hub.intake.end()
    found = waiting(hub)
    assert len(found) == ROUTES
    assert_all_there(sent, found)


def carried(hub: LmtpHub, seen: Deliveries, sent: list[Letter], kills: dict[int, signal.Signals]) -> None:
    """Send all of it and wait until all of it is delivered, while the daemon is ended now and then."""
    with Flood(hub.box, PORT, sent):
        for count, how in kills.items():
            seen.wait(count)
            hub.intake.end(how)
            hub.intake.start(*LATE)
    count = sum(len(letter.rcpts) for letter in sent)
    seen.wait(count)
    hub.provider.wait_empty()
    assert seen.look() == count


def waiting(hub: LmtpHub) -> dict[str, bytes]:
    """What waits in each route, as one batch."""
    found = {}
    for route in hub.box.path(f"{SPOOL}/out").iterdir():
        fragments = [fragment.read_bytes() for fragment in (route / "new").iterdir()]
        found[route.name] = b"EHLO hub.example\r\n" + b"".join(fragments) + b"QUIT\r\n"
    return found
