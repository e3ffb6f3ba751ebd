"""Where in a TOML text a setting stands.

The standard library's parser forgets positions and the validator never had them. This finds the line again by walking
the headers and keys as text; it need not be perfect, for it only ever points a finger: the reading itself is tomllib's.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?\s*(?P<path>[^\]]+?)\s*\]\]?\s*(#.*)?")
_KEY = re.compile(r"(?P<indent>\s*)(?P<key>\"[^\"]*\"|'[^']*'|[A-Za-z0-9_-]+)\s*[=.]")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


def _parts(path: str) -> tuple[str, ...]:
    return tuple(a or b or c for a, b, c in _PART.findall(path))


def place_of(text: str, location: tuple[str | int, ...]) -> tuple[int, int]:
    """Line and column (from 1) of the setting ``location``, or of the nearest header above it; (1, 1) without one."""
    names = tuple(str(part).lower() for part in location if isinstance(part, str))
    section: tuple[str, ...] = ()
    best, place = -1, (1, 1)
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            section = tuple(part.lower() for part in _parts(header["path"]))
            here, column = section, line.index("[") + 1
        elif key := _KEY.match(line):
            here, column = (*section, key["key"].strip("\"'").lower()), len(key["indent"]) + 1
        else:
            continue
        if here == names[: len(here)] and len(here) > best:
            best, place = len(here), (number, column)
    return place
