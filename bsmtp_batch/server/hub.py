"""One session on a hub's ODMR port, from the greeting to the turn (RFC 2645): events in, replies out, no socket.

Before it is logged in a client may say hello, begin TLS, log in, ask for a push (ETRN) and leave. After that it may
hand mail in as to any server, and ask for its own with ATRN. What it may have comes from its account and from nothing
it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from bsmtp_batch.reception.session import Reception
from bsmtp_batch.server.contract import Client, Hub, Turn
from bsmtp_batch.wire.events import Atrn, Auth, AuthResponse, Etrn, Event, MailFrom, Noop, Quit, Reply, StartTls
from bsmtp_batch.wire.sasl.server import ServerLogin
from bsmtp_batch.wire.sasl.values import Accepted, Challenge, Claim, Refused, Step
from bsmtp_batch.wire.session import Session

STAY = b"XSTAY"
"""What we offer in EHLO, and what a client of ours says behind NOOP before ATRN: the turned line is to stay open."""
TRIES = 3
"""Wrong proofs in one connection."""
PAUSE = 3.0
"""Seconds that the answer to each of them takes."""


class Next(Enum):
    """What the caller has to do once the replies so far are written."""

    READ = "read"
    TLS = "tls"
    CLAIM = "claim"
    TURN = "turn"
    CLOSE = "close"


class HubSession:
    """Answers the events of ``session``, in the role of the server. May block: accounts and spools are looked at."""

    def __init__(self, session: Session, hub: Hub, client: Client) -> None:
        self._session = session
        self._hub = hub
        self._client = client
        self._login: ServerLogin | None = None
        self._wrong = 0
        self._stay = False
        self._reception = self._receiving(None)
        self.account: str | None = None
        """Who has logged in."""
        self.turn: Turn | None = None
        """What is to be sent when :attr:`next` is ``TURN``; the caller closes it."""
        self.next = Next.READ
        self.claim: tuple[ServerLogin, Claim] | None = None
        """A proof to be looked at when :attr:`next` is ``CLAIM``; the verdict goes to :meth:`settled`."""
        self.pause = 0.0
        """Seconds to wait before what was returned is written, what a wrong guess costs; the caller sets it back."""

    def greeting(self) -> bytes:
        """The first thing to write."""
        return self._reception.greeting()

    def answer(self, event: Event) -> bytes:
        """The octets to write for ``event``; then look at :attr:`next`."""
        match event:
            case StartTls():
                out = self._starttls()
            case Auth():
                out = self._auth(event)
            case AuthResponse():
                out = self._respond(event)
            case Atrn(domains):
                out = self._atrn(domains)
            case Etrn(node, option):
                out = self._session.send(self._etrn(node, option))
            case MailFrom() if self.account is None:
                out = self._session.send(Reply(530, b"5.7.0", b"authentication required"))
            case _:
                self._noted(event)
                out = self._reception.answer(event)
        if self._reception.over:
            self.next = Next.CLOSE
        return out

    def settled(self, verdict: Challenge | Accepted | Refused) -> bytes:
        """The octets to write for the ``verdict`` on :attr:`claim`."""
        self.claim, self.next = None, Next.READ
        return self._stepped(verdict)

    def upgraded(self, client: Client) -> None:
        """TLS is up, and ``client`` is who came with it; what was said before is forgotten (RFC 3207 section 4.2), but
        for wrong guesses."""
        self._client = client
        self.account = self._login = None
        self._stay = False
        self._reception = self._receiving(None)
        self.next = Next.READ

    def goodbye(self, reason: bytes) -> bytes:
        """The 421 with which we end it ourselves."""
        self.next = Next.CLOSE
        return self._reception.goodbye(reason)

    def close(self) -> None:
        """The line is gone."""
        self._reception.close()
        self.next = Next.CLOSE

    # --- what is offered ----------------------------------------------------------------------------------------

    def _receiving(self, account: str | None) -> Reception:
        sink = self._hub.sink(account) if account is not None else None
        return Reception(self._session, name=self._hub.name, sink=sink, limits=self._hub.limits, extra=self._extensions)

    def _extensions(self) -> Sequence[bytes]:
        """ATRN and AUTH stand in every EHLO, whoever asks: clients look for them before they log in (RFC 2645 5.1)."""
        lines = [b"ATRN", b" ".join((b"AUTH", *self._mechanisms())), STAY]
        if self._hub.starttls and not self._session.secure:
            lines.append(b"STARTTLS")
        if self._hub.etrn:
            lines.append(b"ETRN")
        return lines

    def _mechanisms(self) -> tuple[bytes, ...]:
        """No password crosses the line in the clear, unless the listener says so."""
        clear = self._session.secure or self._hub.clear
        return self._hub.accounts.offered(clear=clear, certificate=self._client.certificate is not None)

    # --- what is said -------------------------------------------------------------------------------------------

    def _starttls(self) -> bytes:
        if not self._hub.starttls:
            return self._session.send(Reply(502, b"5.5.1", b"there is no TLS here"))
        self.next = Next.TLS
        return self._session.send(Reply(220, b"2.0.0", b"begin TLS"))

    def _auth(self, auth: Auth) -> bytes:
        self._login = ServerLogin(
            self._hub.accounts,
            offered=self._mechanisms(),
            nonce=self._hub.nonce(),
            host=self._hub.name.encode(),
            certificate=self._client.certificate,
        )
        return self._stepped(self._login.start(auth))

    def _respond(self, response: AuthResponse) -> bytes:
        assert self._login is not None, "a response is read after a 334 only"
        return self._stepped(self._login.go_on(response))

    def _stepped(self, step: Step) -> bytes:
        if isinstance(step, Claim):
            assert self._login is not None
            self.claim, self.next = (self._login, step), Next.CLAIM
            return b""
        if isinstance(step, Accepted):
            self._entered(step.account)
        elif isinstance(step, Refused):
            return self._refused(step)
        return self._session.send(step.reply)

    def _entered(self, account: str) -> None:
        self.account = account
        self._reception = self._receiving(account)
        self._hub.tell(f"odmr {account}: logged in from {self._client.address}")

    def _refused(self, refused: Refused) -> bytes:
        self._hub.tell(f"odmr: login from {self._client.address} refused: {refused.reason}")
        self._wrong += refused.guess
        self.pause = PAUSE if refused.guess else self.pause
        out = self._session.send(refused.reply)
        if self._wrong >= TRIES:
            out += self.goodbye(b"too many failed logins")
        return out

    def _atrn(self, domains: tuple[bytes, ...]) -> bytes:
        if self.account is None:
            return self._session.send(Reply(530, b"5.7.0", b"authentication required"))
        found = self._hub.outbound.hold(self.account, domains, stay=self._stay)
        if isinstance(found, Reply):
            self._hub.tell(f"odmr {self.account}: ATRN answered with {found}")
            return self._session.send(found)
        self.turn = found
        self.next = Next.TURN
        return self._session.send(Reply(250, b"2.0.0", b"ok, now you are the server"))

    def _etrn(self, node: bytes, option: bytes) -> Reply:
        if not self._hub.etrn:
            return Reply(502, b"5.5.1", b"ETRN is not offered here")
        return self._hub.triggers.etrn(node, option, self._client, self.account)

    def _noted(self, event: Event) -> None:
        """What tells something beside its answer."""
        if isinstance(event, Noop) and event.text == STAY:
            self._stay = True
        if isinstance(event, Quit) and self.account is None and not self._reception.taken:
            self._hub.triggers.connected(self._client)
