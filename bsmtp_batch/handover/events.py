"""What a contact tells of, whether batches travel or their mail is sent: one shape, told and printed one way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One thing that happened: ``kind`` is a word of whoever tells it, ``party`` the route or origin, ``code`` the exit
    code it asks for."""

    verb: str
    kind: str
    party: str
    name: str = ""
    messages: int = 0
    octets: int = 0
    note: str = ""
    code: int = 0
