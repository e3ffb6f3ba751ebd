"""Which batch a file is: by what the ledger knows its messages.

A batch with a manifest is known by its name and its sum: two equal messages, handed in one after the other, can make
two batches with equal octets, and both are to be delivered. A bare file is known by its sum alone, whoever brought it
under whatever name before.
"""

from __future__ import annotations

import hashlib

from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay.examine import Examined
from bsmtp_batch.spool import names

BEGUN = frozenset({names.WORK, names.DONE, names.BAD})
"""States of a batch of which messages may have been handed in."""


def key_of(examined: Examined, ledger: Ledger) -> str:
    """What the ledger knows the messages of ``examined`` by, or will. Raises :class:`~bsmtp_batch.errors.Later`."""
    sha256 = examined.sha256
    rows = {row.name: row.state for row in ledger.batches(direction="in", sha256=sha256)}
    if examined.manifest is None:
        if not ledger.knows(sha256):
            for name in sorted(rows):
                if ledger.knows(f"{name} {sha256}"):
                    return f"{name} {sha256}"
        return sha256
    name = examined.manifest.name
    key = f"{name} {sha256}"
    if not ledger.knows(sha256) or ledger.knows(key):
        return key
    # An earlier version knew batches by their sums alone. Its rows are those of this batch, unless they are another's.
    others = any(state in BEGUN for other, state in rows.items() if other != name)
    return sha256 if rows.get(name) in BEGUN or not others else key


def digest_of(key: str) -> str:
    """64 hexadecimal digits that stand for ``key`` in names of messages: a sum is its own."""
    return key if " " not in key else hashlib.sha256(key.encode()).hexdigest()
