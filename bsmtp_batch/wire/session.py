"""One side of an SMTP or LMTP session, without any input or output of its own: bytes in, events out, and back.

What may be said when is decided by ``states.py``; how it is said by ``verbs.py`` and ``replies.py``; this module knows
which of the two sides we are. It has no clock and no socket: the caller reads, feeds :meth:`Session.receive`, acts on
the events, and writes what :meth:`Session.send` returns.

A client sends one message, pipelined (RFC 2920). Replies come in the order of the requests and name them::

    session = Session(Role.CLIENT)
    greeting = next_replies(1)                 # reads, session.receive(), until so many Reply events have come
    write(session.send(Helo(b"hub.example")))
    next_replies(1)
    group = [MailFrom(mail), *map(RcptTo, rcpts), Data()]
    if b"PIPELINING" in session.extensions:    # send() refuses to run ahead where it is not offered
        write(b"".join([session.send(request) for request in group]))
        replies = next_replies(len(group))     # look at each one of them
    if session.content_due:                    # the reply to Data was 354
        if session.recipients:
            write_body()                       # from file to socket: stuffed, CRLF, and the last line ended
        write(session.send(EndOfData()))       # b".\\r\\n"; alone it ends a 354 that came although nobody was accepted
        for reply in next_replies(len(session.due)):   # LMTP: one for each recipient, reply.rcpt says whose
            ...
    write(session.send(Quit()))

A server answers each request before it is given the next one, and keeps what a pipelining client sent ahead unread
until then. Where a client went wrong the event is a :class:`Violation` that brings its reply along::

    session = Session(Role.SERVER, Protocol.LMTP)
    write(session.send(Reply(220, b"", b"hub.example LMTP")))
    while data := read():
        events = session.receive(data)
        while events:
            for event in events:
                match event:
                    case Helo(): out += session.send(Reply(250, b"", b"hub.example\\nPIPELINING\\n8BITMIME"))
                    case MailFrom() | RcptTo(): out += session.send(Reply(250, b"2.1.0", b"ok"))
                    case Data(): out += session.send(Reply(354, b"", b"go ahead"))
                    case Content(piece): store(piece)        # still stuffed; nothing to answer
                    case EndOfData():                        # durable first, then one reply, in LMTP one per recipient
                        out += b"".join(session.send(Reply(250, b"2.0.0", b"stored")) for _ in session.due)
                    case Violation(reply): out += session.send(reply)        # close after it if event.fatal
                    ...
            events = session.resume()          # the next command of the group, if it is here already
        write(out)

When ``session.reading`` is ``PAUSED`` (a 220 to STARTTLS, a 250 to ATRN), nothing more is read: the caller begins TLS
and calls :meth:`Session.upgraded`, or calls :meth:`Session.turn`, after which client and server have changed places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from bsmtp_batch.wire.command import Rcpt
from bsmtp_batch.wire.events import (
    Bdat,
    Closed,
    Content,
    Event,
    LocalProblem,
    PeerProblem,
    Reply,
    Request,
    Verb,
    Violation,
    WireProblem,
)
from bsmtp_batch.wire.intake import RequestReader
from bsmtp_batch.wire.lines import LineBuffer
from bsmtp_batch.wire.replies import ReplyReader, format_reply
from bsmtp_batch.wire.states import BLOCK_TIMEOUT, DOING, IDLE_TIMEOUT, TIMEOUTS, Dialogue, State
from bsmtp_batch.wire.verbs import Protocol, format_request

__all__ = ["Protocol", "Reading", "Role", "Session", "State"]

_PAUSED = frozenset({State.TLS, State.TURN})
_OVER = frozenset({State.CLOSED, State.ERROR})
_SWITCHES = frozenset({Verb.STARTTLS, Verb.ATRN})
_OUR_FAULT = Reply(421, b"4.3.0", b"internal error, closing")


class Role(StrEnum):
    """Which side we are, in the present direction."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Role:
        """The far side."""
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


