"""The tables of the ledger, and how an older ledger becomes a current one.

Every change to a table is one more entry at the end of :data:`MIGRATIONS`; what stands there is never edited, since
ledgers in the field were made by it.
"""

from __future__ import annotations

import sqlite3
import time

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE contact (
        id INTEGER PRIMARY KEY,
        peer TEXT NOT NULL,
        direction TEXT NOT NULL,
        started REAL NOT NULL,
        ended REAL NOT NULL,
        batches INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        result TEXT NOT NULL
    ) STRICT;
    CREATE INDEX contact_peer ON contact (peer, direction, ended);
    CREATE TABLE batch (
        direction TEXT NOT NULL,
        party TEXT NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        seen REAL NOT NULL,
        changed REAL NOT NULL,
        PRIMARY KEY (direction, party, name, sha256)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX batch_sha256 ON batch (sha256);
    CREATE TABLE message (
        batch TEXT NOT NULL,
        message INTEGER NOT NULL,
        sender BLOB NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        changed REAL NOT NULL,
        PRIMARY KEY (batch, message)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX message_in_doubt ON message (batch, message) WHERE state = 'finishing';
    CREATE TABLE recipient (
        batch TEXT NOT NULL,
        message INTEGER NOT NULL,
        recipient INTEGER NOT NULL,
        address BLOB NOT NULL,
        outcome TEXT NOT NULL,
        reply TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        dsn TEXT NOT NULL,
        changed REAL NOT NULL,
        PRIMARY KEY (batch, message, recipient)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX recipient_set_aside ON recipient (changed) WHERE outcome = 'quarantined';
    """,
    "ALTER TABLE contact ADD COLUMN code INTEGER NOT NULL DEFAULT 0",
)
"""One script per version: the first makes version 1."""

VERSION = len(MIGRATIONS)


def version_of(database: sqlite3.Connection) -> int:
    """The version of the tables in ``database``; 0 for an empty one."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def migrate(database: sqlite3.Connection) -> None:
    """Bring ``database`` to :data:`VERSION`, all or nothing, also when two processes open a new ledger at once."""
    if version_of(database) == VERSION:
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for number in range(version_of(database) + 1, VERSION + 1):
            for statement in MIGRATIONS[number - 1].split(";"):
                database.execute(statement)
            database.execute(
                "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY, applied REAL NOT NULL) STRICT"
            )
            database.execute("INSERT INTO migration VALUES (?, ?)", (number, time.time()))
            database.execute(f"PRAGMA user_version = {number}")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
