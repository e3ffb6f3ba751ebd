"""What ends a command, as an exit code of the public contract and one clear message."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from bsmtp_batch.cli.printing import complain
from bsmtp_batch.cli.streams import patient
from bsmtp_batch.edge.log import printable
from bsmtp_batch.edge.user import user_name
from bsmtp_batch.errors import Faults, Problem


def heard(work: Callable[[], int]) -> int:
    """The exit code of ``work``; where it could not say all it had to, that is part of it."""
    with patient() as out:
        code = work()
        out.flush()
        if out.failure is None or code != 0:
            return code
        complain(
            f"bsmtp-batch: not all of its output could be written: {out.failure.strerror}. What was to be done is done"
            " all the same. Next: see where the output goes"
        )
        return 75


def told(error: BaseException) -> int:
    """Tell the user what ``error`` means and return the exit code that says the same to a program."""
    if isinstance(error, Faults):
        complain(f"bsmtp-batch: {error}")  # on a line each; it has no other line ends
        return error.code
    if isinstance(error, Problem):
        complain(printable(f"bsmtp-batch: {error}"))  # on one line, whatever a file is called
        return error.code
    if isinstance(error, KeyboardInterrupt | BrokenPipeError):
        complain("bsmtp-batch: interrupted. What was durable stays so. Next: run the same command again")
        return 75
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        complain(
            f"bsmtp-batch: the system refused: {error.strerror or error}{where}. What was durable stays so."
            " Next: look at the disk and at who may write there, then run the same command again"
        )
        return 75
    traceback.print_exception(error)
    if isinstance(error, ImportError):  # as with a Python below /root, once root runs on as the owner of the spool
        complain(
            f"bsmtp-batch: a part of the program cannot be loaded as {user_name()}: {error}. Mail in the spool stays"
            f" there. Next: let this user read it and its Python (namei -l {os.path.realpath(sys.executable)}), or"
            " install it again, with /usr/bin/python3 and not below a home directory"
        )
        return 75
    complain("bsmtp-batch: this is a bug. Mail in the spool stays there. Next: please report the lines above")
    return 70
