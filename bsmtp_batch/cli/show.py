"""``bsmtp-batch show``: the envelopes of a batch, or the text of one message."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.batch.events import Message
    from bsmtp_batch.batch.file import BatchFile
    from bsmtp_batch.wire.command import Params


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {
        0: "the batch was read to its end",
        65: "the batch is faulty: what stands before the fault was shown, the fault is on standard error",
        75: "the file could not be read just now: run the same command again",
    }
    app.command(
        "show",
        help="Show the envelopes of a batch file, whoever wrote it, compressed or not ('-' is standard input).",
        epilog=common.epilog("bsmtp-batch show batch.bsmtp -m 2 --raw | less", codes),
    )(command)


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The batch file, or '-'.")],
    message: Annotated[
        int | None, typer.Option("-m", "--message", metavar="N", min=1, help="Only message N, counted from 1.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="With -m: its content, as it was before the batch.")] = False,
    json: common.Json = False,
) -> int:
    """Read FILE tolerantly and print what it holds; 65 when it has a fault."""
    from bsmtp_batch.batch.file import BatchFile
    from bsmtp_batch.edge.opening import open_plain
    from bsmtp_batch.errors import Usage

    if raw and (message is None or json):
        raise Usage(
            "--raw needs -m and goes without --json", safe="Nothing was read", next="name one message: -m N --raw"
        )
    opened, _ = open_plain(None if file == "-" else file)
    with opened:
        batch = BatchFile(opened)
        return _show_raw(batch, message) if raw and message else _show(batch, message, json)


def _show(batch: BatchFile, only: int | None, as_json: bool) -> int:
    """Print envelopes as they are found."""
    from bsmtp_batch.batch.events import Fault, Severity

    code = 0
    last = 0
    for event in batch.scan(Severity.TOLERANT, digests=True):
        last = event.message if isinstance(event, Fault) else event.number
        if isinstance(event, Fault):
            common.complain(str(event))
            code = 65
        elif only in (None, event.number):
            if as_json:
                common.print_json([_row(event)])
            else:
                sys.stdout.write(_lines(event))
    for warning in batch.summary.warnings:
        common.complain(f"warning: {warning}")
    if code == 0 and only is not None and only > last:
        raise _no_such_message(only, last)
    return code


def _show_raw(batch: BatchFile, number: int) -> int:
    """Write the content of one message, then tell of faults."""
    from bsmtp_batch.batch.events import Fault, Message, Severity

    faults: list[Fault] = []
    wanted = None
    last = 0
    for event in batch.scan(Severity.TOLERANT):
        if not isinstance(event, Message):
            faults = [*faults, event][:100]  # told of at most; a file may have millions
            continue
        last = event.number
        if event.number == number:
            wanted = event
    if wanted:
        for piece in batch.content(wanted):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    for fault in faults:
        common.complain(str(fault))
    if not wanted and not faults:
        raise _no_such_message(number, last)
    return 65 if faults else 0


def _no_such_message(number: int, last: int) -> Exception:
    from bsmtp_batch.errors import Usage

    return Usage(f"there is no message {number}", safe="Nothing was changed", next=f"the batch has {last} messages")


def _row(message: Message) -> dict[str, Any]:
    """One message as ``show --json`` prints it (docs/FORMAT.md). Paths are ASCII or UTF-8: the grammar saw to it."""
    return {
        "message": message.number,
        "mail_from": message.mail.path.decode(),
        "rcpt_to": [rcpt.path.decode() for rcpt in message.rcpts],
        "parameters": _parameters(message.mail.params),
        "rcpt_parameters": [_parameters(rcpt.params) for rcpt in message.rcpts],
        "offset": message.offset,
        "bytes": message.size,
        "sha256": message.sha256,
    }


def _parameters(params: Params) -> dict[str, str | bool]:
    return {keyword.decode(): True if value is None else value.decode() for keyword, value in params}


def _lines(message: Message) -> str:
    """One message for people: the envelope as SMTP writes it, then size and place."""
    from bsmtp_batch.wire.command import format_mail, format_rcpt

    lines = [f"message {message.number}: {message.size} bytes at byte {message.offset}, sha256 {message.sha256}"]
    envelope = [format_mail(message.mail), *map(format_rcpt, message.rcpts)]
    lines += [f"  {common.printable(line.rstrip())}" for line in envelope]
    return "\n".join(lines) + "\n"
