"""The side door from the command line to the program, without what the other commands load.

A contact starts this once for each batch, and the libraries for options and settings would be three quarters of its
time. Whatever is unusual about the arguments is left to the ordinary way.
"""

from __future__ import annotations

import os
import time
import tomllib
from typing import NoReturn

from bsmtp_batch.edge.log import tell
from bsmtp_batch.edge.process import become
from bsmtp_batch.edge.user import become_owner
from bsmtp_batch.errors import Later, Problem
from bsmtp_batch.receive.door import admit, errand
from bsmtp_batch.receive.rules import guard
from bsmtp_batch.spool import names
from bsmtp_batch.spool.inbox import Inbox

DEFAULT_FILE = "/etc/bsmtp-batch/bsmtp-batch.toml"

OPTIONS = {"--spool": "BSMTP_BATCH_SPOOL", "--config": "BSMTP_BATCH_CONFIG"}
"""The options that are understood here, and the environment variable that stands for each."""


def main(arguments: list[str], command: str) -> int | None:
    """Answer ``command`` for ``receive`` with ``arguments``; None where the ordinary way has to be taken."""
    found = _understood(arguments)
    if found is None:
        return None
    origin, spool = found
    return pass_through(command, spool, origin)


def pass_through(command: str, spool: str, origin: str) -> int:
    """Become the program that ``command`` asks for, or refuse, and return the exit code.

    What was refused is in the ledger and in the system's log: the words on standard error go to whoever asked.
    """
    become_owner(spool)
    try:
        wanted = errand(command)
        argv, limit = admit(wanted, Inbox(spool, origin))
        if argv[0] == "rsync" and wanted.gives:
            guard(argv[3], lambda why: _refuse(spool, origin, f"an rsync that fetches {wanted.batch}: {why}"))
        _become(argv, limit)
    except (Problem, OSError) as error:
        sentence = str(error) if isinstance(error, Problem) else f"{error.filename or 'the spool'}: {error.strerror}"
        _refuse(spool, origin, sentence)
        return error.code if isinstance(error, Problem) else Later.code


def _become(argv: list[str], limit: int) -> NoReturn:
    try:
        become(argv, file_limit=limit)
    except FileNotFoundError as error:
        raise Later(
            f"there is no {argv[0]} on this machine",
            safe="Nothing was moved",
            next="install it here, or use another scheme",
        ) from error


def _refuse(spool: str, origin: str, sentence: str) -> None:
    from bsmtp_batch.ledger import Ledger

    tell(f"receive {origin}: refused: {sentence}")
    with Ledger(f"{spool}/ledger.db") as ledger:
        ledger.record_contact(origin, "receive", time.time(), time.time(), 0, 0, f"refused: {sentence}")


def _understood(arguments: list[str]) -> tuple[str, str] | None:
    """Origin and spool; None for anything but one origin, options that are known, and settings that can be read."""
    words, values = list(arguments), {name: os.environ.get(variable) for name, variable in OPTIONS.items()}
    origins = []
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name in OPTIONS and (equals or words):
            values[name] = value if equals else words.pop(0)
        elif name.startswith("-") or equals:
            return None
        else:
            origins.append(name)
    if len(origins) != 1 or not names.valid_route(origins[0].encode("ascii", "replace")):
        return None
    spool = values["--spool"] or _spool_of(values["--config"])
    return (origins[0], os.path.abspath(spool)) if spool else None


def _spool_of(config: str | None) -> str | None:
    """The one setting that is needed here; whatever is wrong with the others is told by the conversation."""
    try:
        with open(config or DEFAULT_FILE, "rb") as file:
            found = tomllib.load(file).get("node", {}).get("spool", names.DEFAULT_SPOOL)
    except FileNotFoundError:
        return None if config else names.DEFAULT_SPOOL
    except (OSError, tomllib.TOMLDecodeError, AttributeError):
        return None
    return found if isinstance(found, str) and found.startswith("/") else None
