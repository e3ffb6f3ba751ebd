"""Lines for people: what they may hold, and where they go."""

from __future__ import annotations

import os
import sys


def printable(text: bytes | str) -> str:
    """``text`` with everything a terminal might act on written as an escape; bytes that are no UTF-8 as ``\\xNN``."""
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


def tell(line: str) -> None:
    """A line for whoever is at the other end of standard error, and, where this runs under sshd, for the mail log of
    this machine: there nobody here reads standard error."""
    text = printable(line)
    sys.stderr.write(text + "\n")
    if "SSH_CONNECTION" in os.environ:
        import syslog

        syslog.openlog("bsmtp-batch", syslog.LOG_PID, syslog.LOG_MAIL)
        syslog.syslog(text)
