"""A fragment while it is made, and the moment it becomes mail we answer for.

A fragment is one complete transaction: MAIL, RCPT lines, DATA, content, dot. It begins in memory and moves into a file
in ``tmp/`` when it grows beyond :data:`IN_MEMORY`, or at the latest when it is complete.
"""

from __future__ import annotations

import posix

from bsmtp_batch.spool.durable import (
    create,
    lock,
    remove,
    rename_durably,
    sync_close,
    unique,
    unlock,
    write_all,
)
from bsmtp_batch.spool.names import INDEX_LOCK, NEW, SEALED, TMP, fragment_name, key_of, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable

IN_MEMORY = 1024 * 1024
"""Octets of a fragment that are held in memory at most."""


class Fragment:
    """A fragment for the route whose directory is ``home``: :meth:`publish` it, or :meth:`discard` it. ``digest`` is a
    fresh sha256 of a faster library, where one is loaded anyway; ``hold`` the octets that may be held in memory."""

    def __init__(self, home: str, digest: hashlib._Hash | None = None, hold: int = IN_MEMORY) -> None:
        self._home = home
        self._digest = digest or sha256()
        self._hold = hold
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._path = ""
        self._fd = -1

    def add(self, data: bytes) -> None:
        """Append ``data``."""
        self._digest.update(data)
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size > self._hold or self._fd >= 0:
            self._write()

    def in_memory(self) -> int:
        """Octets for which there is no room on disk yet."""
        return self._waiting_size

    def publish(self, queue_id: bytes, undisturbed: Callable[[], None]) -> str:
        """Make the fragment durable in ``new/``, and return its KEY. When this returns the mail is ours, for good.

        Nothing is stored a second time when the same hand-in (``queue_id``) was stored and sealed before.
        ``undisturbed`` is called when only what makes the mail ours is left to do.
        """
        self._write()
        fd, self._fd = self._fd, -1
        sync_close(fd)
        digest = self._digest.digest()
        key = key_of(queue_id, digest)
        # Shared: hand-ins do not wait for each other. The sealer holds it exclusively while it takes members out of
        # new/ and remembers their KEYs, so that a retry cannot slip in between and travel in two batches.
        held = lock(f"{self._home}/{INDEX_LOCK}", shared=True)
        try:
            undisturbed()
            if _exists(f"{self._home}/{SEALED}/{key}"):
                self.discard()
            else:
                # A file that is there already under this name is not trusted but replaced: whoever wrote it may have
                # died over a failed fsync. Once the new name is there it stays, also when its sync fails, because that
                # earlier writer may have said yes for it.
                new = f"{self._home}/{NEW}/{fragment_name(key, digest.hex())}"
                rename_durably(self._path, new, sync_source=False)
        finally:
            unlock(held)
        return key

    def discard(self) -> None:
        """Leave nothing behind in ``tmp/``."""
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1
        if self._path:
            remove(self._path)
            self._path = ""

    def _write(self) -> None:
        if self._fd < 0:
            path = f"{self._home}/{TMP}/{unique()}"
            self._fd = create(path)
            self._path = path
        write_all(self._fd, b"".join(self._waiting))
        self._waiting.clear()
        self._waiting_size = 0


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except FileNotFoundError:
        return False
    return True
