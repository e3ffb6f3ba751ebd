"""The push that is killed half way: the real stage in a process of its own, which stops and waits for its end.

``python -m bsmtp_batch.demo.cut SPOOL MEDIUM ROUTE OCTETS`` hands the batches of ROUTE over to the directory MEDIUM.
When OCTETS of them have been written there it says on standard output how many it were, and does nothing more: whoever
started it kills it, so that the demonstration is cut at the same place every time and on every machine.
"""

from __future__ import annotations

import signal
import sys

from bsmtp_batch.courier import contact
from bsmtp_batch.courier.bounds import Unwatched
from bsmtp_batch.courier.directory import Directory
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.spool import names
from bsmtp_batch.spool.store import Spool


class Brake(Unwatched):
    """Counts the octets that went by; stops for good when ``limit`` of them have."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.gone = 0

    def moved(self, octets: int) -> None:
        """Count, and perhaps stop."""
        self.gone += octets
        if self.gone >= self.limit:
            print(self.gone, flush=True)
            signal.pause()


def main(argv: list[str]) -> None:
    """Push until the brake stops it; ends only when the batch was smaller than the limit."""
    spool, medium, route, octets = argv
    with Ledger(f"{spool}/{names.LEDGER}") as ledger:
        for _ in contact.push([Spool(spool).route(route)], Directory(medium), ledger, watch=Brake(int(octets))):
            pass


if __name__ == "__main__":
    main(sys.argv[1:])
