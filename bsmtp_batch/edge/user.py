"""Who we are, for sentences about permissions: a command that root started runs as the owner of the spool."""

from __future__ import annotations

import os
import pwd


def user_name() -> str:
    """The user this process runs as, as a postmaster calls it."""
    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"the user with number {os.geteuid()}"
