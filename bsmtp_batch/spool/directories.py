"""Directories that are there after a power cut, and what it means when they cannot be made."""

from __future__ import annotations

import errno
import os

from bsmtp_batch.spool import durable

DISK = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""What a disk answers that is full or broken; everything else is a matter of names and rights."""


def make_directories(path: str, below: str) -> None:
    """Make the directory ``path`` (0700) with its missing parents, each fsynced into the one above; ``below`` is where
    the mending of half-made ones starts. Raises ``OSError``."""
    if not os.path.isdir(path):
        make_directories(os.path.dirname(path) or "/", below)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
    if path.startswith(below):
        durable.fsync_dir(os.path.dirname(path) or "/")
