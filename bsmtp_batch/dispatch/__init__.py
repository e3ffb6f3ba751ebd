"""Dispatch: send the messages of a route's sealed batches, one by one, to the mail server of the customer.

Where a courier hands over a whole batch, this hands over mail: over a connection that is made for it
(``push smtp://``), or over one that the customer made and turned round (ODMR). Each recipient's outcome is in the
ledger before the next message is finished, as in an import, and the batch is released when all of them are final.
"""

from bsmtp_batch.dispatch.batch import Terms
from bsmtp_batch.dispatch.events import Summary, Watcher
from bsmtp_batch.dispatch.route import dispatch_route, dispatch_routes
from bsmtp_batch.dispatch.server import CustomerServer, OpenLine, Security
from bsmtp_batch.handover.events import Event

__all__ = [
    "CustomerServer",
    "Event",
    "OpenLine",
    "Security",
    "Summary",
    "Terms",
    "Watcher",
    "dispatch_route",
    "dispatch_routes",
]
