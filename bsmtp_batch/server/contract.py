"""What a session of the daemon is given to work with; nothing here knows of sockets or files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bsmtp_batch.edge.sockets import Channel
from bsmtp_batch.reception.contract import UNLIMITED, Limits, Sink
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.sasl.values import Certificate, Verifier
from bsmtp_batch.wire.session import Session


@dataclass(frozen=True)
class Client:
    """Who is at the other end: the ``address`` the connection came from, and the certificate TLS was begun with."""

    address: str
    certificate: Certificate | None = None


class Accounts(Verifier, Protocol):
    """What is asked about accounts (:class:`bsmtp_batch.accounts.verify.StoredVerifier`)."""

    def offered(self, *, clear: bool, certificate: bool) -> tuple[bytes, ...]:
        """The mechanisms of AUTH, best first; ``clear``: a password may be sent as it is, ``certificate``: the client
        showed one."""


class Turn(Protocol):
    """Mail that is held for one session: to be sent after the line has been turned round, then let go."""

    def send(self, channel: Channel, session: Session) -> None:
        """Send it over ``channel``, on which we are the client of ``session`` now; blocks until that is done, never
        raises. What the far side did not say yes to stays."""

    def end(self) -> None:
        """Have :meth:`send` end once nothing waits any more, although it was to stay; from any thread, never blocks."""

    def close(self) -> None:
        """Let go of it; never blocks, never raises."""


class Outbound(Protocol):
    """The way to what waits for an account."""

    def hold(self, account: str, domains: tuple[bytes, ...], *, stay: bool) -> Turn | Reply:
        """Seal and hold what waits for ``account`` in ``domains`` (none: in all it may have), or the reply to ATRN that
        says why not (450, 451, 453). ``stay``: there need not be any mail yet. May block."""


class Triggers(Protocol):
    """The ways to have a push started from outside."""

    def etrn(self, node: bytes, option: bytes, client: Client, account: str | None) -> Reply:
        """The reply to ETRN; what it starts runs elsewhere."""

    def connected(self, client: Client) -> None:
        """A client connected, moved no mail and said QUIT."""


@dataclass(frozen=True)
class Hub:
    """What the sessions of one listener share.

    ``name`` is what we call ourselves. ``starttls``: it can be had. ``clear``: a password is taken without TLS, because
    the listener says so. ``etrn``: it is offered. ``sink`` gives the place for what an account hands in, or None.
    ``nonce`` gives fresh random octets for each login. ``tell`` gets a line for the log.
    """

    name: str
    accounts: Accounts
    outbound: Outbound
    triggers: Triggers
    sink: Callable[[str], Sink | None]
    nonce: Callable[[], bytes]
    tell: Callable[[str], None]
    starttls: bool = False
    clear: bool = False
    etrn: bool = False
    limits: Limits = UNLIMITED
