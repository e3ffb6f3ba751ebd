"""What group files hold at the moment, for people: reads only, takes no lock, and answers whatever it meets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from bsmtp_batch.spool import names
from bsmtp_batch.spool.groups_file import GROUPS, LEFT, ODD, UNREAD, Place, Record, parse_name, scan
from bsmtp_batch.spool.listing import Odd, open_regular
from bsmtp_batch.spool.store import REASON


@dataclass
class Grouped:
    """What group files hold: how many ``groups``; the messages in them that are in no ``new/`` yet, by route; which
    routes a drain could not put them into; what could not be read."""

    groups: int = 0
    left: set[str] = field(default_factory=set)
    routes: dict[str, list[Place]] = field(default_factory=dict)
    odd: list[Odd] = field(default_factory=list)


def look(spool: str) -> Grouped:
    """What is in the group files of ``spool``; messages that are in ``new/`` or in a batch already are left out.

    Never raises for what the spool holds.
    """
    found = Grouped()
    directory = f"{spool}/{GROUPS}"
    try:
        entries = sorted(os.listdir(directory))
    except FileNotFoundError:
        return found
    except OSError as error:
        found.odd.append(Odd(directory, f"cannot be read: {error.strerror}"))
        return found
    for entry in entries:
        name = parse_name(entry)
        if name is None:
            continue
        path = f"{directory}/{entry}"
        if name.kind == ODD:
            found.odd.append(Odd(path, "could not be read as acknowledged mail" + _reason(path)))
            continue
        if name.kind == UNREAD:
            found.odd.append(Odd(path, "could not be read" + _reason(path)))
        try:
            places = [p for p in _places(path, name.base, name.limit) if not _is_elsewhere(spool, p)]
        except FileNotFoundError:
            continue  # drained meanwhile
        except OSError as error:
            found.odd.append(Odd(path, f"cannot be read: {error.strerror}"))
            continue
        found.groups += 1
        for place in places:
            found.routes.setdefault(place.route, []).append(place)
        if name.kind == LEFT:
            found.left.update(place.route for place in places)
    return found


def pending(spool: str) -> tuple[int, int, int]:
    """Group files in ``spool``, messages in them that are in no ``new/`` yet, and the octets of those."""
    found = look(spool)
    sizes = [place.size for places in found.routes.values() for place in places]
    return found.groups, len(sizes), sum(sizes)


def _places(path: str, base: str, limit: int | None) -> Iterator[Place]:
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        for part in scan(fd, base, size if limit is None else min(size, limit)):
            if isinstance(part, Record):
                yield from part.places
    finally:
        os.close(fd)


def _is_elsewhere(spool: str, place: Place) -> bool:
    home = f"{spool}/{names.OUT}/{place.route}"
    key = place.name.partition(".")[0]
    return os.path.exists(f"{home}/{names.NEW}/{place.name}") or os.path.exists(f"{home}/{names.SEALED}/{key}")


def _reason(path: str) -> str:
    try:
        with open(path + REASON, encoding="utf-8", errors="backslashreplace") as file:
            return ": " + file.read(1000).strip()
    except OSError:
        return ""
