"""One sync for everything a drain has written, where the system tells the truth about it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

TRUTHFUL = (5, 8)
"""The first Linux whose syncfs(2) says when something could not be written."""


class NotSynced(Exception):
    """The one sync failed: what was written since it was prepared is not to be believed."""


class Syncer:
    """Makes what is written from now on durable, all at once; or asks, by ``one_by_one``, that each file be synced.

    Ask before anything is written: only errors met after that are sure to be told. Raises ``OSError``.
    """

    def __init__(self, spool: str, *, one_by_one: bool = False) -> None:
        self._syncfs = None if one_by_one else _syncfs()
        self.one_by_one = self._syncfs is None
        self._fd = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self) -> None:
        """Everything written is durable when this returns. Raises :class:`NotSynced`."""
        if self._syncfs is not None:
            error = self._syncfs(self._fd)
            if error:
                raise NotSynced(f"the file system could not be synced: {os.strerror(error)}")

    def close(self) -> None:
        """Let go of the file system."""
        os.close(self._fd)


@cache
def _syncfs() -> Callable[[int], int] | None:
    """syncfs(2), which returns an error number here; None where there is none that can be relied on."""
    if not sys.platform.startswith("linux") or _version() < TRUTHFUL:
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None

    def syncfs(fd: int) -> int:
        return ctypes.get_errno() if call(fd) else 0

    return syncfs


def _version() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())
