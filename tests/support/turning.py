"""A hub's outbound side with the mail in real spools, and a customer at the far end of a channel in memory."""

from __future__ import annotations

import queue
import threading

from support.dispatching import Told
from support.fragments import fill, make_route

from bsmtp_batch.dispatch import Terms
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.seal import Caps, seal_route
from bsmtp_batch.server.outbound import Means, Waiting
from bsmtp_batch.spool.store import Route
from bsmtp_batch.wire.events import (
    Atrn,
    Closed,
    Content,
    Data,
    EndOfData,
    Helo,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
)
from bsmtp_batch.wire.session import Role, Session

NODE = "hub.example"
OK = Reply(250, b"2.0.0", b"ok")


class Customer:
    """The channel that a turn sends over, and who hears it: a server that takes all there is.

    ``heard`` is what happened, in order. With ``die_at`` the line is gone when that has been heard so often.
    """

    def __init__(self, *, die_at=None, quiet=0, offers=b"site.example\nPIPELINING\n8BITMIME"):
        self.session = Session(Role.SERVER)
        self.session.send(Reply(220, b"", b"site.example"))
        self.heard, self.contents = [], []
        self._out = queue.Queue()
        self._text = b""
        self._offers = offers
        self._die_at, self._dead = die_at, False
        self.flights = 0
        self.idle = threading.Semaphore(0)
        """Released each time the hub waits on a line on which nothing is left to say."""
        self._out.put(b"220 site.example\r\n")

    def send(self, data, seconds):
        if self._dead:
            raise ConnectionResetError("reset")
        self.flights += 1
        out = b""
        events = self.session.receive(bytes(data))
        while events:
            for event in events:
                out += self._answer(event)
                if self._dead:
                    if out:
                        self._out.put(out)  # what came before in the same flight was answered
                    self._out.put(b"")
                    return
            events = self.session.resume()
        if out:
            self._out.put(out)

    def _answer(self, event):
        name = type(event).__name__
        if name != "Content":
            self.heard.append(name)
        if self._die_at and self.heard.count(self._die_at[0]) == self._die_at[1]:
            self._dead = True
            return b""
        match event:
            case Helo():
                return self.session.send(Reply(250, b"", self._offers))
            case MailFrom() | RcptTo() | Noop():
                return self.session.send(OK)
            case Data():
                return self.session.send(Reply(354, b"", b"go on"))
            case Content(data):
                self._text += data
                return b""
            case EndOfData():
                self.contents.append(self._text)
                self._text = b""
                return self.session.send(OK)
            case Quit():
                return self.session.send(Reply(221, b"2.0.0", b"bye"))
            case Closed():
                return b""
        raise AssertionError(event)

    def receive(self, seconds):
        if seconds < 1 and self._out.empty() and not self._dead:
            self.idle.release()
        try:
            return self._out.get(timeout=min(seconds, 20))
        except queue.Empty:
            raise TimeoutError from None

    def hang_up(self):
        """The customer is gone, and the hub hears it."""
        self._dead = True
        self._out.put(b"")

    def close(self):
        self.heard.append("closed")
        self.hang_up()


class Office:
    """A hub with ``routes`` in the spool ``base``: those of an account, aurora, or one each of the account it is
    called after, as ``owners`` has it."""

    def __init__(self, base, *routes, rights=None, owners=None):
        self.routes = {name: make_route(base, name) for name in routes or ("site.example",)}
        self.base, self.told, self.log, self.time = base, Told(), [], 0.0
        self.rights = {name: frozenset({name, f"www.{name}"}) for name in self.routes} if rights is None else rights
        self.sealing = self._seal
        self.waiting = Waiting(
            Means(
                node=NODE,
                rights=self._rights,
                route=lambda name: Route(str(base), name),
                seal=lambda route: self.sealing(route),
                terms=Terms(NODE),
                watcher=self.told,
                open_ledger=self.ledger,
                tell=self.log.append,
                now=lambda: self.time,
            )
        )

        self.owners = owners

    def _rights(self, account):
        if self.owners:
            return {self.owners[account]: frozenset({self.owners[account]})}
        return self.rights if account == "aurora" else {}

    def _seal(self, route):
        list(seal_route(route, node=NODE, caps=Caps(), reserve_size=0))

    def ledger(self):
        return Ledger(f"{self.base}/ledger.db")

    def fill(self, count, route="site.example", *, first=1):
        """Hand in messages to ``route``; their contents as they stand on the wire."""
        made = fill(self.routes[route], count, first=first)
        return [one.partition(b"DATA\r\n")[2].removesuffix(b".\r\n") for one in made]

    def hold(self, *domains, account="aurora", stay=False):
        return self.waiting.hold(account, tuple(domain.encode() for domain in domains), stay=stay)


def turned():
    """The hub's side of a session that has just been turned round."""
    session = Session(Role.SERVER)
    session.send(Reply(220, b"", b"hub"))
    session.receive(b"EHLO site.example\r\n")
    session.send(Reply(250, b"", b"hub"))
    (asked,) = session.receive(b"ATRN\r\n")
    assert asked == Atrn()
    session.send(OK)
    session.turn()
    return session
