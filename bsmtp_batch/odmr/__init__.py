"""ODMR as the customer (RFC 2645): make a connection to a provider, have it turned round, and be sent our own mail.

The site needs no address that anybody knows and no open port. :mod:`.provider` gets us in, :mod:`.contact` is one
contact from the connection to the last message, :mod:`.standing` keeps such a connection open and makes it anew. Where
messages go is the caller's business: a sink of :mod:`bsmtp_batch.reception`. So is what goes up first over the same
connection: a function that is given the connection.
"""

from bsmtp_batch.odmr.contact import Event, Means, Outcome, Terms, Watcher, collect
from bsmtp_batch.odmr.provider import Access, Provider, Wrong
from bsmtp_batch.odmr.standing import Stop, Stopped, stand

__all__ = [
    "Access",
    "Event",
    "Means",
    "Outcome",
    "Provider",
    "Stop",
    "Stopped",
    "Terms",
    "Watcher",
    "Wrong",
    "collect",
    "stand",
]
