"""The way in: a connection to the provider, protected, on which it knows who we are."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

from bsmtp_batch.edge.sockets import SocketChannel, connect_tcp
from bsmtp_batch.edge.tls import client_context, words
from bsmtp_batch.errors import Setting
from bsmtp_batch.odmr.address import Place
from bsmtp_batch.odmr.standing import Heard, Stop
from bsmtp_batch.replay.contract import Unreachable
from bsmtp_batch.replay.smtp import Declined, SmtpConnection
from bsmtp_batch.wire.events import Reply, Request, Verb
from bsmtp_batch.wire.sasl.client import PREFERENCE, ClientLogin, choose
from bsmtp_batch.wire.sasl.values import EXTERNAL
from bsmtp_batch.wire.session import Protocol, Role, Session

CONNECT = 30.0
"""Seconds for a connection to come about."""
HANDSHAKE = 60.0
"""Seconds for TLS to come about."""

Mode = Literal["none", "starttls", "implicit"]


class Wrong(Unreachable):
    """Somebody has to change a setting, here or at the provider's, before mail can be collected."""

    code = 78


@dataclass(frozen=True)
class Access:
    """How the connection is protected, and what we log in with.

    But for ``none`` the certificate of the provider has to be good, by ``ca_file`` or (``""``) by what the system
    trusts. ``cert_file`` and ``key_file`` are our own certificate, which stands for us where the provider offers
    EXTERNAL. ``user`` with neither certificate nor ``password``, and no user, log in nowhere.
    """

    mode: Mode = "starttls"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: bytes = b""
    password: bytes = field(default=b"", repr=False)


class Line:
    """A connection with the provider that is ours: ``channel`` is below it, ``session`` says how far it has come."""

    def __init__(self, channel: SocketChannel, stop: Stop, *, secure: bool, patience: float) -> None:
        self.raw = channel
        self.channel = Heard(channel, stop)
        self.session = Session(Role.CLIENT, secure=secure)
        self.connection = SmtpConnection(self.channel, Protocol.SMTP, session=self.session, patience=patience)

    def offers(self, keyword: bytes) -> bool:
        """Whether the provider named ``keyword`` in its last reply to EHLO."""
        return keyword in self.session.extensions

    def ask(self, request: Request) -> Reply:
        """The reply to ``request``. Raises :class:`~bsmtp_batch.replay.contract.Unreachable`."""
        return self.connection.ask(request)

    def close(self) -> None:
        """End it, politely where we are still the client; never raises."""
        if self.session.role is Role.CLIENT and self.session.allows(Verb.QUIT):
            self.connection.close()
        else:
            self.channel.close()


class Provider:
    """The server at ``place``; ``node`` is how we introduce ourselves, ``patience`` stretches the time-outs.

    Raises :class:`~bsmtp_batch.errors.Setting` when the certificates of ``access`` cannot be used.
    """

    def __init__(self, place: Place, access: Access, *, node: str, patience: float = 1.0) -> None:
        self.place = place
        self.patience = patience
        self._access = access
        self._node = node
        try:
            self._context = client_context(
                verify=access.mode != "none",
                ca_file=access.ca_file,
                cert_file=access.cert_file,
                key_file=access.key_file,
            )
        except OSError as error:
            files = ", ".join(name for name in (access.ca_file, access.cert_file, access.key_file) if name)
            raise Setting(
                f"a certificate or key cannot be used ({files}): {error.strerror or error}",
                safe="Nothing was said to the provider",
                next="name readable files in PEM, cert_file and key_file of one pair",
            ) from error

    @property
    def name(self) -> str:
        """What people call it, without secrets: the URL."""
        return str(self.place)

    def connect(self, stop: Stop, *, atrn: bool = True) -> Line:
        """A connection on which we are logged in, and, with ``atrn``, which can be turned round.

        Raises :class:`~bsmtp_batch.replay.contract.Unreachable`, and its kind :class:`Wrong`.
        """
        try:
            with stop.open():
                channel = connect_tcp(self.place.host, self.place.port, CONNECT * self.patience)
        except (OSError, UnicodeError) as error:  # a name that no resolver takes is a UnicodeError
            reason = getattr(error, "strerror", None) or str(error)
            raise Unreachable(f"it cannot be reached: {reason}") from error
        line = Line(channel, stop, secure=self._access.mode == "implicit", patience=self.patience)
        try:
            self._enter(line, atrn=atrn)
        except OSError as error:
            channel.close()
            raise Unreachable(words(error)) from error
        except BaseException:
            line.close()
            raise
        return line

    def _enter(self, line: Line, *, atrn: bool) -> None:
        if self._access.mode == "implicit":
            self._begin_tls(line)
        line.connection.greet(self._node)
        if self._access.mode == "starttls":
            self._ask_for_tls(line)
        if atrn and not line.offers(b"ATRN"):
            raise Wrong("it does not offer ATRN: is this the port for it, and the right server?")
        self._log_in(line)

    def _begin_tls(self, line: Line) -> None:
        line.raw.encrypt(self._context, self.place.host, HANDSHAKE * self.patience)

    def _ask_for_tls(self, line: Line) -> None:
        """Whoever takes STARTTLS away is told nothing more, not even that we leave."""
        if not line.offers(b"STARTTLS"):
            line.channel.close()
            raise Unreachable('it does not offer STARTTLS, and nothing is said in the clear (tls = "starttls")')
        try:
            line.connection.encrypt(lambda: self._begin_tls(line), self._node)
        except Unreachable as failed:  # the server's "no" too
            line.channel.close()
            raise Unreachable(str(failed)) from failed

    def _log_in(self, line: Line) -> None:
        access = self._access
        allowed = (*((EXTERNAL,) if access.cert_file else ()), *(PREFERENCE if access.password else ()))
        if not allowed:
            return
        offered = line.session.extensions.get(b"AUTH", ())
        mechanism = choose(offered, secure=line.session.secure, allowed=allowed)
        if mechanism is None:
            said = b" ".join(offered).decode("ascii", "backslashreplace") or "none"
            clear = "" if line.session.secure else " without showing the password, for there is no TLS"
            raise Wrong(f"it offers no way to log in that we can take{clear}; it offers: {said}")
        nonce = secrets.token_urlsafe(24).encode()
        try:
            line.connection.log_in(ClientLogin(mechanism, access.user, access.password, nonce=nonce))
        except ValueError as error:
            raise Wrong(str(error)) from error
        except Declined as declined:
            raise (Wrong if declined.permanent else Unreachable)(str(declined)) from declined
