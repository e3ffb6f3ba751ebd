"""Numbers as people read them, advice that is given in two places, and the exit code that several outcomes come to."""

from __future__ import annotations

import time

_RANK = (0, 64, 65, 75, 70, 78)
"""Exit codes from harmless to severe: what is left for later outranks what was set aside."""


def worst(*codes: int) -> int:
    """The exit code that says most."""
    return max(codes, key=lambda code: _RANK.index(code) if code in _RANK else len(_RANK), default=0)


def size(octets: int) -> str:
    """``512 B``, ``34 kB``, ``1.2 GB`` (powers of 1000)."""
    value = float(octets)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def count(number: int, one: str, many: str = "") -> str:
    """``1 message``, ``2 messages``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def age(when: float | None, now: float) -> str:
    """How long ago ``when`` was: ``40 s``, ``12 min``, ``3 h``, ``5 d``; ``-`` for never."""
    if when is None:
        return "-"
    seconds = max(0.0, now - when)
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def moment(when: float | None) -> str | None:
    """``when`` (seconds since 1970) as RFC 3339 in UTC, for programs; None stays None."""
    return None if when is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def socket_directory(path: str) -> str:
    """What to do about a directory of sockets that is not there."""
    return (
        f"install -d -o bsmtp-batch -g bsmtp-batch -m 755 {path}, after each boot where it lies below /run;"
        " contrib/systemd/bsmtp-batch-serve.service makes /run/bsmtp-batch by itself"
    )
