"""The demonstration from the command line's point of view: a folder, a screen, the story, the verdict."""

from __future__ import annotations

import email
import os
import shlex
import shutil
import sys
import tempfile
from email import policy
from typing import TYPE_CHECKING, Any

from bsmtp_batch.cli.common import print_json
from bsmtp_batch.demo.messages import HUB, SHIP, STATION
from bsmtp_batch.demo.show import Screen, size
from bsmtp_batch.demo.story import STEPS, Ending, Story
from bsmtp_batch.errors import Usage

if TYPE_CHECKING:
    from bsmtp_batch.demo.proof import Row

PLACES = {HUB: "hub", SHIP: "ship", STATION: "station"}
LINES_OF_BATCH = 16
LINES_OF_REPORT = 14


def run(folder: str | None, *, as_json: bool) -> int:
    """Run it in ``folder`` and return the exit code: 0 when all sums agree, 65 when not."""
    place = _made(folder)
    with Screen(STEPS, quiet=as_json) as screen:
        screen.heading("Mail for two sites that are not always online")
        screen.step("folder", place)
        story = Story(place, screen)
        ending = story.run()
    if as_json:
        print_json([*map(_row, ending.proof.rows), _summary(ending, place)])
    else:
        _show(screen, story, ending)
        _try_next(screen, story)
    return 0 if ending.good else 65


def _made(folder: str | None) -> str:
    """The folder, new or found empty. Raises ``errors.Usage``."""
    if folder is None:
        return tempfile.mkdtemp(prefix="bsmtp-batch-demo-")
    place = os.path.abspath(folder)
    try:
        os.makedirs(place, exist_ok=True)
        occupied = bool(os.listdir(place))
    except OSError as error:
        raise Usage(
            f"{place} cannot be used: {error.strerror}", safe="Nothing was changed", next="name another --dir"
        ) from error
    if occupied:
        raise Usage(f"{place} is not empty", safe="Nothing in it was changed", next="name a new folder with --dir")
    return place


def _show(screen: Screen, story: Story, ending: Ending) -> None:
    screen.heading("What was sent, and what became of it")
    screen.table(
        ["message", "to", "copies", "octets", "arrived"],
        [_cells(row) for row in ending.proof.rows],
        numbers=["copies", "octets"],
    )
    screen.heading("The batches that carried it")
    screen.table(
        ["batch", "msgs", "octets"],
        [[str(b["name"]), str(b["messages"]), size(int(str(b["octets"])))] for b in ending.batches],
        numbers=["msgs", "octets"],
    )
    screen.heading("The first lines of the first batch, as they are in the file")
    screen.quotation(_first_lines(story.kept, LINES_OF_BATCH))
    if ending.proof.report is not None:
        screen.heading("The report that went back to the sender of the message to the unknown user")
        screen.quotation(_words_of(ending.proof.report))
    screen.verdict(_verdict(ending), good=ending.good)


def _cells(row: Row) -> list[str]:
    sample = row.sample
    there = PLACES[sample.rcpts[0].rpartition(b"@")[2].decode()]
    return [sample.title, there, str(len(sample.rcpts)), size(len(sample.content)), _fate(row)]


def _fate(row: Row) -> str:
    if not row.good:
        return f"WRONG: {row.identical} of {row.wanted} identical"
    if row.sample.ends == "bounces":
        return "550, sent back"
    return "identical" + (", after 451" if row.sample.ends == "waits" else "")


def _verdict(ending: Ending) -> str:
    proof = ending.proof
    twice = "nothing came twice" if not proof.surplus else f"{proof.surplus} copies too many"
    return (
        f"{proof.identical} of {proof.wanted} bodies byte-identical (sha256), {twice}, in {ending.seconds:.1f} seconds."
    )


def _first_lines(path: str, number: int) -> list[bytes]:
    with open(path, "rb") as file:
        return [file.readline().rstrip(b"\r\n") for _ in range(number)]


def _words_of(report: bytes) -> list[bytes]:
    """The lines of a delivery report that a person reads: who to whom, and its first part."""
    message = email.message_from_bytes(report, policy=policy.default)
    head = [f"{name}: {message[name]}" for name in ("From", "To", "Subject")]
    part = message.get_body(("plain",))
    text = part.get_content() if part is not None else ""
    return [line.encode() for line in [*head, "", *text.strip().splitlines()][:LINES_OF_REPORT]]


def _row(row: Row) -> dict[str, Any]:
    sample = row.sample
    return {
        "title": sample.title,
        "origin": sample.origin,
        "route": sample.route,
        "recipients": len(sample.rcpts),
        "bytes": len(sample.content),
        "sha256": row.sha256,
        "copies": row.wanted,
        "identical": row.identical,
        "good": row.good,
    }


def _summary(ending: Ending, folder: str) -> dict[str, Any]:
    proof = ending.proof
    return {
        "folder": folder,
        "copies": proof.wanted,
        "identical": proof.identical,
        "surplus": proof.surplus,
        "report": proof.report is not None,
        "good": ending.good,
    }


def _try_next(screen: Screen, story: Story) -> None:
    program = _program()
    screen.heading("The folder is kept. Try next:")
    for why, words in story.suggestions():
        screen.command(why, f"{program} {words}")


def _program() -> str:
    """How the user called us, so that the commands shown can be copied."""
    called = sys.argv[0]
    if os.path.basename(called) != "bsmtp-batch":
        return f"{shlex.quote(sys.executable)} -m bsmtp_batch"
    found = shutil.which("bsmtp-batch")
    return "bsmtp-batch" if found and os.path.realpath(found) == os.path.realpath(called) else shlex.quote(called)
