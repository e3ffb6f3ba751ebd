"""What comes in during one contact: counted, told, and held to the bounds of the contact."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from bsmtp_batch.reception.contract import Deposit, Sink
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import Reply

OVER = Reply(421, b"4.3.2", b"no more today, the rest another time")
"""To DATA after the end of the window: the provider keeps what it has, and the line ends."""


class Intake:
    """A sink before ``sink``. ``max_octets`` of mail are taken (None: any amount), and none after ``until`` (seconds
    since 1970). ``taken`` is told of each message, by its sender, its recipients, its octets on the wire and the reply;
    it is called before the reply is written."""

    def __init__(
        self,
        sink: Sink,
        *,
        max_octets: int | None = None,
        until: float | None = None,
        taken: Callable[[Mail, Sequence[Rcpt], int, Reply], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._max = max_octets
        self._until = until
        self._taken = taken
        self._now = now
        self.messages = 0
        """Messages we said yes to."""
        self.octets = 0
        """Their octets as they came over the line."""
        self.held = ""
        """Why something was not taken that the bounds forbid; ``""`` while nothing was."""
        self.refused = ""
        """The first reply by which a message was not taken; ``""`` while all were."""

    def begin(self, mail: Mail, rcpts: Sequence[Rcpt]) -> Deposit | Reply:
        """See :class:`~bsmtp_batch.reception.contract.Sink`."""
        if self._until is not None and self._now() >= self._until:
            self.held = "the window of this contact is over"
            return OVER
        told = next((int(value) for key, value in mail.params if key == b"SIZE" and value), 0)
        if self._max is not None and (self.octets + told > self._max or self.octets >= self._max):
            self.held = self.held or self._too_much(told)
            return Reply(452, b"4.3.1", b"not in this contact")
        begun = self._sink.begin(mail, rcpts)
        if isinstance(begun, Reply):
            self._refuse(begun)
            return begun
        return _Passing(self, begun, mail, rcpts)

    def done(self, mail: Mail, rcpts: Sequence[Rcpt], octets: int, reply: Reply) -> None:
        """A message was decided."""
        if reply.ok:
            self.messages += 1
            self.octets += octets
        else:
            self._refuse(reply)
        with suppress(OSError):  # a log that takes no more must not stand between what is stored and the yes to it
            self._taken(mail, rcpts, octets, reply)

    def _refuse(self, reply: Reply) -> None:
        self.refused = self.refused or f"a message was not taken: {reply}"

    def _too_much(self, octets: int) -> str:
        if self._max is not None and octets > self._max:
            return f"a message has {octets} octets, more than max_bytes = {self._max} lets come in any contact"
        return f"this contact would bring more than max_bytes = {self._max}"


class _Passing:
    """See :class:`~bsmtp_batch.reception.contract.Deposit`."""

    def __init__(self, intake: Intake, inner: Deposit, mail: Mail, rcpts: Sequence[Rcpt]) -> None:
        self._intake = intake
        self._inner = inner
        self._mail = mail
        self._rcpts = rcpts
        self._octets = 0

    def write(self, data: bytes) -> None:
        self._octets += len(data)
        self._inner.write(data)

    def commit(self) -> Sequence[Reply]:
        replies = self._inner.commit()
        said = next((reply for reply in replies if reply.ok), replies[0])
        self._intake.done(self._mail, self._rcpts, self._octets, said)
        return replies

    def abort(self) -> None:
        self._inner.abort()
