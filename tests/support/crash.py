"""Stop a stage at its n-th durable step, in one process: what is on disk then is what a kill there would leave."""

from __future__ import annotations

import errno
import os
import posix
from typing import Any

from bsmtp_batch.spool import durable

# Syncing is counted and not done: what a power cut would leave is a question for other tests, and a slow one.
STEPS = ("open", "write", "fsync", "rename", "link", "unlink")


class Killed(BaseException):
    """The process is gone; nothing it would have done in an ``except`` or ``finally`` happens either."""


class Faulty:
    """Stands in for ``posix`` inside :mod:`bsmtp_batch.spool.durable`.

    Before call ``at`` (from 1) it raises ``error``, or, without one, :class:`Killed` then and at every later call.
    Closing
    goes on, since a dead process holds no locks.
    """

    def __init__(self, at: int = 0, *, error: int = 0, only: tuple[str, ...] = STEPS) -> None:
        self.at = at
        self.error = error
        self.only = only
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(posix, name)
        if name not in self.only:
            return real

        def counted(*args: Any) -> Any:
            self.calls += 1
            if self.at and self.calls >= self.at:
                if not self.error:
                    raise Killed
                if self.calls == self.at:
                    raise OSError(self.error, os.strerror(self.error))
            return None if name == "fsync" else real(*args)

        return counted


def stopped_at(monkeypatch: Any, step: int, run: Any, *, error: int = 0, only: tuple[str, ...] = STEPS) -> bool:
    """Call ``run()`` and stop it at ``step``; False when it ended before that."""
    faulty = Faulty(step, error=error, only=only)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "posix", faulty)
        try:
            run()
        except Killed:
            pass
    return faulty.calls >= step


FULL = errno.ENOSPC
EIO = errno.EIO
