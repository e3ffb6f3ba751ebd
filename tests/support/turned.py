"""A daemon with accounts whose lines are turned round, and what was sent over these."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from support.desk import Desk
from support.mailcheck import read_batch
from support.served import Served
from support.turning import Office

from bsmtp_batch.accounts.verify import Policy


@contextmanager
def hub(path, names):
    """A daemon with a route for each of the accounts ``names``; the office behind it, and its port."""
    (path / "desk").mkdir()
    owners = {name: f"{name}.example" for name in names}
    desk = Desk(path / "desk", policies={name: Policy(cram_md5=True) for name in names})
    office = Office(path / "spool", *owners.values(), owners=owners)
    object.__setattr__(desk.hub, "outbound", office.waiting)
    with Served(desk.hub) as served:
        yield office, served.port
    assert served.told == []


def stuffed(parcel):
    """The content of ``parcel`` as it stands on the wire."""
    return parcel.content.replace(b"\r\n.", b"\r\n..")


def numbered(route):
    """The contents of the batches that were sent, dots doubled, by the batch's name and their number in it."""
    found = {}
    for path in Path(route.at("kept")).glob("*.bsmtp"):
        for number, parcel in enumerate(read_batch(path.read_bytes()), 1):
            found[path.name, number] = stuffed(parcel)
    return found
