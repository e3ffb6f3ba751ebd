"""Room for the ledger on a full disk: an import frees space in the end, so it may use the reserve to get there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from bsmtp_batch.spool import reserve


def made(spool: str, *, dry_run: bool) -> AbstractContextManager[None]:
    """Give up the reserve of ``spool`` where the disk is full, and make it again on leaving."""
    return nullcontext() if dry_run else reserve.lent(spool)
