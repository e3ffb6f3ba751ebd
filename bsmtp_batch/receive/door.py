"""The side door: what else an account may be asked for than the conversation, and nothing else.

``scp`` and ``rsync`` ask their far end to run a command. sshd does not run it but gives it to ``receive`` as
``SSH_ORIGINAL_COMMAND``. Here its words are held against what our own couriers send, octet by octet, and the program
is started with arguments of our own making: the one file that may be moved, and a limit to how large it may become.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from bsmtp_batch.edge.road import SUFFIXES
from bsmtp_batch.errors import Bad, Later
from bsmtp_batch.spool import names
from bsmtp_batch.spool.expected import EXPECTED, GRANTED, allowed
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.listing import open_regular
from bsmtp_batch.spool.store import Route, road_copy

CONVERSATION = ("", "receive")
"""What is asked for where the conversation is meant."""

_NAME = "[a-z0-9][a-z0-9A-Z.-]{0,250}"
_SCP = re.compile(rf"scp -(?P<way>[tf]) (?P<name>{_NAME})")
_RSYNC = re.compile(
    rf"rsync --server (?P<way>--sender )?(?P<can>-e[0-9.]{{1,8}}[A-Za-z]{{1,24}}) --timeout=(?P<wait>[1-9][0-9]{{0,2}})"
    rf" --append --append \. (?P<name>{_NAME})"
)
"""``--append`` twice is ``--append-verify``; what follows ``-e`` is what the other rsync can do."""


@dataclass(frozen=True)
class Errand:
    """A program that is to move one file: ``words`` of its command before the path; ``gives``: away from here."""

    words: tuple[str, ...]
    gives: bool
    name: str
    batch: str
    """The name of the batch; ``name`` is that with the suffix of the form in which it travels."""


def errand(command: str) -> Errand:
    """What ``command`` asks for. Raises :class:`~bsmtp_batch.errors.Bad` for anything our couriers would not say."""
    scp, rsync = _SCP.fullmatch(command), _RSYNC.fullmatch(command)
    found = scp or rsync
    batch = _batch(found["name"]) if found else None
    if found is None or batch is None:
        raise Bad(
            f"this account does not run {command[:200]!r}",
            safe="Nothing was run, read or written",
            next="it serves `bsmtp-batch push` and `pull` with an scp:// or rsync:// URL, and nothing else",
        )
    if scp:
        return Errand(("scp", f"-{scp['way']}", "--"), scp["way"] == "f", scp["name"], batch)
    assert rsync is not None
    sender = ("--sender",) if rsync["way"] else ()
    words = ("rsync", "--server", *sender, rsync["can"], f"--timeout={rsync['wait']}", "--append", "--append", ".")
    return Errand(words, bool(sender), rsync["name"], batch)


def admit(errand: Errand, inbox: Inbox) -> tuple[list[str], int]:
    """The command to become, and the largest file it may make, in octets.

    Raises :class:`~bsmtp_batch.errors.Problem` for a file that the conversation of this customer did not allow to be
    moved just now, and ``OSError``.
    """
    path, limit = _outgoing(errand, inbox) if errand.gives else _incoming(errand, inbox)
    return [*errand.words, path], limit


def _outgoing(errand: Errand, inbox: Inbox) -> tuple[str, int]:
    granted = allowed(inbox, GRANTED)
    parsed = names.parse_batch_name(errand.batch)
    if granted is None or granted[0] != errand.name or parsed is None:
        raise unknown(errand.batch)
    sealed = Route(inbox.spool, parsed[0]).at(names.READY, errand.batch)
    return road_copy(sealed, errand.name.removeprefix(errand.batch)) if errand.name != errand.batch else sealed, 0


def _incoming(errand: Errand, inbox: Inbox) -> tuple[str, int]:
    found = allowed(inbox, EXPECTED)
    if found is None or found[0] != errand.name:
        raise Later(
            f"{errand.name} was not announced",
            safe="Nothing was written",
            next="it has to be offered in the conversation first",
        )
    # The part is there before the program starts, a plain file: with that as its target neither program
    # makes a directory or a second file, whatever the other end sends.
    path = inbox.part(errand.name)
    fd = open_regular(path)
    os.close(fd)
    if errand.words[0] == "scp":
        os.truncate(path, 0)
    return path, found[1]


def unknown(name: str) -> Bad:
    """The same sentence whether there is no such batch or it is somebody else's: no names can be guessed."""
    return Bad(f"there is no batch {name} for you here", safe="Nothing was moved", next="ask with `list` what there is")


def _batch(name: str) -> str | None:
    """The batch that travels as ``name``; None when it is the name of none."""
    for suffix in SUFFIXES.values():
        plain = name.removesuffix(suffix) if suffix else name
        if name == plain + suffix and names.parse_batch_name(plain) is not None:
            return plain
    return None
