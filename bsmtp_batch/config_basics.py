"""What there is to know without reading settings: where they would be, and what holds where they say nothing.

An import needs little of them, and what validates them takes more memory than the import itself. So this module imports
nothing for it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from bsmtp_batch.errors import Setting
from bsmtp_batch.spool.names import DEFAULT_SPOOL, valid_route

DEFAULT_FILE = "/etc/bsmtp-batch/bsmtp-batch.toml"


@dataclass(frozen=True)
class Basics:
    """What an import has to know of the settings; the names are those of ``[node]`` and ``[import]``."""

    spool: str
    name: str
    allowed_signers: str = ""
    to: str = ""
    local_domains: tuple[str, ...] = ()
    on_reject: str = "bounce"
    connections: int = 0


def basics(spool: str | None) -> Basics:
    """What holds where the settings say nothing; ``spool`` is what the user named."""
    return Basics(os.path.abspath(spool or DEFAULT_SPOOL), host_name())


def file_of(config: str | None) -> str | None:
    """The file the settings are read from when the user named ``config``; None: from none."""
    return config or (DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None)


def text_of(path: str) -> str:
    """What stands in the file ``path``. Raises :class:`~bsmtp_batch.errors.Setting`."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Setting(
            f"cannot read the settings {path}: {reason}",
            safe="Nothing was changed",
            next="name a readable file with --config, or none and use --spool",
        ) from error


def say_nothing(config: str | None) -> bool:
    """Whether the settings that the user named with ``config`` are all defaults: no file, or nothing but comments.

    Raises :class:`~bsmtp_batch.errors.Setting`.
    """
    path = file_of(config)
    return path is None or all(not line or line.startswith("#") for line in map(str.strip, text_of(path).split("\n")))


def host(value: object) -> object:
    """A host name in lower case, as routes and nodes have to be: it becomes part of file names."""
    if isinstance(value, str):
        if valid_route(value.lower().encode("utf-8", "replace")):
            return value.lower()
        raise ValueError("write a host name as it stands in DNS (A-label): example.org, xn--mller-kva.example")
    return value


def host_name() -> str:
    """The host's name as a node name; ``node`` where the host has none that could stand in HELO."""
    try:
        return str(host(socket.gethostname()))
    except ValueError:
        return "node"
