"""What another program may move at this moment, and how long it is: ``expected`` and ``granted`` in ``in/ORIGIN/tmp``.

Written by the conversation that holds the locks and has checked everything, read by the session that is to move the
octets. One left over from a contact that was killed lets that one file be moved again, and no more of it.
"""

from __future__ import annotations

from bsmtp_batch.spool import durable, listing, names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.medium import write_part

EXPECTED, GRANTED = "expected", "granted"
"""The kinds: to be brought, to be fetched."""

_CAP = 1024


def allow(inbox: Inbox, kind: str, name: str, size: int) -> None:
    """From now on ``name`` may be moved, of ``size`` octets, and nothing else of this kind. Raises ``OSError``."""
    write_part(inbox.at(names.TMP, kind), [f"{name} {size}\n".encode()])


def allowed(inbox: Inbox, kind: str) -> tuple[str, int] | None:
    """Name and size of what may be moved; None when nothing may. Raises ``OSError``."""
    try:
        name, size = listing.read_small(inbox.at(names.TMP, kind), _CAP).decode("ascii").split(" ")
        return name, int(size)
    except (FileNotFoundError, ValueError):
        return None


def forbid(inbox: Inbox, kind: str) -> None:
    """Nothing of this kind may be moved any more. Raises ``OSError``."""
    durable.remove(inbox.at(names.TMP, kind))
