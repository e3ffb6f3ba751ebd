"""What a reception and the place where its messages go agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import Reply


class Deposit(Protocol):
    """One message on its way in, from its DATA on."""

    def write(self, data: bytes) -> None:
        """A piece of the content as it stands on the wire, dots doubled. Never raises: what goes wrong is told by
        :meth:`commit`, for until the final dot nobody listens."""

    def commit(self) -> Sequence[Reply]:
        """The content is complete. One reply, which says whether we are responsible now (RFC 5321 section 6.1), or one
        for each recipient in their order where these differ. Never raises."""

    def abort(self) -> None:
        """The message will not be completed: forget it. Never raises."""


class Sink(Protocol):
    """Where messages go."""

    def begin(self, mail: Mail, rcpts: Sequence[Rcpt]) -> Deposit | Reply:
        """A message with this envelope is about to come; a reply of 4yz or 5yz where it cannot be taken."""


@dataclass(frozen=True)
class Limits:
    """What one session may do.

    ``octets`` of a message as RFC 1870 counts them (0: no limit), ``recipients`` of one, ``faults`` (commands that were
    refused as malformed or misplaced) before the connection is closed, ``idle`` commands in a row that move no mail.
    """

    octets: int = 0
    recipients: int = 1000
    faults: int = 20
    idle: int = 100


UNLIMITED = Limits()
"""Any size."""
