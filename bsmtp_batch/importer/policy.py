"""Whose mail this site takes: recipients outside the local domains never reach the target (no open relay by batch)."""

from __future__ import annotations

from collections.abc import Iterable

from bsmtp_batch.wire.command import split_domain

_ROUTING = b"%!@"
"""Characters in a local part by which some mailers send mail on to another host."""


class Policy:
    """The recipients this site takes.

    ``domains`` in any case, as A-labels or in Unicode; with none, every recipient is taken. Raises ``ValueError`` with
    a sentence for something that is no domain.
    """

    def __init__(self, domains: Iterable[str] = ()) -> None:
        self._domains = frozenset(_required(domain) for domain in domains)

    @property
    def open(self) -> bool:
        """Whether no domain was named, so that every recipient is taken."""
        return not self._domains

    def refusal(self, path: bytes) -> str:
        """Why the recipient ``path`` (a valid address without brackets) is set aside; ``""`` when it is taken."""
        if self.open:
            return ""
        local, domain = split_domain(path)
        if not domain:
            if local.lower() == b"postmaster":  # RFC 5321 section 4.5.1
                return ""
            return "5.1.2 the recipient has no domain"
        if _label(domain) not in self._domains:
            return "5.7.1 the recipient is outside the local domains"
        if any(octet in local for octet in _ROUTING):
            return "5.7.1 the recipient asks to be sent on to another host"
        return ""


def _label(domain: bytes) -> bytes:
    """``domain`` in lower case, as A-labels; as it is where that cannot be done without changing its meaning.

    The codec of the standard library follows the older IDNA, which maps some letters to others (a sharp s becomes ss):
    what does not come back the same is a different name and stays one.
    """
    lower = domain.lower()
    if lower.isascii():
        return lower
    text = lower.decode("utf-8").lower()
    try:
        label = text.encode("idna")
        return label.lower() if label.decode("idna") == text else lower
    except UnicodeError:
        return lower


def _required(domain: str) -> bytes:
    label = _label(domain.encode("utf-8").removesuffix(b"."))
    if not label.isascii() or not label or label.strip(b"abcdefghijklmnopqrstuvwxyz0123456789.-_"):
        raise ValueError(f"{domain!r} is not a domain; write it as in DNS: example.org")
    return label
