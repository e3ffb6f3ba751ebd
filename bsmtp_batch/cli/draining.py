"""Accepted mail out of the groups it was acknowledged in, ahead of a command that looks at what waits."""

from __future__ import annotations

from bsmtp_batch.cli import common


def drained(spool: str, *, who: str) -> bool:
    """Drain the groups of ``spool`` and say on standard error what was odd; False when the disk refused."""
    from bsmtp_batch.spool.groups import drain

    try:
        for sentence in drain(spool):
            common.complain(f"{who}: recovered: {sentence}")
    except OSError as error:
        common.complain(
            f"{who}: accepted mail stays in its group: {error.strerror or error} ({error.filename or spool})."
            " Nothing is lost. Next: look at the disk and the kernel's messages"
        )
        return False
    return True
