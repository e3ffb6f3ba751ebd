"""Opening the SQLite database of a node: its mode, its journal, its version.

The write-ahead log with ``synchronous=FULL`` costs one fsync per commit, and a commit that returned is durable.
"""

from __future__ import annotations

import os
import sqlite3

from bsmtp_batch.errors import Setting
from bsmtp_batch.ledger import schema

BUSY = 30.0
"""Seconds one process waits for another's transaction; each of ours takes one fsync."""


def open_database(path: str, *, read_only: bool) -> sqlite3.Connection:
    """The database in file ``path``, in autocommit mode and of the current version.

    ``read_only`` changes nothing on disk and gives an empty database where there is no file. Raises ``sqlite3.Error``
    or ``OSError`` when it cannot be used, :class:`~bsmtp_batch.errors.Setting` when a newer program made it.
    """
    if read_only and not os.path.exists(path):
        return _fresh(None)
    if not read_only:
        _make(path)
    database = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
    try:
        version = schema.version_of(database)
        if version > schema.VERSION:
            raise Setting(
                f"the ledger {path} was made by a newer version of bsmtp-batch",
                safe="Nothing was changed",
                next="upgrade bsmtp-batch on this machine",
            )
        if read_only:
            return _reader(database, version)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        schema.migrate(database)
        return database
    except BaseException:
        database.close()
        raise


def _make(path: str) -> None:
    """Make the file with our own mode: SQLite would use the umask, and gives its log files the mode of the ledger."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _reader(database: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """``database`` for questions only; an older one is brought up to date in memory, so that no file changes."""
    if version == schema.VERSION:
        database.execute("PRAGMA query_only = ON")
        return database
    return in_memory(database)


def in_memory(database: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of ``database``, which is closed, that can be changed without changing a file."""
    copy = _fresh(database)
    database.close()
    return copy


def _fresh(source: sqlite3.Connection | None) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    if source is not None:
        source.backup(copy)
    schema.migrate(copy)
    return copy
