"""An LMTP intake on a real socket, in a thread of the test, and a client that says whatever it likes."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from bsmtp_batch.edge.listening import UnixListener, listening
from bsmtp_batch.intake.desk import Bounds, Desk
from bsmtp_batch.intake.line import Patience
from bsmtp_batch.intake.routing import Routes
from bsmtp_batch.intake.server import Intake

NAME = "hub.example"


class Served:
    """An intake for the spool ``spool``, while the ``with`` block lasts."""

    def __init__(self, spool, *, domains=None, fallback="", bounds=None, patience=None, writer=None, tcp=False):
        self.spool = Path(spool)
        self.told = []
        self._clients = []
        desk = Desk(NAME, str(spool), Routes(str(spool), domains or {}, fallback), bounds or Bounds())
        self.intake = Intake(desk, str(spool), self.told.append, patience or Patience(), writer=writer)
        self._unix = UnixListener(str(self.spool / "lmtp"), 0o600)
        self.intake.reactor.listen(self._unix.socket, self.intake.accept(lambda _: True))
        if tcp:
            listener = listening("127.0.0.1", 0)
            self.port = listener.getsockname()[1]
            self.intake.reactor.listen(listener, self.intake.accept(lambda _: True))
        self._thread = threading.Thread(target=self.intake.run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        for client in self._clients:
            client.close()
        self.stop()

    def stop(self):
        """Tell it to end, and wait until it has: what was taken is in its routes then."""
        if self._thread.is_alive():
            self.intake.end()
            self._thread.join(40)
        assert not self._thread.is_alive()
        self._unix.remove()

    def client(self, *, hello=True):
        """A client that has read the greeting, and said LHLO."""
        client = Client(str(self.spool / "lmtp"))
        self._clients.append(client)
        greeting = client.reply()
        assert greeting.startswith(b"220 "), greeting
        if hello:
            client.hello()
        return client

    def kept(self, route):
        """What waits for ``route``, after :meth:`stop`."""
        new = self.spool / "out" / route / "new"
        return sorted(path.read_bytes() for path in new.iterdir())

    def left(self):
        """Files in the ``tmp`` of any route."""
        return [str(path) for path in self.spool.glob("out/*/tmp/*")]


class Client:
    """One connection to ``path``, or to a host and port."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_INET if isinstance(path, tuple) else socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        """Send it."""
        self.socket.sendall(data)

    def reply(self):
        """The next reply, all its lines."""
        lines = [self.file.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(self.file.readline())
        return b"".join(lines)

    def ask(self, data, replies=1):
        """Send, and the replies that come."""
        self.send(data)
        return [self.reply() for _ in range(replies)]

    def hello(self):
        """Say it; what is offered."""
        return self.ask(b"LHLO mta.example\r\n")[0]

    def hand_in(self, text, *rcpts, sender=b"s@client.example"):
        """A whole message, dot and all; the replies to it."""
        lines = [b"MAIL FROM:<%b>\r\n" % sender, *(b"RCPT TO:<%b>\r\n" % rcpt for rcpt in rcpts), b"DATA\r\n"]
        said = self.ask(b"".join(lines), len(lines))
        assert said[-1].startswith(b"354"), said
        return self.ask(text + b".\r\n", len(rcpts))

    def ended(self):
        """Whether the other side has closed, with nothing more to say."""
        try:
            return self.file.read() == b""
        except ConnectionError:
            return True

    def close(self):
        """Hang up."""
        self.file.close()
        self.socket.close()


class HeldWriter:
    """A :class:`~bsmtp_batch.spool.groups.GroupWriter` whose commits wait for the test."""

    def __init__(self, writer):
        self._writer = writer
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error = None
        self.groups = []

    def commit(self, entries, *, wanted=None):
        """See ``GroupWriter``."""
        self.groups.append(len(entries))
        self.begun.release()
        assert self.go.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        self._writer.commit(entries, wanted=wanted)

    def close(self):
        """See ``GroupWriter``."""
        self._writer.close()


def until(what, seconds=20):
    """Wait until ``what`` is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)
