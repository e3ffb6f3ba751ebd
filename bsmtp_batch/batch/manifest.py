"""The manifest: what a batch is and what it must add up to, in a JSON file beside it (docs/FORMAT.md)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
"""The version of the format this program writes, and the only one it reads."""
MAX_BYTES = 16_384
"""No manifest is longer; a longer file is refused before it is parsed."""
DIALECTS = ("esmtp", "classic")

_Octets = bytes

_NAME = re.compile(r"[a-z0-9][A-Za-z0-9.-]*\.bsmtp")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UTC = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_CREATED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


class ManifestError(ValueError):
    """A manifest that is none, or not one of this format; the text is a phrase for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is said about one batch. Every value is checked when the object is made (:class:`ManifestError`)."""

    format: int = FORMAT
    name: str
    """The batch's file name: ``ROUTE.SEQ.UTC.NODE.bsmtp``."""
    route: str
    origin: str
    """The node that sealed it."""
    sequence: int
    """Its number on this route, from 1, without gaps."""
    messages: int
    recipients: int
    """Recipients of all messages together."""
    bytes: int  # shadows the type, hence ``_Octets`` below: the member of the file has this name
    """Size of the plain batch."""
    sha256: str
    """Of the plain batch, in hexadecimal digits."""
    created: str
    """RFC 3339, UTC, whole seconds: ``2026-11-22T05:33:00Z``."""
    previous: str = ""
    """:meth:`digest` of the manifest before it on this route; empty for the first."""
    dialect: str = "esmtp"

    def __post_init__(self) -> None:
        if self.format != FORMAT or type(self.format) is not int:
            raise ManifestError(f"the manifest has format {self.format!r}; this version reads format {FORMAT}")
        for name in ("sequence", "messages", "recipients", "bytes"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << 63:
                raise ManifestError(f"{name} in the manifest is no count")
        for name, pattern in _PATTERNS.items():
            value = getattr(self, name)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise ManifestError(f"{name} in the manifest is malformed")
        if self.previous != "" and (not isinstance(self.previous, str) or not _SHA256.fullmatch(self.previous)):
            raise ManifestError("previous in the manifest is malformed")
        if self.dialect not in DIALECTS:
            raise ManifestError("dialect in the manifest is neither esmtp nor classic")
        begins, ends = f"{self.route}.{self.sequence:08d}.", f".{self.origin}.bsmtp"
        # With anything but the time between them, a name of one route and node would pass for one of another's.
        if not _UTC.fullmatch(self.name.removeprefix(begins).removesuffix(ends)):
            raise ManifestError("name in the manifest does not agree with its route, sequence and origin")

    def to_bytes(self) -> _Octets:
        """The file: one line of JSON, members sorted, no blanks, ASCII, and a ``check`` over all the others."""
        members: dict[str, Any] = asdict(self)
        return _encode({**members, "check": hashlib.sha256(_encode(members)).hexdigest()})

    @classmethod
    def from_bytes(cls, data: _Octets) -> Manifest:
        """Read the file. Strict: anything :meth:`to_bytes` would not have written raises :class:`ManifestError`."""
        if len(data) > MAX_BYTES:
            raise ManifestError(f"the manifest is longer than {MAX_BYTES} octets")
        try:
            members = json.loads(data)
        except (ValueError, RecursionError):
            raise ManifestError("the manifest is not JSON: was it cut?") from None
        if not isinstance(members, dict):
            raise ManifestError("the manifest is not a JSON object")
        if type(members.get("format")) is int and members["format"] != FORMAT:
            raise ManifestError(f"the manifest has format {members['format']}; this version reads format {FORMAT}")
        members.pop("check", None)
        try:
            manifest = cls(**members)
        except TypeError:
            raise ManifestError("the manifest lacks a member, or has one too many") from None
        if manifest.to_bytes() != data:
            raise ManifestError("the manifest was changed: its check does not agree with its members")
        return manifest

    def digest(self) -> str:
        """The sha256 of the file, in hexadecimal digits: what the next manifest calls ``previous``."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def matches(self, size: int, sha256: str, messages: int, recipients: int) -> str | None:
        """The first thing in which a batch with these figures is not the one described, in words; None when it is."""
        if size != self.bytes:
            return f"the batch has {size} bytes, its manifest says {self.bytes}"
        if sha256 != self.sha256:
            return f"the batch has sha256 {sha256}, its manifest says {self.sha256}"
        if messages != self.messages:
            return f"the batch has {messages} messages, its manifest says {self.messages}"
        if recipients != self.recipients:
            return f"the batch has {recipients} recipients, its manifest says {self.recipients}"
        return None


_PATTERNS = {"name": _NAME, "route": _HOST, "origin": _HOST, "sha256": _SHA256, "created": _CREATED}


def _encode(members: dict[str, Any]) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
