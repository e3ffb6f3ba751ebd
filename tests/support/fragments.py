"""Fragments as ``deliver`` leaves them, written without it."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from bsmtp_batch.batch.writer import END, transaction
from bsmtp_batch.spool import names, routes
from bsmtp_batch.spool.store import Route
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import stuff


def make_route(spool: Path, name: str = "example.org") -> Route:
    """A route with nothing in it, and no reserve."""
    return routes.add(str(spool), name, names.Limits(), reserve_size=0)


def clone(route: Route, spool: Path) -> Route:
    """The same route with the same content in another spool: quicker than making it step by step."""
    shutil.copytree(route.spool, spool, symlinks=True)
    return Route(str(spool), route.name)


def text(sender: str, *recipients: str, body: bytes = b"Subject: x\r\n\r\nhello\r\n", params=()) -> bytes:
    """One complete transaction; ``params`` for its MAIL."""
    mail = Mail(sender.encode(), params)
    return transaction(mail, [Rcpt(r.encode()) for r in recipients]) + stuff(body) + END


def put(route: Route, data: bytes, *, queue_id: str = "", age: float = 0) -> str:
    """Hand ``data`` in to ``route``; gives the fragment's name. ``age`` in seconds."""
    digest = hashlib.sha256(data)
    key = names.key_of(queue_id.encode(), digest.digest())
    name = names.fragment_name(key, digest.hexdigest())
    path = Path(route.at(names.NEW, name))
    path.write_bytes(data)
    if age:
        when = path.stat().st_mtime - age
        os.utime(path, (when, when))
    return name


def message(number: int) -> bytes:
    """The ``number``-th of many different transactions."""
    return text(f"a{number}@example.net", f"b{number}@example.org", body=b"Subject: %d\r\n\r\n.dot\r\n" % number)


def fill(route: Route, count: int, *, first: int = 1) -> list[bytes]:
    """Hand in ``count`` different messages, in order of age, and give them."""
    made = [message(n) for n in range(first, first + count)]
    for place, data in enumerate(made):
        put(route, data, queue_id=f"Q{first + place}", age=1000 - place)
    return made


def tree(path: str | Path) -> dict[str, bytes]:
    """Every file below ``path``, but locks: relative name and content."""
    root = Path(path)
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and not p.is_symlink() and p.suffix != ".lock"
    }
