"""``road/``: copies of batches in the form in which they travel. Each may vanish at any time and is made again."""

from __future__ import annotations

from bsmtp_batch.spool import durable, names, routes


def place(spool: str, name: str) -> str:
    """Where the copy called ``name`` (a batch name with the suffix of its form) is to lie; makes the directory.

    Raises ``OSError``.
    """
    routes.make_directories(f"{spool}/{names.ROAD}", spool)
    return path(spool, name)


def path(spool: str, name: str) -> str:
    """The path of the copy called ``name``, which was checked."""
    return f"{spool}/{names.ROAD}/{name}"


def drop(path: str) -> None:
    """Remove a copy; never raises, for what is left over is removed by age."""
    try:
        durable.remove(path)
    except OSError:
        pass
