"""What is said to a server and heard from it, in order: one session of the wire core on one channel.

Whatever ends the session ends it for good: nothing more is said. What was heard before can still be had, and where only
our saying ended, what the server still answers.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from bsmtp_batch.batch.file import Changed
from bsmtp_batch.edge.sockets import Channel, SocketChannel
from bsmtp_batch.replay.contract import Span
from bsmtp_batch.wire.events import Closed, Event, LocalProblem, Reply, Request, Violation
from bsmtp_batch.wire.session import Reading, Session
from bsmtp_batch.wire.states import BLOCK_TIMEOUT

LAST_WORDS = 1.0
"""Seconds to look for the reason after a server stopped taking what we write; it has said it already, or never will."""


class Ended(Exception):
    """The session cannot go on; holds a sentence. ``reply`` is what the server said about it, if it did."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


class Exchange:
    """The client of ``session`` on ``channel``.

    ``patience`` stretches the time-outs of the session, ``complaint`` gives what the far side said beside the protocol.
    """

    def __init__(
        self, channel: Channel, session: Session, *, patience: float = 1.0, complaint: Callable[[], str] = lambda: ""
    ) -> None:
        self.session = session
        self.failure = ""
        """Why nothing more can be said or heard; ``""`` as long as it can."""
        self.mute = ""
        """Why nothing more can be said, though an answer may come; ``""`` as long as it can."""
        self.leave = False
        """Whether the server said 421."""
        self.patience = patience
        """What stretches the time-outs."""
        self._channel = channel
        self._complaint = complaint
        self._waiting: deque[Reply] = deque()
        self._until = math.inf

    @property
    def ended(self) -> str:
        """Why nothing more can be said; ``""`` as long as it can."""
        return self.failure or self.mute

    def resume(self) -> None:
        """Note what the session was fed before it was ours."""
        self._take(self.session.resume(), self.session.doing)

    def ask(self, request: Request) -> Reply:
        """The reply to ``request``. Raises :class:`Ended`."""
        self.send(self.said(request))
        return self.reply()

    def said(self, *requests: Request) -> bytes:
        """The octets of ``requests``, which are to be sent at once, in this order. Raises :class:`Ended`."""
        if self.ended:
            raise Ended(self.ended)
        try:
            return b"".join([self.session.send(request) for request in requests])
        except LocalProblem as problem:
            self.mute = f"this cannot be said to the server: {problem.reason}"
            raise Ended(self.mute) from problem

    def send(self, data: bytes) -> None:
        """Write ``data``. Raises :class:`Ended`, with what the server has refused in the meantime."""
        doing = self.session.doing
        try:
            self._channel.send(data, BLOCK_TIMEOUT * self.patience)
        except OSError as error:
            raise self._not_taken(doing, error) from error

    def send_file(self, span: Span) -> None:
        """Write the octets in ``span``, on a channel that can. Raises :class:`Ended` like :meth:`send`, and ``OSError``
        where the file is at fault."""
        channel, doing = self._channel, self.session.doing
        assert isinstance(channel, SocketChannel)
        try:
            channel.send_file(span.fd, span.offset, span.size, BLOCK_TIMEOUT * self.patience)
        except EOFError as error:
            raise Changed("the batch became shorter while it was read") from error
        except OSError as error:
            raise self._not_taken(doing, error) from error

    def send_end(self, data: bytes) -> None:
        """Write ``data``, which has the end of a message in it. Where not all of it is taken it is for :meth:`reply` to
        find out what the server did with it."""
        doing = self.session.doing
        try:
            self._channel.send(data, BLOCK_TIMEOUT * self.patience)
        except OSError as error:
            self._lost(error, doing)

    def hear(self, data: bytes) -> None:
        """Note octets that somebody else has read."""
        if data:
            self._take(self.session.receive(data), self.session.doing)

    def lost(self, error: OSError) -> None:
        """Note that somebody else could not write all there was, or has waited long enough: what the server has said
        until now can still be had."""
        self._lost(error, self.session.doing)

    def reply(self, *, final: bool = False) -> Reply:
        """The next reply. Raises :class:`Ended`, also for a 421, which is an answer only where it is ``final``."""
        until = min(time.monotonic() + self.session.timeout * self.patience, self._until)
        while not self._waiting:
            self._hear(until)
        reply = self._waiting.popleft()
        if reply.code == 421:
            self.leave = True
            self.failure = str(reply)
            if not final:
                raise Ended(str(reply), reply)
        return reply

    def unasked(self) -> Reply | None:
        """The next reply if it is here already."""
        return self._waiting.popleft() if self._waiting else None

    def _hear(self, until: float) -> None:
        """Read once. Raises :class:`Ended` when nothing more can come, or not in time."""
        doing = self.session.doing
        if self.failure or self.session.reading is not Reading.NEED_MORE:
            raise Ended(self.failure or f"the connection was closed while {doing}")
        try:
            left = until - time.monotonic()
            if left <= 0:  # asked here and not by the channel: what always has octets ready would never run out of time
                raise TimeoutError
            data = self._channel.receive(left)
        except TimeoutError as error:
            raise Ended(self.mute or f"no answer within the time allowed while {doing}") from error
        except OSError as error:
            raise Ended(f"the connection was lost while {doing}: {error}") from error
        self._take(self.session.receive(data), doing)

    def _take(self, events: Iterable[Event], doing: str) -> None:
        """Note what was heard while ``doing`` something."""
        for event in events:
            if isinstance(event, Reply):
                self._waiting.append(event)
            elif isinstance(event, Violation):
                self.failure = f"{event.reason} while {doing}"
            elif isinstance(event, Closed):
                self.failure = " ".join((f"the connection was closed while {doing}", self._complaint())).strip()

    def _lost(self, error: OSError, doing: str) -> None:
        if isinstance(error, TimeoutError):
            self.mute = f"no answer within the time allowed while {doing}"
            self._until = 0.0
        else:
            self.mute = f"the connection was lost while {doing}: {error}"
            self._until = time.monotonic() + LAST_WORDS

    def _not_taken(self, doing: str, error: OSError) -> Ended:
        reply = self._last_words()
        self.failure = str(reply) if reply else f"the connection was lost while {doing}: {error}"
        return Ended(self.failure, reply)

    def _last_words(self) -> Reply | None:
        """What a server that no longer reads has said before, if it is a refusal."""
        until = time.monotonic() + LAST_WORDS
        try:
            while not self._waiting:
                self._hear(until)
        except Ended:
            return None
        reply = self._waiting.popleft()
        self.leave = self.leave or reply.code == 421
        return reply if reply.temporary or reply.permanent else None
