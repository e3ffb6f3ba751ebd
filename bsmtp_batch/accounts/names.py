"""What an account may be called. Imports nothing: the settings check names with it at every start."""

from __future__ import annotations

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_OTHER = _FIRST | frozenset("._-@+")
MAX = 64


def valid(name: str) -> bool:
    """Whether an account can be called ``name``: lower-case ASCII letters, digits and ``. _ - @ +``, the first one a
    letter or a digit, at most 64 of them. No login is lost to capitals, no line of the secrets file is ambiguous."""
    return 0 < len(name) <= MAX and name[0] in _FIRST and _OTHER.issuperset(name)
