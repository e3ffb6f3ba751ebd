"""A full disk on either side, before or in the middle of a batch: told, left for later, and gone on with."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.batches import transactions
from support.pair import SITE, Pair, contacts, sealed
from support.relay import NOTHING, Relay
from support.sshd import Sshd

from bsmtp_batch.spool.store import Route, Spool

pytestmark = pytest.mark.real

LARGE = 8_000_000


class Disk:
    """A disk of 24 MB with the spool of one side on it."""

    def __init__(self, sshd: Sshd) -> None:
        self.name, self.seen, self.enter = sshd.small_disk()
        self._filler = self.seen / "filler"

    def fill(self, *, but: int = 0) -> None:
        """Leave room for ``but`` octets and no more."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as error:
                assert error.errno == errno.ENOSPC
            file.truncate(max(0, file.tell() - but))

    def clear(self) -> None:
        """There is room again."""
        self._filler.unlink()


@pytest.mark.parametrize("when", ["before", "in the middle"])
@pytest.mark.parametrize("side", ["near", "far"])
@pytest.mark.parametrize("scheme", ["scp", "rsync"])
def test_a_full_disk_loses_nothing_and_the_next_run_goes_on(
    sshd: Sshd, tmp_path: Path, scheme: str, side: str, when: str
) -> None:
    disk = Disk(sshd)
    relay = Relay(sshd.port)
    pair = Pair(sshd, tmp_path / "pair", scheme, port=relay.port)
    made = sealed(pair.up if side == "far" else pair.down, 2, node="x", sizes={2: LARGE})
    verb, options = "push", {}
    if side == "far":
        pair.key = sshd.customer(f"full.{tmp_path.name}", SITE, disk.name / "spool")
        route, inbox = pair.up, f"{disk.seen}/spool/in/{SITE}"
    else:
        verb, options = "pull", {"before": disk.enter}
        pair.site = Spool(f"{disk.name}/spool")
        route, inbox = pair.down, f"{disk.seen}/spool/in/x"
    (disk.seen / "spool").mkdir()

    if when == "before":
        disk.fill(but=LARGE // 2)
    else:
        relay.cut(LARGE // 2, NOTHING, action=disk.fill)
    done = pair.run(verb, code=75, **options)

    said = done.stdout + done.stderr
    assert "Next:" in said and "Traceback" not in said
    assert ("no room" if when == "before" else "No space left on device") in said, said
    assert not [n for n in os.listdir(f"{inbox}/new") if ".00000002." in n]
    assert len(transactions(route, "ready")) + len(transactions(route, "kept")) == 2
    assert made[1] in transactions(route, "ready")

    disk.clear()
    for _ in range(3):
        if pair.run(verb, code=None, **options).returncode == 0:
            break
    into = Route(str(tmp_path), "unused")
    into.path = inbox
    assert sorted(transactions(into, "new")) == sorted(made)
    assert sorted(transactions(route, "kept")) == sorted(made)
    assert not os.listdir(f"{inbox}/bad")
    if side == "far":
        assert contacts(pair.site)[0].result != "ok"
    relay.close()
