"""Can the wall clock be believed? Everything that expires by age depends on it.

A clock that was ten days ahead for one minute would throw away what is to be kept for fourteen, and forget the KEYs
by which a repeated hand-in is recognised. The kernel's own count of seconds since boot does not jump, so the two
are compared with what they were at the last run.
"""

from __future__ import annotations

import time

from bsmtp_batch.spool import durable, listing, reserve

FILE = "clock"
JUMP = 3600
"""Seconds by which wall clock and kernel may have drifted apart between two runs."""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def now() -> tuple[float, float, str]:
    """Wall clock and seconds since boot, and which boot it was."""
    try:
        boot = listing.read_small(_BOOT_ID, 100).decode().strip()
    except (OSError, ValueError):
        boot = "-"
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot


def jumped(spool: str, *, current: tuple[float, float, str]) -> str:
    """A sentence when the clock has jumped since the last time this was asked, otherwise ``""``; remembers ``current``.

    Raises ``OSError``.
    """
    path = f"{spool}/{FILE}"
    sentence = ""
    try:
        wall, uptime, boot = listing.read_small(path, 1000).decode("ascii").split()
        sentence = _judge((float(wall), float(uptime), boot), current)
    except (FileNotFoundError, ValueError):
        pass
    try:
        durable.write_file(path, "{:.0f} {:.0f} {}\n".format(*current).encode("ascii"))
    except OSError as error:
        if sentence or error.errno not in reserve.FULL:
            raise
        # What was remembered before serves as well, and the disk may be full of what is about to expire.
    return sentence


def _judge(before: tuple[float, float, str], current: tuple[float, float, str]) -> str:
    passed = current[0] - before[0]
    if before[2] == current[2]:
        off = passed - (current[1] - before[1])
        if abs(off) > JUMP:
            return f"the clock jumped by {off:+.0f} seconds since the last run"
    elif passed < -JUMP:
        return f"the clock is {-passed:.0f} seconds behind the last run, before the machine was started"
    return ""
