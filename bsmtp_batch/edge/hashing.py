"""A sum that is taken in a thread of its own, beside whoever reads: with two processors it costs no time."""

from __future__ import annotations

import hashlib
import threading
from queue import SimpleQueue

ALONE = 4 << 20
"""Octets up to which a thread is not worth its start."""
BEHIND = 3
"""Pieces that may wait for it."""


class Sha256:
    """The sha256 of what it is given. To be closed; a context manager."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._seen = 0
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = threading.Semaphore(BEHIND)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sha256:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, piece: bytes) -> None:
        """Add ``piece``; waits while too many others do."""
        self._seen += len(piece)
        if self._seen <= ALONE:
            self._sum.update(piece)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="sha256", daemon=True)
            self._thread.start()
        self._room.acquire()
        self._pieces.put(piece)

    def hexdigest(self) -> str:
        """Of everything so far; nothing may be added behind it."""
        self.close()
        return self._sum.hexdigest()

    def close(self) -> None:
        """Wait for what was given."""
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._sum.update(piece)
            self._room.release()
