"""What takes mail from the MTA by LMTP: from the settings to listening sockets and an intake.

Apart from ``serving.py``, which loads all that customers need: where there is only LMTP, ``serve`` stays small.
"""

from __future__ import annotations

import errno
import os
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from bsmtp_batch.cli.words import socket_directory
from bsmtp_batch.edge.listening import Socket, UnixListener, listening, without_detail
from bsmtp_batch.edge.log import tell
from bsmtp_batch.edge.user import user_name
from bsmtp_batch.errors import Later
from bsmtp_batch.intake.desk import Bounds, Desk
from bsmtp_batch.intake.routing import Routes, plain
from bsmtp_batch.intake.server import Intake

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings

_HERE = ("127.0.0.0/8", "::1/128")


class Taking:
    """Binds the sockets when it is made, and nothing else: that may have to be done as root.

    Raises :class:`~bsmtp_batch.errors.Problem`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._from = [ip_network(network) for network in settings.serve.lmtp_from or _HERE]
        self._unix: list[UnixListener] = []
        self._tcp: list[Socket] = []
        try:
            for where in settings.serve.lmtp:
                self._bind(where)
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """The places, in words."""
        names = [one.getsockname()[:2] for one in self._tcp]
        return ", ".join(
            [f"unix:{one.path}" for one in self._unix]
            + [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in names]
        )

    def intake(self) -> Intake:
        """What serves these sockets; to be made as the owner of the spool."""
        settings = self._settings
        spool, serve = settings.node.spool, settings.serve
        domains = {plain(domain.encode()): name for name, route in settings.routes.items() for domain in route.domains}
        desk = Desk(
            settings.node.name, spool, Routes(spool, domains, serve.lmtp_route), Bounds(octets=serve.lmtp_max_size)
        )
        intake = Intake(desk, spool, tell)
        for unix in self._unix:
            intake.reactor.listen(unix.socket, intake.accept(lambda _: True))
        for tcp in self._tcp:
            intake.reactor.listen(tcp, intake.accept(self._allowed))
        return intake

    def close(self) -> None:
        """Take the sockets away."""
        for unix in self._unix:
            unix.remove()
            unix.socket.close()
        for tcp in self._tcp:
            tcp.close()

    def _bind(self, where: str) -> None:
        try:
            if where.startswith("unix:"):
                self._unix.append(UnixListener(where.removeprefix("unix:"), int(self._settings.serve.lmtp_mode, 8)))
            else:
                host, _, port = where.rpartition(":")
                self._tcp.append(listening(host.strip("[]"), int(port)))
        except OSError as error:
            raise Later(
                f"{where} cannot be listened on: {without_detail(error)}",
                safe="Nothing was started; the MTA keeps its mail",
                next=_advice(where, error),
            ) from error

    def _allowed(self, address: object) -> bool:
        assert isinstance(address, tuple)
        client = ip_address(str(address[0]).partition("%")[0].removeprefix("::ffff:"))
        return any(client in network for network in self._from)


def _advice(where: str, error: OSError) -> str:
    """What somebody does about it whose daemon cannot listen at ``where``."""
    directory = os.path.dirname(where.removeprefix("unix:"))
    if error.errno == errno.ENOENT:
        return socket_directory(directory)
    if error.errno == errno.EADDRINUSE:
        return "see who has it: ss -lxntp"
    if error.errno == errno.EACCES and where.startswith("unix:"):
        return f"let {user_name()} write to {directory}"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE; take another, such as 2424"
    return "name an address of this machine and a port that is free, or a socket, in [serve] lmtp"
