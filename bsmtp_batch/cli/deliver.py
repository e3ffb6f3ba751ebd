"""``bsmtp-batch deliver``: hand one message in. Here is its help only.

``__main__`` calls the hand-in before anything of the command line library is imported, and an MTA calls
``bsmtp-batch-deliver``, which does not even start there.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bsmtp_batch.cli import common

_CODES = {
    0: "accepted and durable; nothing is printed",
    65: "the envelope, or the message, is malformed: 5.x.y and the reason are printed, nothing is kept",
    69: "the message is over the size limit of the route: 5.3.4 is printed, nothing is kept",
    75: "everything else: 4.3.0 and the reason are printed, and the MTA keeps the mail and tries again",
}
_EXAMPLE = "bsmtp-batch deliver --queue-id 4XyZ1 -f sender@example.net -- example.org user@example.org < message"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = "\n\n".join(f"  {code:>2}  {text}" for code, text in _CODES.items())
    app.command(
        "deliver",
        help="Hand in the message on standard input for a route; for MTAs, which call it as bsmtp-batch-deliver.",
        epilog=f"Exit codes:\n\n{codes}\n\nExample:\n\n  {_EXAMPLE}",
    )(command)


def command(
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="Where the message waits: the next hop of the MTA.")],
    rcpts: Annotated[list[str], typer.Argument(metavar="RCPT...", help="Its recipients, at most 1000.")],
    *,
    sender: Annotated[str, typer.Option("-f", metavar="SENDER", help="Its sender; <> or nothing for the null sender.")],
    queue_id: Annotated[
        str, typer.Option("--queue-id", metavar="ID", help="The MTA's name for it: a second try is stored once.")
    ] = "",
    size: Annotated[
        int, typer.Option("--size", metavar="N", help="Octets it has; when clearly fewer come, the MTA keeps it.")
    ] = 0,
    dots: Annotated[
        str, typer.Option("--dots", metavar="raw|stuffed", help="Whether the MTA has doubled leading dots already.")
    ] = "raw",
    spool: common.Spool = None,
) -> None:
    """Call the hand-in with the same arguments; it ends the process."""
    from bsmtp_batch.deliver.main import main

    places = ["--spool", spool] if spool else []
    main([*places, "--queue-id", queue_id, "--size", str(size), "--dots", dots, "-f", sender, "--", route, *rcpts])
