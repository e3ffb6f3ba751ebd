"""Every question asked of the ledger, and everything written into it.

Each method is one transaction, durable when it returns (one fsync). Whatever SQLite reports (corrupt, read-only, full,
locked for too long) is raised as :class:`~bsmtp_batch.errors.Later`: mail stays where it is until the ledger can be
written again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from bsmtp_batch.errors import Later
from bsmtp_batch.ledger.opening import in_memory, open_database
from bsmtp_batch.ledger.results import DIRECTORY, Full, News, Results, everything, left_behind
from bsmtp_batch.ledger.rows import (
    DONE,
    DSN_DUE,
    FINISHING,
    PENDING,
    BatchRow,
    Contact,
    Fate,
    Outcome,
    SetAside,
    Settled,
)

AWHILE = 2.0
"""Seconds after which what came in a hurry gets into the database, where others can see it."""


class Ledger:
    """The ledger in file ``path``, made when it is missing.

    ``read_only`` changes nothing on disk and answers as an empty ledger where there is none. ``now`` is the clock.
    Raises :class:`~bsmtp_batch.errors.Later` when the file cannot be used, :class:`~bsmtp_batch.errors.Setting` when a
    newer version of the program made it. A context manager; belongs to the thread that opened it.
    """

    def __init__(self, path: str, *, read_only: bool = False, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now
        self._results: Results | None = None
        self._failed: Results | None = None
        """One that takes no more, and may go when what it holds is in the database."""
        self._pending: list[News] = []
        """What is durable in ``_results`` and not in the database."""
        self._folded = 0.0
        self._read_only = read_only
        with self._guarded():
            self._database = open_database(path, read_only=read_only)
            if read_only and (waiting := everything(path + DIRECTORY)):
                self._database = in_memory(self._database)
                self._write(self._database, waiting)
        try:
            self._recover()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was committed is durable already."""
        self._database.close()

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """While it lasts many steps are made, one soon after the other: each is durable at once, in a file of its own
        beside the database, and gets into the database together with others. Raises as everything here does."""
        with suppress(OSError):  # the database alone is slower and nothing else
            self._results = Results(self.path + DIRECTORY)
        self._folded = time.monotonic()
        try:
            yield
        finally:
            try:
                with suppress(OSError):
                    self._fold()
            finally:
                self._let_go()

    # -- contacts and batches ------------------------------------------------------------------------------------

    def record_contact(  # noqa: PLR0917 - a row, in the order of its columns
        self,
        peer: str,
        direction: str,
        started: float,
        ended: float,
        batches: int,
        octets: int,
        result: str,
        code: int = 0,
    ) -> None:
        """Remember one contact: ``direction`` push, pull, receive or dequeue; ``result`` is ``ok`` or a sentence.

        ``code`` is the exit code that goes with the result where it matters which: 78 for what somebody has to change.
        """
        with self._transaction() as database:
            database.execute(
                "INSERT INTO contact (peer, direction, started, ended, batches, octets, result, code)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (peer, direction, started, ended, batches, octets, result, code),
            )

    def last_contacts(self) -> list[Contact]:
        """The latest contact of every peer and direction, by peer."""
        rows = self._rows(
            "SELECT peer, direction, started, ended, batches, octets, result, code FROM contact"
            " WHERE id IN (SELECT max(id) FROM contact GROUP BY peer, direction) ORDER BY peer, direction"
        )
        return [Contact(*row) for row in rows]

    def note_batch(  # noqa: PLR0917 - a row, in the order of its columns
        self,
        direction: str,
        party: str,
        name: str,
        sequence: int,
        sha256: str,
        messages: int,
        recipients: int,
        octets: int,
        state: str,
        reason: str = "",
    ) -> None:
        """Remember a batch, or its new ``state``: the same direction, party, name and bytes are one row."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)"
                " ON CONFLICT DO UPDATE SET sequence = ?5, messages = ?6, recipients = ?7, octets = ?8,"
                " state = ?9, reason = ?10, changed = ?11",
                (direction, party, name, sha256, sequence, messages, recipients, octets, state, reason, self._now()),
            )

    def batches(
        self,
        *,
        direction: str | None = None,
        party: str | None = None,
        state: str | None = None,
        sha256: str | None = None,
    ) -> list[BatchRow]:
        """The batches known, oldest first, all or those that match."""
        rows = self._rows(
            "SELECT direction, party, name, sha256, sequence, messages, recipients, octets, state, reason, seen,"
            " changed FROM batch WHERE (?1 IS NULL OR direction = ?1) AND (?2 IS NULL OR party = ?2)"
            " AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR sha256 = ?4) ORDER BY seen, party, sequence, name",
            (direction, party, state, sha256),
        )
        return [BatchRow(*row) for row in rows]

    # -- what import knows ---------------------------------------------------------------------------------------

    def fates(self, batch: str) -> dict[int, Fate]:
        """What is known about each message of ``batch``: name and sha256 (one blank between) of one that is imported,
        or the sha256 alone; the name of one of ours that is sent. A message never begun is absent."""
        self._recover()
        found: dict[int, Fate] = {}
        for message, sender, state, attempts in self._rows(
            "SELECT message, sender, state, attempts FROM message WHERE batch = ?", (batch,)
        ):
            found[message] = Fate(message, sender, state, attempts)
        for message, *outcome in self._rows(
            "SELECT message, recipient, address, outcome, reply, attempt, dsn FROM recipient WHERE batch = ?", (batch,)
        ):
            found[message].outcomes[outcome[0]] = Outcome(*outcome)
        return found

    def knows(self, batch: str) -> bool:
        """Whether any message of ``batch`` was begun."""
        self._recover()
        return bool(self._rows("SELECT 1 FROM message WHERE batch = ? LIMIT 1", (batch,)))

    def step(self, batch: str, settled: Iterable[Settled]) -> None:
        """Write the news about any number of messages of ``batch`` in one transaction, and so with one fsync.

        The outcomes of the messages before and the ``finishing`` mark of the next belong into one call, made before
        the final dot of the next is sent: that is the named window.
        """
        news = [(batch, one) for one in settled]
        if self._results is None or not self._noted(self._results, news):
            with self._transaction() as database:
                self._write(database, news)

    def note_dsn(self, batch: str, message: int, recipients: Iterable[int], state: str) -> None:
        """Remember what became of the notice about ``recipients`` of ``message`` (``sent`` or ``kept``)."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE recipient SET dsn = ?, changed = ? WHERE batch = ? AND message = ? AND recipient = ?",
                [(state, self._now(), batch, message, recipient) for recipient in recipients],
            )

    def reopen(self, batch: str, outcomes: Iterable[str]) -> int:
        """Make the recipients of ``batch`` that have one of these ``outcomes`` ready to be sent again.

        Returns how many there were. A notice still owed to the sender about one of them is no longer owed.
        """
        wanted = json.dumps(list(outcomes))
        with self._transaction() as database:
            database.execute(
                "UPDATE message SET state = ?3 WHERE batch = ?1 AND state = ?4 AND message IN (SELECT message"
                " FROM recipient WHERE batch = ?1 AND outcome IN (SELECT value FROM json_each(?2)))",
                (batch, wanted, PENDING, DONE),
            )
            return database.execute(
                "DELETE FROM recipient WHERE batch = ? AND outcome IN (SELECT value FROM json_each(?))",
                (batch, wanted),
            ).rowcount

    def in_doubt(self) -> list[tuple[str, int]]:
        """By what :meth:`fates` knows the batch, and the number, of every message whose final dot was sent, or nearly,
        and never answered."""
        self._recover()
        rows = self._rows(
            "SELECT batch, message FROM message WHERE state = ? ORDER BY batch, message",
            (FINISHING,),
        )
        return [(batch, message) for batch, message in rows]

    def set_aside(self) -> list[SetAside]:
        """The recipients whose message lies in ``bad/``, oldest first."""
        rows = self._rows(
            "SELECT batch, message, address, reply, changed FROM recipient WHERE outcome = 'quarantined'"
            " OR dsn = 'kept' ORDER BY changed, batch, message, recipient"
        )
        return [SetAside(*row) for row in rows]

    def forget(self, before: float) -> int:
        """Remove what did not change since ``before``: contacts, and batches with nothing left to do; how many rows.

        ``before`` has to lie further back than the far side keeps its batches: a batch that is forgotten and comes
        again is imported again.
        """
        with self._transaction() as database:
            idle = [
                (batch,)
                for (batch,) in database.execute(
                    "SELECT batch FROM message GROUP BY batch HAVING max(changed) < ?1 AND min(state) = ?2"
                    " AND max(state) = ?2 AND batch NOT IN"
                    " (SELECT batch FROM recipient WHERE changed >= ?1 OR dsn = ?3)"
                    " AND (batch IN (SELECT sha256 FROM batch WHERE direction = 'in' AND state IN ('done', 'bad'))"
                    " OR batch IN"
                    " (SELECT name || ' ' || sha256 FROM batch WHERE direction = 'in' AND state IN ('done', 'bad'))"
                    " OR batch IN (SELECT name FROM batch WHERE direction = 'out' AND state = 'kept'))",
                    (before, DONE, DSN_DUE),
                )
            ]
            gone = database.executemany("DELETE FROM recipient WHERE batch = ?", idle).rowcount
            gone += database.executemany("DELETE FROM message WHERE batch = ?", idle).rowcount
            gone += database.execute(
                "DELETE FROM batch WHERE changed < ? AND sha256 NOT IN (SELECT batch FROM message)"
                " AND name NOT IN (SELECT batch FROM message)"
                " AND name || ' ' || sha256 NOT IN (SELECT batch FROM message)",
                (before,),
            ).rowcount
            return gone + database.execute("DELETE FROM contact WHERE ended < ?", (before,)).rowcount

    # -- results that come too fast ------------------------------------------------------------------------------

    def _noted(self, results: Results, news: list[News]) -> bool:
        """Whether ``news`` are durable in ``results``; if not, everything else that was there is in the database."""
        try:
            if time.monotonic() - self._folded > AWHILE:
                self._fold()
            try:
                results.append(news)
            except Full:
                self._fold()
                results.append(news)
        except Full:
            return False
        except OSError:
            # Whether it would be there after a crash, nobody knows. It is not written again: it goes to the database.
            self._failed, self._results = results, None
            self._fold()
            return False
        self._pending += news
        return True

    def _fold(self) -> None:
        """Take what is durable elsewhere into the database. ``OSError`` where only forgetting it there fails."""
        if self._pending:
            with self._committed() as database:
                self._write(database, self._pending)
            self._pending = []
            self._folded = time.monotonic()
            if self._results is not None:
                self._results.clear()
        if self._failed is not None:
            self._leave(self._failed)
            self._failed = None

    def _let_go(self) -> None:
        for results in (self._results, self._failed):
            if results is not None:
                self._leave(results)
        self._results = self._failed = None

    def _leave(self, results: Results) -> None:
        with suppress(OSError):  # who opens the ledger next removes it
            results.close(remove=not self._pending)

    def _recover(self) -> None:
        """Take what others have left behind, who were killed, into the database."""
        if self._read_only:
            return
        with self._guarded(), left_behind(self.path + DIRECTORY) as found:
            if found:
                with self._committed() as database:
                    self._write(database, found)

    def _write(self, database: sqlite3.Connection, news: list[News]) -> None:
        now = self._now()
        last = {(batch, one.message): one for batch, one in news}
        # One statement for all rows: a call for each of them costs more than the rows do.
        database.executemany(
            "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            " ON CONFLICT DO UPDATE SET state = ?4, attempts = ?5, changed = ?6",
            [(*key, one.sender, one.state, one.attempts, now) for key, one in last.items()],
        )
        database.executemany(
            "INSERT OR REPLACE INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (batch, one.message, o.recipient, o.address, o.outcome, o.reply, o.attempt, o.dsn, now)
                for batch, one in news
                for o in one.outcomes
            ],
        )

    def _rows(self, question: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._guarded():
            self._fold()
            return self._database.execute(question, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded():
            self._fold()
        with self._committed() as database:
            yield database

    @contextmanager
    def _committed(self) -> Iterator[sqlite3.Connection]:
        with self._guarded():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # A commit that failed on a full disk has ended the transaction itself.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Later(
                f"the ledger {self.path} cannot be used: {error}",
                safe="No mail was lost; it stays where it is",
                next="look at the disk, its free space and the owner of the file, then run the command again",
            ) from error
