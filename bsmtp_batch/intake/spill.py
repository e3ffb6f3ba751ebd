"""A message that is too large for memory, on its way to the disk while it comes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from hashlib import sha256

from bsmtp_batch.deliver.answers import Answer
from bsmtp_batch.deliver.fragment import Fragment
from bsmtp_batch.deliver.intake import require_room
from bsmtp_batch.intake.message import TOP, Message, envelope, kept, trouble, unfit
from bsmtp_batch.intake.routing import Route
from bsmtp_batch.intake.text import Stream
from bsmtp_batch.wire.dots import END
from bsmtp_batch.wire.events import Reply

CHECK_EVERY = 4 << 20
"""Octets between two looks at the free space."""


class Spill:
    """A large message on its way to the disk: one file in ``tmp/`` for each route. Its methods block, and are called by
    one thread at a time."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._stream = Stream(stuffed=not message.chunked)
        # They hold nothing: there may be one for each session and route, and memory is what bounds us.
        self._open = {route: Fragment(route.home, digest=sha256(), hold=0) for route in message.by_route()}
        self._begun = False
        self._checked = 0
        self._written = 0
        self.busy = False
        """Whether a thread is at work on it."""
        self.finished = False
        """Whether there is nothing more to do to it."""

    def write(self, pieces: list[bytes]) -> None:
        """Text as it came. What fails is told by :meth:`finish`."""
        if not self._begun:
            self._begin(pieces)
        while self._open and pieces:  # one by one, and forgotten as they go
            self._add(self._stream.feed(pieces.pop(0)))

    def finish(self, pieces: list[bytes], wanted: Callable[[], bool]) -> None:
        """The text is complete with ``pieces``: make it durable under every route that takes it, and set the verdicts.
        ``wanted``: as long as that is so, somebody waits for them."""
        self.write(pieces)
        if self._open:
            self._add(self._stream.close())
        for route in list(self._open):
            self._guarded(route, lambda fragment: self._publish(fragment, route, wanted))  # noqa: B023 - called at once
            self._open.pop(route, None)
        self.finished = True

    def discard(self) -> None:
        """Leave nothing behind."""
        for route in list(self._open):
            self._drop(route)

    def _begin(self, pieces: list[bytes]) -> None:
        self._begun = True
        message, top = self._message, bytearray()
        for piece in pieces:
            top += piece[:TOP]
            if len(top) >= TOP:
                break
        message.note_queue_id(bytes(top[:TOP]))
        for route, rcpts in message.by_route().items():
            head = envelope(message.mail, rcpts, route.limits)
            self._guarded(route, lambda fragment: fragment.add(head))  # noqa: B023 - called at once

    def _publish(self, fragment: Fragment, route: Route, wanted: Callable[[], bool]) -> None:
        fragment.add(END)
        require_room(route.home, route.limits, fragment.in_memory())

        def undisturbed() -> None:
            if not wanted():
                raise TimeoutError(errno.ETIMEDOUT, "nobody waits for it any more")

        key = fragment.publish(self._message.queue_id, undisturbed)
        self._message.verdicts[route] = kept(key)

    def _add(self, text: bytes) -> None:
        self._written += len(text)
        look = self._written >= self._checked + CHECK_EVERY
        if look:
            self._checked = self._written
        for route in list(self._open):
            refused = unfit(route.limits, self._stream.size, nul=self._stream.nul)
            if refused is not None:
                self._drop(route, refused)
                continue
            if look:
                self._guarded(route, lambda fragment: require_room(route.home, route.limits, 0))  # noqa: B023 - at once
            self._guarded(route, lambda fragment: fragment.add(text))

    def _guarded(self, route: Route, work: Callable[[Fragment], None]) -> None:
        fragment = self._open.get(route)
        if fragment is None:
            return
        try:
            work(fragment)
        except Answer as answer:
            self._drop(route, Reply(452, b"4.3.1", answer.text.removeprefix("4.3.0 ").encode()))
        except OSError as error:
            self._drop(route, trouble(error))

    def _drop(self, route: Route, reply: Reply | None = None) -> None:
        fragment = self._open.pop(route)
        if reply is not None:
            self._message.verdicts[route] = reply
        try:
            fragment.discard()
        except OSError:
            pass  # age removes what cannot be removed now
