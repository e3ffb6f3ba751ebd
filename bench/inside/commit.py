"""Commits of 100 messages: commit.py SPOOL ROUTES COMMITS prints microseconds per message.

By the clock and of the processor until they are durable, then of the processor for bringing them into their routes.
"""

from __future__ import annotations

import statistics
import sys
import time

from bsmtp_batch.spool import groups
from bsmtp_batch.spool.names import fragment_name, key_of, sha256

spool, routes, commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
body = b"MAIL FROM:<s@client.example>\r\nRCPT TO:<u@site.example>\r\nDATA\r\n" + (b"x" * 65 + b"\r\n") * 60 + b".\r\n"


def entries(turn: int) -> list[groups.Entry]:
    """100 messages, no two alike."""
    made = []
    for number in range(100):
        data = b"X-Turn: %d.%d\r\n" % (turn, number) + body
        digest = sha256(data).digest()
        made.append(groups.Entry(f"r{number % routes}.example", fragment_name(key_of(b"", digest), digest.hex()), data))
    return made


writer = groups.GroupWriter(spool)
walls, cpu = [], 0.0
for turn in range(commits):
    group = entries(turn)
    wall, before = time.perf_counter(), time.process_time()
    writer.commit(group)
    walls.append(time.perf_counter() - wall)
    cpu += time.process_time() - before
before = time.process_time()
groups.drain(spool)
drained = time.process_time() - before
writer.close()
print(statistics.median(walls) / 100 * 1e6, cpu / commits / 100 * 1e6, drained / commits / 100 * 1e6)
