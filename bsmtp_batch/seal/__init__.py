"""Seal: turn what waits in ``new/`` into batches, one sealer per route."""

from bsmtp_batch.seal.events import Caps, Event, Left, Recovered, Sealed, SetAside, Waiting
from bsmtp_batch.seal.stage import is_due, seal_route, waiting

__all__ = [
    "Caps",
    "Event",
    "Left",
    "Recovered",
    "Sealed",
    "SetAside",
    "Waiting",
    "is_due",
    "seal_route",
    "waiting",
]
