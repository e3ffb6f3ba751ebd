"""``in/ORIGIN/tmp/expected``: the one file that another program may bring at this moment, and how long it will be.

Written by the conversation that holds the intake of the origin, read by the session that is to move the octets. One
left over from a contact that was killed lets that one part be written again, and no more of it.
"""

from __future__ import annotations

from bsmtp_batch.spool import durable, listing, names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.medium import write_part

_EXPECTED = "expected"
_CAP = 1024


def expect(inbox: Inbox, name: str, size: int) -> None:
    """From now on ``name`` may be brought, of ``size`` octets. Raises ``OSError``."""
    write_part(inbox.at(names.TMP, _EXPECTED), [f"{name} {size}\n".encode()])


def expected(inbox: Inbox) -> tuple[str, int] | None:
    """Name and size of what may be brought; None when nothing may. Raises ``OSError``."""
    try:
        name, size = listing.read_small(inbox.at(names.TMP, _EXPECTED), _CAP).decode("ascii").split(" ")
        return name, int(size)
    except (FileNotFoundError, ValueError):
        return None


def expect_nothing(inbox: Inbox) -> None:
    """Nothing may be brought any more. Raises ``OSError``."""
    durable.remove(inbox.at(names.TMP, _EXPECTED))
