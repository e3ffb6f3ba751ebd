"""Where a push by SMTP goes: ``smtp://domain``, ``smtp://[host]:port``, strictly read."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from bsmtp_batch.replay import address
from bsmtp_batch.replay.address import BadUrl

FORMS = "smtp://domain (its MX servers), smtp://[host] or smtp://[host]:port (that server)"


@dataclass(frozen=True, slots=True)
class Place:
    """``host`` without brackets; ``port`` is 0 where none was named; ``lookup``: the MX records of ``host`` say whom to
    reach."""

    host: str
    port: int
    lookup: bool

    def __str__(self) -> str:
        host = self.host if self.lookup else f"[{self.host}]"
        return f"smtp://{host}{f':{self.port}' if self.port else ''}"


def parse(url: str) -> Place:
    """The place that ``url`` names. Raises :class:`~bsmtp_batch.replay.address.BadUrl`."""
    found = address.parse(url)
    if not isinstance(found, address.Server) or found.lmtp:
        raise BadUrl(f"{url!r} is not the address of an SMTP server: write {FORMS}")
    rest = url.partition("//")[2].removesuffix("/")
    named = rest.rpartition("]")[2] if rest.startswith("[") else rest
    lookup = not rest.startswith("[") and not _literal(found.host)
    return Place(found.host.lower(), found.port if ":" in named else 0, lookup)


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
