"""Group commit: messages for many routes become durable together, after one fsync, and mail in ``new/`` soon after.

LMTP acknowledges many messages at once. :class:`GroupWriter` appends them to one file and syncs that; :func:`drain`
turns what it holds into one file per message, as ``deliver`` makes them. Every stage that reads ``new/`` drains first,
so what was acknowledged is never overlooked, whatever became of the process that took it.
"""

from __future__ import annotations

from bsmtp_batch.spool.groups_drain import drain
from bsmtp_batch.spool.groups_file import GROUPS, Entry, Place
from bsmtp_batch.spool.groups_look import Grouped, look, pending
from bsmtp_batch.spool.groups_writer import GroupWriter, NoRoom, make_groups

__all__ = ["GROUPS", "Entry", "GroupWriter", "Grouped", "NoRoom", "Place", "drain", "look", "make_groups", "pending"]
