"""Room for the ledger on a full disk: an import frees space in the end, so it may use the reserve to get there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bsmtp_batch.spool import reserve

NEEDED = 4 << 20
"""Octets an import wants for the ledger and for what it sets aside."""


@contextmanager
def made(spool: str, *, dry_run: bool) -> Iterator[None]:
    """Give up the reserve of ``spool`` where less than :data:`NEEDED` is free, and make it again on leaving."""
    found = os.statvfs(spool) if not dry_run else None
    given = reserve.give_up(spool) if found and found.f_bavail * found.f_frsize < NEEDED else 0
    try:
        yield
    finally:
        if given:
            try:
                reserve.make(spool, given)
            except OSError:
                pass  # still full: the next stage that finds room makes it, and `status` shows that it is missing
