"""Where mail is collected: ``odmr://user@host:366/``, strictly read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bsmtp_batch.replay import address
from bsmtp_batch.replay.address import BadUrl

PORT = 366
"""For on-demand mail relay (RFC 2645 section 4)."""
FORMS = "odmr://user@host/ or odmr://user@host:366/"

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Place:
    """``host`` without brackets; ``user`` is ``""`` where none was named."""

    host: str
    port: int = PORT
    user: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"odmr://{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port != PORT else ''}/"


def parse(url: str) -> Place:
    """The place that ``url`` names. Raises :class:`~bsmtp_batch.replay.address.BadUrl`."""
    scheme, _, rest = url.partition("://")
    if scheme != "odmr" or not rest:
        raise BadUrl(f"{url!r} is not the address of a provider: write {FORMS}")
    user, at, server = rest.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise BadUrl(f"{url!r} holds a user that is no name of an account: write {FORMS}")
    found = address.parse(f"smtp://{server}")
    assert isinstance(found, address.Server)
    host = server.removesuffix("/")
    named = ":" in (host.rpartition("]")[2] if host.startswith("[") else host)
    return Place(found.host.lower(), found.port if named else PORT, user)
