"""``python -m bsmtp_batch`` and the command ``bsmtp-batch``: one entry for every subcommand.

``deliver`` is answered before the command line library is imported: an MTA waits for it, once per message.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] == ["deliver"] and "--help" not in sys.argv[2:]:
        from bsmtp_batch.deliver.main import main as deliver

        deliver(sys.argv[2:])
    from bsmtp_batch.cli.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
