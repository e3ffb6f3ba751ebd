"""``python -m bsmtp_batch`` and the command ``bsmtp-batch``: one entry for every subcommand.

``deliver`` is answered before the command line library is imported: an MTA waits for it, once per message. So is what
``receive`` is asked for beside its conversation: a contact waits for it, once per batch. ``import`` can do without that
library as well, for the memory it takes.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] == ["deliver"] and sys.argv[2:] != ["--help"]:
        _deliver()
    if sys.argv[1:2] == ["receive"] and os.environ.get("SSH_ORIGINAL_COMMAND", "") not in ("", "receive"):
        code = _side_door(os.environ["SSH_ORIGINAL_COMMAND"])
        if code is not None:
            sys.exit(code)
    if sys.argv[1:2] == ["import"]:
        code = _import()
        if code is not None:
            sys.exit(code)
    from bsmtp_batch.cli.app import run

    sys.exit(run())


def _import() -> int | None:
    """See :mod:`bsmtp_batch.cli.quick`; None where the command line library has to see to it."""
    from bsmtp_batch.cli.quick import import_

    return import_(sys.argv[2:])


def _side_door(command: str) -> int | None:
    """See :mod:`bsmtp_batch.receive.quick`; None where the command line library has to see to it."""
    from bsmtp_batch.receive.quick import main as quick

    try:
        return quick(sys.argv[2:], command)
    except Exception:  # noqa: BLE001 - the ordinary way meets it again and can say what it is
        return None


def _deliver() -> NoReturn:
    """Hand a message in. An exception that ended Python would be a bounce for the MTA, so here, too, it is 75."""
    try:
        from bsmtp_batch.deliver.main import main as deliver

        deliver(sys.argv[2:])
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must not end in 1
        try:  # there may be no standard output, and a failure here would end in 1 again
            os.write(
                1, f"4.3.0 bsmtp-batch cannot start; your MTA keeps the mail. Install it again. {error!a}\n".encode()
            )
        finally:
            os._exit(75)


if __name__ == "__main__":
    main()
