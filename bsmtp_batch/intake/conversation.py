"""One LMTP session, without a socket: octets in, octets out, and now and then a message that is complete (RFC 2033)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bsmtp_batch.intake.desk import Desk, leeway
from bsmtp_batch.intake.message import Message, too_large
from bsmtp_batch.intake.routing import Refused
from bsmtp_batch.wire.events import (
    Bdat,
    Closed,
    Content,
    Data,
    EndOfChunk,
    EndOfData,
    Event,
    Expn,
    Helo,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
    Rset,
    Violation,
    Vrfy,
    Xforward,
)
from bsmtp_batch.wire.session import Protocol, Reading, Role, Session, State

TURN = 100
"""Commands that are answered before others have their turn."""

_OK = Reply(250, b"2.0.0", b"ok")
_SENDER_OK = Reply(250, b"2.1.0", b"ok")
_RCPT_OK = Reply(250, b"2.1.5", b"ok")
_GO_AHEAD = Reply(354, b"", b"go ahead, and end with a dot")
_TOO_MANY = Reply(452, b"4.5.3", b"too many recipients for one message")
_GOODBYE = Reply(221, b"2.0.0", b"goodbye")
_NOT_HERE = Reply(502, b"5.5.1", b"not here")


class Conversation:
    """Answers one client of ``desk``.

    When :attr:`complete` is set, its message has come whole: nothing more is answered until :meth:`settled`. While
    :attr:`behind`, there is more to answer by :meth:`go_on`, once others have had their turn. When :attr:`over`, the
    connection is to be closed behind what was returned.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._session = Session(Role.SERVER, Protocol.LMTP)
        self._queue_id = b""
        self._faults = self._idle = 0
        self.message: Message | None = None
        """The message under way, from its MAIL on."""
        self.complete: Message | None = None
        self.dropped: list[Message] = []
        """Messages that will not be completed and have left something on the disk."""
        self.behind = False
        self.over = False
        self.quitted = False
        """Whether it is over because the client said so: nothing more comes from it."""

    def greeting(self) -> bytes:
        """The first thing to write."""
        return self._session.send(self._desk.greeting)

    def receive(self, data: bytes) -> bytes:
        """The octets to write for ``data`` (``b""``: the end of the input)."""
        return self._answer(self._session.receive(data))

    def go_on(self) -> bytes:
        """The octets to write for what was received before."""
        return self._answer(self._session.resume())

    def settled(self, message: Message) -> bytes:
        """The verdicts on :attr:`complete` are there: the octets that say them. Then :meth:`go_on`."""
        self.complete = None
        if self.over:
            return b""
        send = self._session.send
        out = []
        for rcpt, reply in zip(message.rcpts, message.replies(), strict=True):
            text = b"<%b> %b" % (rcpt.path, reply.text) if reply.ok else reply.text
            out.append(send(Reply(reply.code, reply.status, text)))
        return b"".join(out)

    def goodbye(self, reply: Reply) -> bytes:
        """A 421 with which we end the session ourselves."""
        if self.over:
            return b""
        self._end_it()
        if State.CLOSED in (self._session.our_state, self._session.their_state):
            return b""
        return self._session.send(reply)

    def abandon(self) -> None:
        """The line is gone."""
        self._end_it()

    @property
    def in_text(self) -> bool:
        """Whether a text is on its way."""
        return self._session.our_state in (State.CONTENT, State.CHUNKS)

    def _answer(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        turn = 0
        self.behind = False
        while events:
            last = events[-1]
            if type(last) is Violation and last.fatal:
                events = [last]  # what stood before it has lost its place to it: it is all that is answered
            for event in events:
                answer = _ANSWERS.get(type(event))
                out.append(answer(self, event) if answer else self._counted(_NOT_HERE))
            if self.complete is not None or self.over:
                break
            turn += 1
            if turn >= TURN:
                self.behind = True
                break
            events = self._session.resume()
        return b"".join(out)

    # --- commands -----------------------------------------------------------------------------------------------

    def _hello(self, _: Helo) -> bytes:
        self._forget()
        return self._counted(self._desk.hello)

    def _xforward(self, forward: Xforward) -> bytes:
        for name, value in forward.attributes:
            if name == b"IDENT":
                self._queue_id = value
        return self._session.send(_OK)

    def _mail(self, event: MailFrom) -> bytes:
        refused = self._desk.no_mail_now()
        if refused is not None:
            return self.goodbye(refused)
        most = self._desk.bounds.octets
        if most and size_told(event) > most + leeway(most):
            return self._session.send(too_large(most))
        self.message = Message(event.mail, self._queue_id)
        return self._session.send(_SENDER_OK)

    def _rcpt(self, event: RcptTo) -> bytes:
        message, desk = self.message, self._desk
        assert message is not None
        if len(message.rcpts) >= desk.bounds.recipients:
            return self._session.send(_TOO_MANY)
        try:
            route = desk.routes.of(event.rcpt.path)
            desk.admit(route, size_told(message))
        except Refused as refused:
            return self._session.send(refused.reply)
        message.rcpts.append(event.rcpt)
        message.routes.append(route)
        return self._session.send(_RCPT_OK)

    def _data(self, _: Data) -> bytes:
        return self._session.send(_GO_AHEAD)

    def _chunk(self, _: Bdat) -> bytes:
        assert self.message is not None
        self.message.chunked = True
        return b""  # answered when the chunk is there

    def _content(self, event: Content) -> bytes:
        message = self.message
        assert message is not None
        message.add(event.data)
        most = self._desk.bounds.octets
        # Doubled dots are on the wire and not in the size.
        if most and message.came > most + most // 64 + 1024 and message.refused is None:
            message.refuse(too_large(most))
        return b""

    def _end(self, _: EndOfData) -> bytes:
        self.complete, self.message = self.message, None
        self._queue_id = b""
        self._idle = 0
        return b""

    def _end_of_chunk(self, event: EndOfChunk) -> bytes:
        if event.last:
            return self._end(EndOfData())
        return self._session.send(_OK)

    def _rset(self, _: Rset) -> bytes:
        self._forget()
        return self._counted(_OK)

    def _quit(self, _: Quit) -> bytes:
        self._end_it()
        self.quitted = True
        return self._session.send(_GOODBYE)

    def _violated(self, violation: Violation) -> bytes:
        self._faults += 1
        if violation.fatal:
            self._end_it()
        elif self._faults >= self._desk.bounds.faults:
            return self.goodbye(Reply(421, b"4.7.0", self._desk.name + b" too many faults"))
        return self._session.send(violation.reply) if self._session.reading is not Reading.ENDED else b""

    def _closed(self, _: Closed) -> bytes:
        self._end_it()
        return b""

    def _counted(self, reply: Reply) -> bytes:
        """``reply``, or 421 for a client that talks on and on without sending any mail."""
        self._idle += 1
        if self._idle <= self._desk.bounds.idle:
            return self._session.send(reply)
        return self.goodbye(Reply(421, b"4.7.0", self._desk.name + b" too much talk and no mail"))

    def _forget(self) -> None:
        self._queue_id = b""
        self._dropped()

    def _end_it(self) -> None:
        self.over = True
        self._dropped()

    def _dropped(self) -> None:
        message, self.message = self.message, None
        if message is not None and message.spill is not None:
            self.dropped.append(message)


_ANSWERS: dict[type[Event], Callable[[Conversation, Any], bytes]] = {
    Helo: Conversation._hello,
    MailFrom: Conversation._mail,
    RcptTo: Conversation._rcpt,
    Data: Conversation._data,
    Content: Conversation._content,
    EndOfData: Conversation._end,
    Bdat: Conversation._chunk,
    EndOfChunk: Conversation._end_of_chunk,
    Rset: Conversation._rset,
    Noop: lambda self, _: self._counted(_OK),
    Vrfy: lambda self, _: self._counted(Reply(252, b"2.5.2", b"send it, and see")),
    Help: lambda self, _: self._counted(Reply(214, b"2.0.0", b"see RFC 2033")),
    Expn: lambda self, _: self._counted(Reply(502, b"5.5.1", b"there are no lists here")),
    Xforward: Conversation._xforward,
    Quit: Conversation._quit,
    Violation: Conversation._violated,
    Closed: Conversation._closed,
}


def size_told(source: MailFrom | Message) -> int:
    """The octets that the client has announced; 0 where it has not."""
    for keyword, value in source.mail.params:
        if keyword == b"SIZE" and value:
            return int(value)
    return 0
