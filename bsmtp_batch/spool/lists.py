"""The seal list of one batch: what the sealer is about to do, durable before it does it.

``lists/N.list`` is an intent, ``lists/N.done`` the same file after everything it names has been done. Recovery needs
nothing else to finish or to undo a seal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

FORMAT = 1


@dataclass(frozen=True)
class Member:
    """One fragment of the batch: its file name in ``new/``, and how many messages, recipients and octets it holds."""

    name: str
    messages: int
    recipients: int
    size: int


@dataclass(frozen=True)
class Intent:
    """What batch ``sequence`` of a route consists of.

    ``name`` is the batch's file name, ``size`` its octets, ``sha256`` that of the batch file, ``manifest`` that of
    its manifest (both hex). ``replaces`` names a sealed batch that goes to ``dead/`` when this one is committed, or
    is empty.
    """

    name: str
    route: str
    sequence: int
    size: int
    sha256: str
    manifest: str
    members: tuple[Member, ...]
    replaces: str = ""

    def to_bytes(self) -> bytes:
        """The list as it stands on disk."""
        fields: dict[str, Any] = {"format": FORMAT, **self.__dict__}
        fields["members"] = [[m.name, m.messages, m.recipients, m.size] for m in self.members]
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Intent:
        """The list read back. Raises ``ValueError`` with a sentence for anything but a whole list of this format."""
        try:
            fields = json.loads(data)
            if fields.pop("format") != FORMAT:
                raise ValueError("it was written by a newer version")
            members = tuple(Member(*entry) for entry in fields.pop("members"))
            found = cls(members=members, **fields)
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError("it is not a seal list") from error
        if not found._sound():
            raise ValueError("a value in it has the wrong type")
        return found

    def _sound(self) -> bool:
        texts = (self.name, self.route, self.sha256, self.manifest, self.replaces, *(m.name for m in self.members))
        numbers = [self.sequence, self.size] + [n for m in self.members for n in (m.messages, m.recipients, m.size)]
        return all(type(t) is str for t in texts) and all(type(n) is int and n >= 0 for n in numbers)
