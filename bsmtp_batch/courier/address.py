"""Where a far end is: ``scheme://user@host[:port]/path``, of the characters that a name or path may have and no others.

It comes from the settings or the command line, never from mail; it is matched all the same, because what reaches
``ssh`` could otherwise be one of its options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bsmtp_batch.errors import Usage

_USER = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"
_SIX = r"\[[0-9A-Fa-f:.]{2,45}\]"
_PATH = "(?:/[A-Za-z0-9_.-]+)*/?"
_URL = re.compile(
    rf"(?P<scheme>[a-z]+)://(?:(?P<user>{_USER})@)?(?P<host>{_NAME}|{_SIX})(?::(?P<port>[0-9]{{1,5}}))?(?P<path>{_PATH})"
)


@dataclass(frozen=True)
class Address:
    """``user`` is ``""`` and ``port`` 0 where there is none; ``host`` has no brackets, ``path`` begins with ``/``."""

    scheme: str
    user: str
    host: str
    port: int
    path: str

    @property
    def operand(self) -> str:
        """The host as ``scp`` and ``rsync`` want it before a colon."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{self.operand}{port}{self.path}"


def address_of(url: str) -> Address:
    """Take ``url`` apart. Raises :class:`~bsmtp_batch.errors.Usage`."""
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 1) not in range(1, 65_536) or ".." in found["path"].split("/"):
        raise Usage(
            f"{url!r} is not the address of a far end",
            safe="Nothing was moved",
            next="write scheme://user@host/ or scheme://user@host:port/, in letters, digits, dots, hyphens",
        )
    host = found["host"].strip("[]")
    return Address(found["scheme"], found["user"] or "", host, int(found["port"] or 0), found["path"] or "/")
