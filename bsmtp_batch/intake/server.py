"""The daemon's side of an LMTP intake: connections, groups, large messages, the end.

One thread does everything but what meets the disk. Messages whose dot has come while a commit runs make the next one,
so that under load one fsync serves many, and a single message never waits for others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from bsmtp_batch.edge.reactor import Connection, Handler, Reactor
from bsmtp_batch.intake.commit import Committer, Drainer, Group
from bsmtp_batch.intake.desk import Desk
from bsmtp_batch.intake.line import SLOW, Line, Patience
from bsmtp_batch.intake.message import Message
from bsmtp_batch.intake.pool import Pool
from bsmtp_batch.intake.routing import Route
from bsmtp_batch.spool.groups import Entry, GroupWriter
from bsmtp_batch.wire.events import Reply

SESSIONS = 300
"""Connections at one time."""
LEAVING = 100
"""Connections beyond that whose last words are waited for: each takes a descriptor, which whoever connects in a loop
would leave to nobody else."""
DESCRIPTORS = 16_384
"""Files and connections open at one time: a large message has a file for each of its routes, and an MTA may send
twenty to fifty routes each."""
GROUP = 8 << 20
"""Octets of one commit; a single message may have more."""
LAST = 20.0
"""Seconds for what is under way when the daemon ends."""


_BUG = Reply(451, b"4.3.0", b"a bug in bsmtp-batch, see its log")


class Intake:
    """Takes mail for ``desk`` into ``spool``. ``tell`` gets lines for the log. Made in any thread, served by
    :meth:`run`, ended by :meth:`end` from any other."""

    def __init__(
        self,
        desk: Desk,
        spool: str,
        tell: Callable[[str], None],
        patience: Patience | None = None,
        *,
        writer: GroupWriter | None = None,
    ) -> None:
        self.desk = desk
        self.tell = tell
        self.patience = patience or Patience()
        self.reactor = Reactor(turned=self._turned, each_second=self._each_second, broken=self._broken)
        self._lines: set[Line] = set()
        self._behind: list[Line] = []
        self._waiting: list[tuple[Line, Message, list[tuple[Route, Entry]]]] = []
        self._group: Group | None = None
        self._owners: dict[int, Line] = {}
        self._stuck = False
        self._ending = False
        self._deadline = float("inf")
        self._trouble = ""
        self.held = 0
        """Octets of text in memory, of all messages that are not complete."""
        self.disks = Pool()
        self._drainer = Drainer(spool, tell, lambda why: self.reactor.call(lambda: self._refused(why)))
        self._committer = Committer(
            writer or GroupWriter(spool),
            lambda group: self.reactor.call(lambda: self._done(group)),
            self._drainer.committed,
        )

    def accept(self, allowed: Callable[[object], bool]) -> Callable[[Connection, object], Handler | None]:
        """What takes connections from the addresses that are ``allowed``."""

        def accept(connection: Connection, address: object) -> Handler | None:
            words = b""
            if self.reactor.connections > SESSIONS + LEAVING:
                connection.abort()
                return None
            if not allowed(address):
                words = b"4.7.1 not from where you are (lmtp_from in [serve])"
            elif len(self._lines) >= SESSIONS:
                words = b"4.3.2 too many connections, come back later"
            if words:
                connection.write(b"421 " + words + b"\r\n")
                connection.close()
                return None
            line = Line(self, connection)
            self._lines.add(line)
            line.greet()
            return line

        return accept

    def run(self) -> None:
        """Serve until :meth:`end`; what was complete is answered and durable in its route when this returns."""
        try:
            self.reactor.run()
        finally:
            if not self._committer.end(LAST):
                self.tell("serve: the disk does not answer; what was under way was not acknowledged")
            self.disks.end(LAST)
            self._drainer.end(LAST)
            self.reactor.close()

    def end(self) -> None:
        """Have :meth:`run` return soon; from any thread."""
        self.reactor.call(self._end)

    # --- called by lines ----------------------------------------------------------------------------------------

    def wait(self, line: Line, message: Message) -> None:
        """The text of ``message`` is complete and in memory."""
        entries: list[tuple[Route, Entry]] = []
        try:
            if message.refused is None:
                entries = message.entries()
        except Exception as error:  # noqa: BLE001 - a message that nobody foresaw must not hold up the others
            self._broken(error)
            message.refuse(_BUG)
        self._waiting.append((line, message, entries))

    def later(self, line: Line) -> None:
        """``line`` has more to answer when others have had their turn."""
        self._behind.append(line)

    def gone(self, line: Line) -> None:
        """``line`` is over."""
        self._lines.discard(line)
        self._look_at_the_end()

    # --- commits ------------------------------------------------------------------------------------------------

    def _turned(self) -> None:
        if self._behind:
            behind, self._behind = self._behind, []
            for line in behind:
                self._guarded(line, line.go_on)
            if self._behind:
                self.reactor.call(lambda: None)  # come back at once
        if self._waiting and self._group is None:
            self._begin()

    def _begin(self) -> None:
        octets, count = 0, 0
        for _, _, entries in self._waiting:
            octets += sum([entry.size() for _, entry in entries])
            if count and octets > GROUP:
                break
            count += 1
        chosen, self._waiting = self._waiting[:count], self._waiting[count:]
        group = Group([], [])
        for line, message, entries in chosen:
            self._owners[id(message)] = line
            group.messages.append(message)
            group.entries += [(message, route, entry) for route, entry in entries]
        self._group = group
        self._committer.begin(group)

    def _done(self, group: Group) -> None:
        """The verdicts are there: the next group first, so that the disk has something to do meanwhile."""
        self._group = None
        if group.given_up:
            self._stuck = False
            self._desk_closed()
            self.tell("serve: the disk answers again")
            return
        if self._waiting:
            self._begin()
        for message in group.messages:
            line = self._owners.pop(id(message))
            self._guarded(line, partial(line.settled, message))
        self._look_at_the_end()

    def _give_up(self, seconds: float) -> None:
        """The disk has taken too long: who waits for it is told to come again, before he gives up himself."""
        group = self._group
        if group is None or not group.claim():
            return  # it is durable after all, or has failed: the answer is on its way
        group.given_up = True
        self._stuck = True
        self.tell(f"serve: the disk has not answered for {seconds:.0f} s: nothing more is taken until it does")
        late = [(self._owners.pop(id(message)), message) for message in group.messages]
        for line, message in late:
            self._guarded(line, partial(line.failed, message, SLOW))

    # --- once a second ------------------------------------------------------------------------------------------

    def _each_second(self) -> None:
        group = self._group
        if group is not None and not group.given_up and time.monotonic() - group.began > self.patience.disk:
            self._give_up(self.patience.disk)
        if self._stuck:
            waiting, self._waiting = self._waiting, []
            for line, message, _ in waiting:
                self._guarded(line, partial(line.failed, message, SLOW))
        now = time.monotonic()
        for line in list(self._lines):
            self._guarded(line, partial(line.look, now))
        self._desk_closed()
        if now > self._deadline:
            self._give_up(LAST)
            self.reactor.stop()

    def _refused(self, why: str) -> None:
        self._trouble = why
        self._desk_closed()

    def _desk_closed(self) -> None:
        name = self.desk.name
        if self._stuck:
            self.desk.closed = Reply(421, b"4.3.0", name + b" the disk does not answer, come back later")
        elif self._trouble:
            self.desk.closed = Reply(421, b"4.3.0", name + b" mail cannot be moved on to its routes, come back later")
        else:
            self.desk.closed = None

    # --- the end ------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._deadline = time.monotonic() + LAST
        self.reactor.deafen()
        for line in list(self._lines):
            self._guarded(line, line.end)
        self._look_at_the_end()

    def _look_at_the_end(self) -> None:
        if self._ending and not self._lines and self._group is None and not self._waiting:
            self.reactor.stop()

    def _guarded(self, line: Line, what: Callable[[], None]) -> None:
        """Do ``what`` for ``line``; a fault met in it ends that line and keeps no other from its turn."""
        try:
            what()
        except Exception as error:  # noqa: BLE001 - as above: the others wait for their answers
            self._broken(error)
            line.abort()

    def _broken(self, error: Exception) -> None:
        self.tell(f"serve: a session was ended by a fault of ours: {error!r}")
