"""The customer's mail server as a target: found by MX records or by name, with TLS and a login where these are set."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from bsmtp_batch.dispatch.address import Place
from bsmtp_batch.edge.mx import Dns, Exchanger, Names, NoExchanger, exchanger, exchangers
from bsmtp_batch.edge.sockets import connect_tcp
from bsmtp_batch.edge.tls import client_context, words
from bsmtp_batch.errors import Setting
from bsmtp_batch.replay.contract import Connection, Unreachable
from bsmtp_batch.replay.smtp import Declined, SmtpConnection
from bsmtp_batch.wire.sasl.client import ClientLogin, choose
from bsmtp_batch.wire.session import Protocol

CONNECT = 30.0
"""Seconds for a connection to come about."""
HANDSHAKE = 60.0
"""Seconds for TLS to come about."""
WAYS = 10
"""Addresses that are tried for one connection."""
PORT, PORT_TLS = 25, 465

Mode = Literal["none", "opportunistic", "starttls", "implicit"]


class Misconfigured(Unreachable):
    """Somebody has to change a setting before mail can flow, such as the password; no other server is tried with it."""

    code = 78


@dataclass(frozen=True)
class Security:
    """How a connection is protected: ``mode``; for ``starttls`` and ``implicit`` the certificate has to be good, by
    ``ca_file`` or (``""``) by what the system trusts. ``user`` (``b""``: nobody) logs in with ``password``, which no
    server is shown whose certificate was not good."""

    mode: Mode = "opportunistic"
    ca_file: str = ""
    user: bytes = b""
    password: bytes = field(default=b"", repr=False)

    @property
    def strict(self) -> bool:
        """Whether nothing is said in the clear."""
        return self.mode in ("starttls", "implicit")


class OpenLine:
    """A connection that is there already, greeted and ready for mail, as a target: there is no second one."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection: Connection | None = connection
        self._name = name

    @property
    def name(self) -> str:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        return self._name

    def connect(self) -> Connection:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        connection, self._connection = self._connection, None
        if connection is None:
            raise Unreachable(f"the connection with {self._name} is over")
        return connection


class CustomerServer:
    """The server at ``place``; ``node`` is how we introduce ourselves, ``names`` who is asked about names, ``patience``
    stretches the time-outs.

    Raises :class:`~bsmtp_batch.errors.Setting` when the certificates of ``security`` cannot be used.
    """

    def __init__(
        self, place: Place, security: Security, *, node: str, names: Names | None = None, patience: float = 1.0
    ) -> None:
        self._place = place
        self._security = security
        self._node = node
        self._names = names or Dns()
        self._patience = patience
        self._port = place.port or (PORT_TLS if security.mode == "implicit" else PORT)
        try:
            self._context = client_context(verify=security.strict, ca_file=security.ca_file)
        except OSError as error:
            raise Setting(
                f"ca_file {security.ca_file} cannot be used: {error.strerror or error}",
                safe="Nothing was sent",
                next="name a readable file with certificates in PEM",
            ) from error

    @property
    def name(self) -> str:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        return str(self._place)

    def connect(self) -> SmtpConnection:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        reasons = []
        for host, address in self._ways():
            try:
                return self._opened(host, address)
            except Misconfigured as wrong:
                raise Misconfigured(f"{self.name}: {host}[{address}]: {wrong}") from wrong
            except Unreachable as unreachable:
                reasons.append(f"{host}[{address}]: {unreachable}")
        raise Unreachable(f"{self.name} takes no mail now: {'; '.join(reasons)}")

    # -- whom to reach -------------------------------------------------------------------------------------------

    def _ways(self) -> Iterator[tuple[str, str]]:
        """Host name and address of each server, in the order to try them. Raises :class:`Unreachable`."""
        found = self._exchangers()
        ways = [(one.name, address) for one in found for address in one.addresses]
        if not ways:
            problems = "; ".join(f"{one.name}: {one.problem or 'it has no address'}" for one in found)
            raise Unreachable(f"{self.name} cannot be reached: {problems}")
        yield from ways[:WAYS]

    def _exchangers(self) -> list[Exchanger]:
        domain = self._place.host
        if not self._place.lookup:
            return [exchanger(domain, self._names)]
        try:
            found = exchangers(domain, self._names, node=self._node)
        except NoExchanger as none:
            raise Unreachable(f"{self.name}: {none}") from none
        if not self._security.strict:
            return found
        # Whoever can forge an answer of DNS has a good certificate for a name of his own.
        inside = [one for one in found if f".{one.name.lower()}".endswith(f".{domain}")]
        if not inside:
            raise Misconfigured(
                f"{self.name}: DNS names {found[0].name}, which is not below {domain}, and DNS is not to be believed"
                f" where the certificate has to be good: write smtp://[{found[0].name}] if that is the right server"
            )
        return inside

    # -- one server ----------------------------------------------------------------------------------------------

    def _opened(self, host: str, address: str) -> SmtpConnection:
        """A connection that is ready for a job. Raises :class:`Unreachable`."""
        if self._security.mode in ("none", "implicit"):
            return self._attempt(host, address, ask=False)
        try:
            return self._attempt(host, address, ask=True)
        except _NoTls as failed:
            if self._security.strict:
                raise
            try:
                return self._attempt(host, address, ask=False)
            except Unreachable as unreachable:
                raise Unreachable(f"{failed}, and without TLS: {unreachable}") from unreachable

    def _attempt(self, host: str, address: str, *, ask: bool) -> SmtpConnection:
        implicit = self._security.mode == "implicit"
        try:
            channel = connect_tcp(address, self._port, CONNECT * self._patience)
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from error

        def begin() -> None:
            channel.encrypt(self._context, host, HANDSHAKE * self._patience)

        connection = SmtpConnection(channel, Protocol.SMTP, secure=implicit, patience=self._patience)
        try:
            if implicit:
                begin()
            connection.greet(self._node)
            if ask:
                self._ask_for_tls(connection, begin)
            self._log_in(connection)
        except OSError as error:
            channel.close()
            raise Unreachable(words(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask_for_tls(self, connection: SmtpConnection, begin: Callable[[], None]) -> None:
        strict = self._security.strict
        if b"STARTTLS" not in connection.extensions:
            if strict:
                raise Unreachable('it does not offer STARTTLS, and nothing is sent in the clear (tls = "starttls")')
            return
        try:
            connection.encrypt(begin, self._node)
        except Declined:
            if strict:
                raise
        except Unreachable as failed:
            raise _NoTls(str(failed)) from failed

    def _log_in(self, connection: SmtpConnection) -> None:
        security = self._security
        if not security.user:
            return
        offered = connection.extensions.get(b"AUTH", ())
        mechanism = choose(offered, secure=security.strict)
        if mechanism is None:
            said = b" ".join(offered).decode("ascii", "backslashreplace") or "none"
            shown = (
                "" if security.strict else ' without showing the password (tls = "starttls" or "implicit" protects it)'
            )
            raise Misconfigured(f"it offers no way to log in that we know{shown}; it offers: {said}")
        nonce = secrets.token_urlsafe(24).encode()
        try:
            connection.log_in(ClientLogin(mechanism, security.user, security.password, nonce=nonce))
        except Declined as declined:
            raise (Misconfigured if declined.permanent else Unreachable)(str(declined)) from declined


class _NoTls(Unreachable):
    """STARTTLS was begun and did not come about; this connection is lost."""
