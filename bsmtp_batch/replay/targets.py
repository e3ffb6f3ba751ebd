"""The targets behind the contract: SMTP and LMTP servers, ``sendmail -bs``, and, in its own module, a Maildir."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bsmtp_batch.edge.sockets import SocketChannel, connect_tcp, connect_unix
from bsmtp_batch.replay import address
from bsmtp_batch.replay.contract import Target, Unreachable
from bsmtp_batch.replay.maildir import MaildirTarget
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.wire.session import Protocol

if TYPE_CHECKING:
    from bsmtp_batch.edge.process import Child

CONNECT = 30.0
"""Seconds for a connection to come about."""
FINISH = 60.0
"""Seconds that ``sendmail -bs`` may work on after QUIT; what it took is in its queue by then."""


def target_of(place: address.Place, *, node: str, patience: float = 1.0) -> Target:
    """The target at ``place``; ``node`` is how we introduce ourselves, ``patience`` stretches the time-outs."""
    match place:
        case address.Server(host, port, lmtp):
            name = f"{'lmtp' if lmtp else 'smtp'}://{f'[{host}]' if ':' in host else host}:{port}"
            protocol = Protocol.LMTP if lmtp else Protocol.SMTP
            return ServerTarget(name, protocol, lambda: connect_tcp(host, port, CONNECT * patience), node, patience)
        case address.Socket(path):
            return ServerTarget(
                f"lmtp://{path}", Protocol.LMTP, lambda: connect_unix(path, CONNECT * patience), node, patience
            )
        case address.Program(path):
            return ServerTarget(f"sendmail:{path}", Protocol.SMTP, lambda: _started(path), node, patience)
        case address.Maildir(path):
            return MaildirTarget(path)


def _started(path: str) -> Child:
    from bsmtp_batch.edge.process import Child  # who talks to a server needs no memory for programs

    return Child([path, "-bs"])


class ServerTarget:
    """Something that speaks SMTP or LMTP on the channel that ``reach`` opens."""

    def __init__(
        self, name: str, protocol: Protocol, reach: Callable[[], SocketChannel | Child], node: str, patience: float
    ) -> None:
        self._name = name
        self._protocol = protocol
        self._reach = reach
        self._node = node
        self._patience = patience

    @property
    def name(self) -> str:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        return self._name

    def connect(self) -> SmtpConnection:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        try:
            channel = self._reach()
        except OSError as error:
            raise Unreachable(f"{self._name} cannot be reached: {error.strerror or error}") from error
        if isinstance(channel, SocketChannel):
            connection = SmtpConnection(channel, self._protocol, patience=self._patience)
        else:
            connection = SmtpConnection(
                channel,
                self._protocol,
                patience=self._patience,
                complaint=channel.complaint,
                part=lambda: channel.finish(FINISH),
            )
        try:
            connection.greet(self._node)
        except BaseException as error:
            connection.close()
            if isinstance(error, Unreachable):
                raise Unreachable(f"{self._name} takes no mail now: {error}") from error
            raise
        return connection
