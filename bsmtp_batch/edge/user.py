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


def become_owner(directory: str) -> None:
    """Run on as the owner of the spool when started by root.

    The MTA hands mail in as that user, and one user id has to write the whole spool: a directory or a batch that
    root made could be neither read nor cleared by ``deliver``.
    """
    if os.geteuid() != 0:
        return
    try:
        found = os.stat(directory)
    except FileNotFoundError:
        return
    if found.st_uid != 0:
        os.setgroups([])
        os.setgid(found.st_gid)
        os.setuid(found.st_uid)