class Reading(StrEnum):
    """What a session does with bytes now."""

    NEED_MORE = "need more"  # everything that was received has been read
    ANSWER_FIRST = "answer first"  # server: a request waits for our reply, what comes is kept
    PAUSED = "paused"  # will not read before upgraded() or turn()
    ENDED = "ended"  # will never read again


class Session:
    """One side of a session in one ``role``; see the module for how it is used.

    ``secure`` says that TLS is up from the start. No method waits. Beyond what is fed in at once, memory is bounded by
    the limits of a line, as long as the caller reads only while :attr:`reading` is ``NEED_MORE``.
    """

    def __init__(self, role: Role, protocol: Protocol = Protocol.SMTP, *, secure: bool = False) -> None:
        self.role = role
        """Which side we are; :meth:`turn` changes it."""
        self._dialogue = Dialogue(protocol, secure=secure)
        self._buffer = LineBuffer()
        self._replies = ReplyReader(self._buffer)
        self._requests = RequestReader(self._buffer, self._dialogue)
        self._input_ended = False
        self._said_closed = False

    # --- what is so ---------------------------------------------------------------------------------------------

    @property
    def protocol(self) -> Protocol:
        """SMTP or LMTP."""
        return self._dialogue.protocol

    @property
    def our_state(self) -> State:
        """Where our side stands: a client ahead of the replies, a server at the last reply."""
        return self._dialogue.asker if self.role is Role.CLIENT else self._dialogue.answerer

    @property
    def their_state(self) -> State:
        """Where the far side stands."""
        return self._dialogue.answerer if self.role is Role.CLIENT else self._dialogue.asker

    @property
    def extensions(self) -> Mapping[bytes, tuple[bytes, ...]]:
        """What the server of the two offered in its last reply to EHLO or LHLO: KEYWORD to parameters."""
        return self._dialogue.extensions

    @property
    def secure(self) -> bool:
        """Whether TLS is up."""
        return self._dialogue.secure

    @property
    def authenticated(self) -> bool:
        """Whether an AUTH succeeded in this direction."""
        return self._dialogue.authenticated

    @property
    def turned(self) -> bool:
        """Whether the connection was turned round."""
        return self._dialogue.turned

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        """The recipients accepted in this transaction, in order."""
        return tuple(self._dialogue.accepted)

    @property
    def unanswered(self) -> tuple[Request, ...]:
        """The requests without (all of) their replies, oldest first; after a lost connection, what is in doubt."""
        return tuple(self._dialogue.outstanding)

    @property
    def due(self) -> tuple[Rcpt | None, ...]:
        """The replies that the oldest unanswered request still wants: None, in LMTP after the dot the recipient."""
        return self._dialogue.due

    @property
    def content_due(self) -> bool:
        """Client: a 354 has come, no other reply is due, and the content is what has to be written now."""
        settled = not self._dialogue.outstanding and self._dialogue.asker is self._dialogue.answerer
        return settled and self.role is Role.CLIENT and self.our_state is State.CONTENT

    @property
    def reading(self) -> Reading:
        """Whether, and why not, more input is wanted."""
        dialogue = self._dialogue
        if self._said_closed or dialogue.answerer in _OVER:
            return Reading.ENDED
        if dialogue.answerer in _PAUSED:
            return Reading.PAUSED
        if self.role is Role.SERVER and dialogue.outstanding:
            return Reading.ANSWER_FIRST
        return Reading.NEED_MORE

    @property
    def timeout(self) -> int:
        """Seconds to wait for the far side now (RFC 5321 section 4.5.3.2); the waiting is the caller's."""
        if self.role is Role.SERVER:
            return IDLE_TIMEOUT
        if self._dialogue.outstanding:
            return TIMEOUTS[self._dialogue.outstanding[0].verb]
        return BLOCK_TIMEOUT if self._dialogue.answerer is State.CONTENT else IDLE_TIMEOUT

    @property
    def doing(self) -> str:
        """Words for the log: what goes on, should the connection be lost now."""
        waiting = self._dialogue.outstanding
        if self.role is Role.SERVER:
            content = "receiving content" if self._requests.in_content else "waiting for a command"
            return f"answering {waiting[0].verb}" if waiting else content
        if waiting:
            return DOING[waiting[0].verb]
        return "sending content" if self.content_due else f"waiting in state {self._dialogue.answerer}"

    def allows(self, verb: Verb) -> bool:
        """Whether the client of the two may say ``verb`` now; asking changes nothing."""
        try:
            self._dialogue.check(verb)
        except LocalProblem:
            return False
        return True

    # --- bytes to events ----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """The events in ``data``, and in what was kept before; ``b""`` is the end of the input. Never raises.

        A client gets the replies (:class:`Reply`), a server at most one request at a time, with the content before it;
        see :meth:`resume`. What breaks the protocol comes as a :class:`Violation`, the end as :class:`Closed`, once.
        """
        if not data:
            self._input_ended = True
        elif self.role is Role.SERVER and (request := self._requests.usual(data)) is not None:
            return [request]
        elif self._input_ended or self.reading is Reading.ENDED or self.their_state is State.ERROR:
            return []
        elif self._requests.in_content and not self._buffer:
            return self._requests.content(data)  # as it came, without a stay in the line buffer
        else:
            self._buffer.feed(data)
        return self.resume()

    def resume(self) -> list[Event]:
        """The events that what was received before has in it now, after a reply, an upgrade or a turn. Never raises."""
        if self.role is Role.SERVER and not self._input_ended:
            if not (self._buffer or self._said_closed or self._requests.in_content):
                return []
            if (request := self._requests.usual(b"")) is not None:
                return [request]
        events: list[Event] = []
        try:
            while step := self._step():
                events += step
        except WireProblem as problem:
            events.append(self._violated(problem))
        return events

    def trailing(self) -> bytes:
        """What was received and not read, handed over for good: for whoever speaks on the connection next."""
        return self._buffer.take()

    # --- events to bytes ----------------------------------------------------------------------------------------

    def send(self, event: Event) -> bytes:
        """The bytes that say ``event``; they have to be written, in the order of the calls.

        A client sends requests. Content does not pass through here: after the 354 the caller writes it himself, in its
        stuffed form and with its last line ended, and sends :class:`EndOfData`, whose bytes are the dot line alone. (A
        :class:`Content` of such octets is taken too, and given back as it is; likewise behind a :class:`Bdat`.) A
        server sends a :class:`Reply` to the oldest unanswered request, in LMTP one for each entry of :attr:`due`.

        Raises :class:`LocalProblem` where the state or the grammar forbids it: nothing is to be written then, our side
        stays in ``ERROR``, and all a server may still send is a 421.
        """
        try:
            if self.role is Role.SERVER:
                return self._send_reply(event)
            return self._send_request(event)
        except LocalProblem as problem:
            raise self._spoilt(problem.reason) from None
        except ValueError as error:
            raise self._spoilt(str(error)) from error

    def turn(self) -> None:
        """After the 250 to ATRN: client and server change places, and the new server owes its greeting (RFC 2645).

        What came behind the 250 is read in the new direction. Raises :class:`LocalProblem` in any other state.
        """
        self._switch(self._dialogue.turn)
        self.role = self.role.other

    def upgraded(self) -> None:
        """TLS is up: whatever was received in the clear and not read is dropped, whatever was learnt is forgotten.

        The next thing a client says is EHLO (RFC 3207 section 4.2). Raises :class:`LocalProblem` in any other state
        than after the 220 to STARTTLS.
        """
        self._switch(self._dialogue.upgrade)
        self._buffer.take()

    # --- reading ------------------------------------------------------------------------------------------------

    def _step(self) -> list[Event]:
        """The next event or two, or nothing when the input does not hold any."""
        reading = self.reading
        if reading is Reading.NEED_MORE:
            events = self._read()
            if events:
                return events
        elif reading is not Reading.ENDED:
            self._check_silence()
        if self._input_ended and not self._said_closed and reading is not Reading.ANSWER_FIRST:
            return [self._close(reading)]
        return []

    def _read(self) -> list[Event]:
        """What our role reads: replies, or requests and content."""
        if self.role is Role.SERVER:
            return self._requests.next()
        reply = self._replies.next()
        return [] if reply is None else [self._dialogue.answer(reply)]

    def _check_silence(self) -> None:
        """Nobody may speak ahead of a switch: what comes early was put there by somebody in the middle.

        CVE-2011-0411 is this as a server, CVE-2021-38371 as a client. A server that has said 220 may be fed the first
        octets of TLS, and a client after 250 to ATRN what belongs to the new direction: those are kept.
        """
        if not self._buffer:
            return
        if self.role is Role.CLIENT:
            if self._dialogue.answerer is State.TLS:
                words = b"the server spoke between its 220 and TLS"
                raise PeerProblem(words.decode(), Reply(451, b"4.5.0", words))
        elif self._dialogue.outstanding and self._dialogue.outstanding[0].verb in _SWITCHES:
            words = b"nothing may follow %s before its reply" % self._dialogue.outstanding[0].verb.encode()
            raise PeerProblem(words.decode(), Reply(554, b"5.5.0", words))

    def _close(self, reading: Reading) -> Closed:
        self._said_closed = True
        if self.role is Role.CLIENT:
            unsaid = bool(self._dialogue.outstanding) or self._replies.inside_reply or self.content_due
        else:
            unsaid = self._requests.in_content or self._buffer.inside_line
        early = reading is Reading.PAUSED or (reading is Reading.NEED_MORE and unsaid)
        self._dialogue.close()
        return Closed(early)

    def _violated(self, problem: WireProblem) -> Violation:
        """The one place where a broken rule becomes the peer's fault."""
        if self.role is Role.SERVER and not problem.fatal:
            violation = Violation(problem.reply, problem.reason)
            self._dialogue.ask(violation)
            return violation
        violation = Violation(problem.reply, problem.reason, fatal=True)
        self._buffer.take()
        self._requests.drop()
        if self.role is Role.SERVER:
            self._dialogue.fail_asker(violation)
        else:
            self._dialogue.fail_answerer()
        return violation

    # --- writing ------------------------------------------------------------------------------------------------

    def _send_request(self, event: Event) -> bytes:
        dialogue = self._dialogue
        if isinstance(event, Content):
            if self.content_due or (dialogue.outstanding and isinstance(dialogue.outstanding[-1], Bdat)):
                return event.data
            raise ValueError("content without a 354 or a BDAT before it")
        if not isinstance(event, Request):
            raise ValueError(f"a client does not send {type(event).__name__}")
        data = format_request(event, self.protocol)
        dialogue.ask(event)
        return data

    def _send_reply(self, event: Event) -> bytes:
        if not isinstance(event, Reply):
            raise ValueError(f"a server does not send {type(event).__name__}")
        data = format_reply(event)
        dialogue = self._dialogue
        verb = dialogue.outstanding[0].verb if dialogue.outstanding else None
        if verb is Verb.ATRN and event.ok and b"\n" in event.text:
            # Clients read one line and pass the second one on as if it were the first command (RFC 2645 section 5.2).
            raise ValueError("the 250 to ATRN is one line")
        dialogue.settle(event)
        if verb is Verb.DATA and dialogue.answerer is State.CONTENT:
            self._requests.begin_content()
        return data

    def _switch(self, change: Callable[[], None]) -> None:
        try:
            change()
        except LocalProblem as problem:
            raise self._spoilt(problem.reason) from None

    def _spoilt(self, reason: str) -> LocalProblem:
        """Our own mistake: our side of the session is over."""
        if self.role is Role.CLIENT:
            self._dialogue.fail_asker()
        else:
            self._dialogue.fail_answerer()
        return LocalProblem(reason, _OUR_FAULT)
