"""Who may do what at the same time: the locks of a route and of an origin, as context managers.

``seal.lock`` one sealer; ``contact.lock`` one contact that hands over and releases; ``index.lock`` shared by hand-ins,
exclusive while members are swapped for their markers; ``intake.lock`` one contact that brings batches of an origin.
Whoever needs more than one takes them in this order. Only ``index.lock`` is waited for: it is held for milliseconds.
The kernel drops a lock with its holder, so nothing is left behind by a crash and lock files are never removed.
"""

from __future__ import annotations

import errno
import fcntl
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bsmtp_batch.errors import Later
from bsmtp_batch.spool import durable

LINGER = 10.0
"""Seconds that are given to a program whose work is done to close the file it wrote."""


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


def written_by_nobody(fd: int, *, path: str, seconds: float = LINGER) -> None:
    """Return when no process has the file ``path`` open for writing; ``fd`` is open for reading only.

    A program that moved octets for a contact which was killed may go on for a while, into the same part: what is
    checked now could be changed a moment later. Raises :class:`Busy` after ``seconds``. Where the system has no such
    question (it is that for a read lease, fcntl(2)) it is not asked.
    """
    until = time.monotonic() + seconds
    while _may_change(fd):
        if time.monotonic() >= until:
            raise Busy(
                f"a program of an earlier contact still writes to {path}",
                safe="Nothing was taken, so the far side keeps the batch",
                next="run the command again when that program has ended",
            )
        time.sleep(0.02)


def _may_change(fd: int) -> bool:
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # who opens it now has a signal sent to us: not one that kills
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
