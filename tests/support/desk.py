"""One session on a hub's port without a socket: a :class:`HubSession` with everything around it played."""

from __future__ import annotations

import base64
import re

from support.accounts import SECRET, account, seeded, verifier, written

from bsmtp_batch.accounts.verify import Policy
from bsmtp_batch.reception.contract import UNLIMITED
from bsmtp_batch.server.contract import Client, Hub
from bsmtp_batch.server.hub import HubSession, Next
from bsmtp_batch.server.line import _answers
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Role, Session

HELLO = b"EHLO site.example\r\n"
MAIL = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"
POLICIES = {"aurora": Policy(cram_md5=True, certificate="aurora.example"), "boreas": Policy()}


def plain(name="aurora", secret=SECRET):
    """One AUTH PLAIN."""
    return b"AUTH PLAIN " + base64.b64encode(b"\0%s\0%s" % (name.encode(), secret.encode())) + b"\r\n"


def codes(out):
    """The codes of the replies in ``out``, one for each reply."""
    return [int(line[:3]) for line in out.split(b"\r\n") if re.fullmatch(rb"\d{3} .*", line)]


class Turned:
    """A turn that sends nothing."""

    def __init__(self):
        self.closed = self.ended = False

    def send(self, channel, session):
        """Nothing waits."""

    def end(self):
        self.ended = True

    def close(self):
        self.closed = True


class Outbound:
    """Remembers what it was asked for, and gives ``reply`` or a turn."""

    def __init__(self):
        self.reply = None
        self.asked = []

    def hold(self, account, domains, *, stay):
        self.asked.append((account, domains, stay))
        return self.reply or Turned()


class Triggers:
    """Remembers what was triggered."""

    def __init__(self):
        self.asked = []
        self.knocks = []

    def etrn(self, node, option, client, account):
        self.asked.append((node, option, client.address, account))
        return Reply(250, b"2.0.0", b"ok")

    def connected(self, client):
        self.knocks.append(client.address)


class Deposit:
    def __init__(self, sink):
        self.sink, self.text = sink, b""

    def write(self, data):
        self.text += data

    def commit(self):
        self.sink.append(self.text)
        return (Reply(250, b"2.0.0", b"stored"),)

    def abort(self):
        self.text = b""


class Sink(list):
    """What was handed in, as it stood on the wire."""

    def begin(self, mail, rcpts):
        return Deposit(self)


def check(encoded, password):
    """In place of Argon2id: the hash belongs to an account, and the password is everybody's."""
    return encoded.endswith(account("aurora", hashed=False).argon2[-20:]) and password == SECRET.encode()


class Desk:
    """The hub, and a client who came from ``address``."""

    def __init__(self, path, *, secure=False, certificate=None, address="192.0.2.7", policies=None, **more):
        written(path / "secrets", *(account(name, hashed=False) for name in policies or POLICIES))
        self.verifier = verifier(path / "secrets", policies or POLICIES, check=check)
        self.outbound, self.triggers, self.sinks, self.log = Outbound(), Triggers(), {}, []
        chance = seeded(7)
        settings = {"starttls": True, "clear": False, "etrn": True, "limits": UNLIMITED} | more
        self.hub = Hub(
            name="hub.example",
            accounts=self.verifier,
            outbound=self.outbound,
            triggers=self.triggers,
            sink=lambda name: self.sinks.setdefault(name, Sink()),
            nonce=lambda: base64.b64encode(chance(18)),
            tell=self.log.append,
            **settings,
        )
        self.wire = Session(Role.SERVER, secure=secure)
        self.session = HubSession(self.wire, self.hub, Client(address, certificate))
        self.pauses = []
        self.greeting = self.session.greeting()

    def say(self, *pieces):
        """The octets written for ``pieces``, with proofs looked at as they come."""
        out = b""
        for piece in pieces:
            out += _answers(self.wire, self.session, piece)
            while self.session.claim is not None:
                out += self.session.settled(self.session.claim[1].settle())
                self.pauses.append(self.session.pause)
                self.session.pause = 0.0
                out += _answers(self.wire, self.session, None)
            if self.session.next is Next.TLS:
                self.wire.upgraded()
                self.session.upgraded(Client("192.0.2.7"))
        return out

    def codes(self, *pieces):
        """The codes of the replies to ``pieces``."""
        return codes(self.say(*pieces))
