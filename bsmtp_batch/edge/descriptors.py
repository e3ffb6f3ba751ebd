"""How many files and connections this process may have open at one time."""

from __future__ import annotations

import resource


def make_room(wanted: int) -> int:
    """Have the system let us open ``wanted`` of them, or as many as it lets us; how many that is.

    Never fewer than before. The usual 1024 are for programs that put numbers above it into select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
