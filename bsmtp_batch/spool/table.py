"""The states of the spool, as a table: a state is nothing but which files exist.

Every walk of the spool goes from one row to the next by changing one file. A row whose ``recovery`` is named is
unfinished: somebody stopped there, and the function of that name in :mod:`bsmtp_batch.spool.recover` (for groups: in
:mod:`bsmtp_batch.spool.groups`) walks on to a row that is at rest. A combination of files that no row admits is *odd*:
nothing we do leads there, so nothing of it is touched, and it is shown.

Two things have states: a batch number of a route, and a fragment (one file handed in by ``deliver``). Files that are
still being written by a hand-in or by a transfer have names of their own in ``tmp/``; they belong to no row, and age
alone removes them (:data:`RUBBISH_AGE`).

A signature belongs to its manifest: it comes into ``ready/`` behind it and before the batch, goes to ``kept/`` and from
there before it, and is in no state of its own. A batch that is not signed walks through the same rows without one.
"""

from __future__ import annotations

from dataclasses import dataclass

RUBBISH_AGE = 36 * 3600
"""Seconds after which a file in ``tmp/`` has no writer any more: a hand-in ends at its deadline, a contact within a
day."""

TMP, LIST, DONE = "tmp/BATCH", "lists/N.list", "lists/N.done"
READY_MANIFEST, READY_SIGNATURE, READY = "ready/BATCH.json", "ready/BATCH.sig", "ready/BATCH"
KEPT, KEPT_SIGNATURE, KEPT_MANIFEST, DEAD = "kept/BATCH", "kept/BATCH.sig", "kept/BATCH.json", "dead/BATCH"
BATCH_COLUMNS = (
    TMP,
    LIST,
    DONE,
    READY_MANIFEST,
    READY_SIGNATURE,
    READY,
    KEPT,
    KEPT_SIGNATURE,
    KEPT_MANIFEST,
    DEAD,
)
"""What exists of batch number N. ``tmp/BATCH`` stands for the batch, its manifest and its signature, any of them."""

GROUPED, NEW, MARKER = "in groups/", "new/KEY.DIGEST", "sealed/KEY"
DEAD_FRAGMENT, REASON = "dead/KEY.DIGEST", "dead/KEY.DIGEST.reason"
FRAGMENT_COLUMNS = (GROUPED, NEW, MARKER, DEAD_FRAGMENT, REASON)
"""What exists of one fragment. In ``groups/`` it is an entry of a group file, not a file of its own."""


@dataclass(frozen=True)
class Row:
    """One lawful combination of files.

    ``marks`` has one character for each column: ``+`` exists, ``-`` does not, ``?`` either. ``recovery`` is the
    function that finishes the row, empty where it is at rest. ``takeable``: a courier may hand this batch over.
    """

    name: str
    marks: str
    meaning: str
    recovery: str = ""
    takeable: bool = False

    def admits(self, present: frozenset[str], columns: tuple[str, ...]) -> bool:
        """Whether the files ``present`` are this row."""
        return all(
            mark == "?" or (mark == "+") == (column in present)
            for mark, column in zip(self.marks, columns, strict=True)
        )


BATCH_ROWS = (
    Row("building", "+---------", "the sealer stopped before its list: rubbish, the members wait in new/", "undo"),
    Row("intended", "?+-??-----", "listed, not committed: the number is given back, the members wait", "undo"),
    Row(
        "committed", "-+-+?+----", "durable, its members perhaps still in new/: remembered and removed", "finish_commit"
    ),
    Row("sealed", "--++?+----", "waits for a contact", takeable=True),
    Row("released", "--++?-+?--", "a receipt came; the manifest has not followed yet", "finish_release"),
    Row("kept", "--+---+?+-", "acknowledged; stays until its time is over"),
    Row("expiring", "--+----?+-", "its time is over and the batch is gone; the manifest is not", "finish_expiry"),
    Row("gone", "--+-------", "only the finished list is left, until its KEYs are forgotten"),
    Row("replaced", "--++?----+", "put aside by a batch whose own list is not done yet", "finish_commit"),
    Row("set aside", "--+------+", "a newer batch holds what was left of it"),
)
"""Every lawful state of a batch number. ``finish_commit`` of *replaced* is that of the batch which replaces it."""

FRAGMENT_ROWS = (
    Row("grouped", "+--??", "accepted together with others; on its way to new/", "drain"),
    Row("draining", "++-??", "in new/, perhaps not durably: the group goes when it is", "drain"),
    Row("waiting", "-+-??", "accepted, in no batch yet (a damaged copy may have been set aside before)"),
    Row("sealing", "?++??", "in a committed batch; no longer to be read", "drop_sealed"),
    Row("sealed", "?-+??", "in a batch; a repeated hand-in, or a drain, recognises it"),
    Row("set aside", "---++", "failed its check; kept with the reason"),
    Row("lone reason", "----+", "the sealer stopped between the reason and the move", "drop_reason"),
)
"""Every lawful state of a fragment; ``waiting`` with a reason but no ``dead/`` file is a set-aside that starts anew."""


def batch_row(present: frozenset[str]) -> Row | None:
    """The row of a batch number of which ``present`` exists; None when no row admits it."""
    return next((row for row in BATCH_ROWS if row.admits(present, BATCH_COLUMNS)), None)


def fragment_row(present: frozenset[str]) -> Row | None:
    """The row of a fragment of which ``present`` exists; None when no row admits it."""
    return next((row for row in FRAGMENT_ROWS if row.admits(present, FRAGMENT_COLUMNS)), None)


def as_markdown() -> str:
    """Both tables as docs/INTERNALS.md shows them."""
    return "\n\n".join(
        [_markdown("batch", BATCH_COLUMNS, BATCH_ROWS), _markdown("fragment", FRAGMENT_COLUMNS, FRAGMENT_ROWS)]
    )


def _markdown(what: str, columns: tuple[str, ...], rows: tuple[Row, ...]) -> str:
    head = ["state of a " + what, *(f"`{column}`" for column in columns), "means", "recovery"]
    lines = [head, ["---"] * len(head)]
    lines += [[row.name, *row.marks, row.meaning, f"`{row.recovery}`" if row.recovery else ""] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
