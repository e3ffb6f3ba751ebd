"""Who may do what at the same time: the locks of a route and of an origin, as context managers.

``seal.lock`` one sealer; ``contact.lock`` one contact that hands over and releases; ``index.lock`` shared by hand-ins,
exclusive while members are swapped for their markers; ``intake.lock`` one contact that brings batches of an origin.
Whoever needs more than one takes them in this order. Only ``index.lock`` is waited for: it is held for milliseconds.
The kernel drops a lock with its holder, so nothing is left behind by a crash and lock files are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bsmtp_batch.errors import Later
from bsmtp_batch.spool import durable


class Busy(Later):
    """Another process holds the lock: it is doing the very work that was asked for, or work that excludes it."""


@contextmanager
def held(path: str, *, who: str) -> Iterator[None]:
    """Hold the lock file ``path``. Raises :class:`Busy` at once when ``who``, another process, has it."""
    try:
        fd = durable.lock(path, block=False)
    except BlockingIOError:
        raise Busy(
            f"{who} is at work",
            safe="Nothing was changed",
            next="run the same command again when it has finished",
        ) from None
    try:
        yield
    finally:
        durable.unlock(fd)


@contextmanager
def waited_for(path: str) -> Iterator[None]:
    """Hold the lock file ``path`` alone, however long the others take to leave it."""
    fd = durable.lock(path)
    try:
        yield
    finally:
        durable.unlock(fd)
