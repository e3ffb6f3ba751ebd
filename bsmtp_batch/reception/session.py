"""The server's side of receiving mail: events in, replies out. No clock, no socket; disks are met in the sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bsmtp_batch.reception.contract import Deposit, Limits, Sink
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import (
    Closed,
    Content,
    Data,
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
    Request,
    Rset,
    Violation,
    Vrfy,
)
from bsmtp_batch.wire.session import Reading, Session, State

EXTENSIONS = (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"DSN", b"ENHANCEDSTATUSCODES")
"""What a reception offers whatever the sink, beside SIZE: a batch carries all of it (docs/FORMAT.md)."""

Policy = Callable[[Mail, Rcpt], Reply | None]
"""Whether a recipient is taken: a reply that refuses it, or None."""


class Reception:
    """Answers everything a client may say to a server that takes mail.

    ``session`` is in the role of the server. ``name`` is what the greeting and EHLO say, ``extra`` gives further lines
    of the answer to EHLO at the moment it is given. Requests that are not for a reception (STARTTLS, AUTH, ATRN, ETRN)
    are answered before they come here, or get 502.
    """

    def __init__(
        self,
        session: Session,
        *,
        name: str,
        sink: Sink | None,
        limits: Limits,
        policy: Policy | None = None,
        extra: Callable[[], Sequence[bytes]] = tuple,
    ) -> None:
        self._session = session
        self._name = name.encode()
        self._sink = sink
        self._limits = limits
        self._policy = policy
        self._extra = extra
        self._mail: Mail | None = None
        self._deposit: Deposit | None = None
        self._faults = self._idle = 0
        self.taken = 0
        """Messages for which we said yes."""
        self.over = False
        """Whether the connection is to be closed once what was returned so far is written."""
        self.said_goodbye = False
        """Whether it ends because one of the two sides said so."""

    def greeting(self) -> bytes:
        """The first thing to write."""
        return self._session.send(Reply(220, b"", self._name + b" ESMTP"))

    def answer(self, event: Event) -> bytes:
        """The octets to write for ``event``, often none."""
        match event:
            case Content(data):
                if self._deposit is not None:
                    self._deposit.write(data)
                return b""
            case EndOfData():
                return self._complete()
            case Closed():
                self.close()
                return b""
            case Violation():
                return self._violated(event)
            case Request():
                return self._say(self._reply(event))
        return b""

    def close(self) -> None:
        """Nothing more will come: a message that is not complete is forgotten."""
        self.over = True
        self._forget()

    def goodbye(self, reason: bytes) -> bytes:
        """The 421 with which we end the session ourselves; empty where it cannot be said any more."""
        self.close()
        self.said_goodbye = True
        if self._session.our_state is State.CLOSED or self._session.their_state is State.CLOSED:
            return b""
        return self._session.send(Reply(421, b"4.3.2", self._name + b" " + reason))

    def _reply(self, request: Request) -> Reply:
        match request:
            case Helo(_, extended):
                self._forget()
                return self._hello(extended=extended)
            case MailFrom(mail):
                return self._from(mail)
            case RcptTo(rcpt):
                return self._to(rcpt)
            case Data():
                return self._data()
            case Rset() | Noop():
                if isinstance(request, Rset):
                    self._forget()
                return self._counted(Reply(250, b"2.0.0", b"ok"))
            case Vrfy():
                return self._counted(Reply(252, b"2.5.2", b"send it, and see"))
            case Help():
                return self._counted(Reply(214, b"2.0.0", b"see RFC 5321"))
            case Quit():
                self.close()
                self.said_goodbye = True
                return Reply(221, b"2.0.0", b"goodbye")
            case Expn():
                return self._counted(Reply(502, b"5.5.1", b"there are no lists here"))
        return self._counted(Reply(502, b"5.5.1", b"not here"))

    def _hello(self, *, extended: bool) -> Reply:
        if not extended:
            return self._counted(Reply(250, b"", self._name))
        size = b"SIZE %d" % self._limits.octets if self._limits.octets else b"SIZE"
        offered = (*EXTENSIONS, size) if self._sink is not None else (b"PIPELINING", b"ENHANCEDSTATUSCODES")
        return self._counted(Reply(250, b"", b"\n".join((self._name, *offered, *self._extra()))))

    def _from(self, mail: Mail) -> Reply:
        if self._sink is None:
            return Reply(550, b"5.7.1", b"no mail is taken here")
        size = next((value for key, value in mail.params if key == b"SIZE" and value), b"0")
        if self._limits.octets and int(size) > self._limits.octets:
            return self._too_large()
        self._mail = mail
        return Reply(250, b"2.1.0", b"ok")

    def _to(self, rcpt: Rcpt) -> Reply:
        assert self._mail is not None
        if len(self._session.recipients) >= self._limits.recipients:
            return Reply(452, b"4.5.3", b"too many recipients for one message")
        refused = self._policy(self._mail, rcpt) if self._policy else None
        return refused or Reply(250, b"2.1.5", b"ok")

    def _data(self) -> Reply:
        assert self._sink is not None
        assert self._mail is not None
        begun = self._sink.begin(self._mail, self._session.recipients)
        if isinstance(begun, Reply):
            return begun
        self._deposit = _Measured(begun, self._limits.octets)
        return Reply(354, b"", b"go ahead, and end with a dot")

    def _complete(self) -> bytes:
        deposit, self._deposit, self._mail = self._deposit, None, None
        assert deposit is not None
        replies = deposit.commit()
        self._idle = 0
        self.taken += any(reply.ok for reply in replies)
        due = len(self._session.due)
        chosen = replies if len(replies) == due else [replies[0]] * due
        return b"".join(self._session.send(reply) for reply in chosen)

    def _violated(self, violation: Violation) -> bytes:
        self._faults += 1
        if violation.fatal:
            self.close()
        elif self._faults >= self._limits.faults:
            return self.goodbye(b"too many faults")
        return self._say(violation.reply)

    def _counted(self, reply: Reply) -> Reply:
        """``reply``, or 421 for a client that talks on and on without sending any mail."""
        self._idle += 1
        if self._idle <= self._limits.idle:
            return reply
        self.close()
        self.said_goodbye = True
        return Reply(421, b"4.7.0", self._name + b" too much talk and no mail")

    def _say(self, reply: Reply) -> bytes:
        return self._session.send(reply) if self._session.reading is not Reading.ENDED else b""

    def _forget(self) -> None:
        deposit, self._deposit, self._mail = self._deposit, None, None
        if deposit is not None:
            deposit.abort()

    @staticmethod
    def _too_large() -> Reply:
        return Reply(552, b"5.3.4", b"the message is larger than what is taken here")


class _Measured:
    """A deposit that is given up when it grows beyond the limit: a client may have told no size, or a wrong one."""

    def __init__(self, inner: Deposit, octets: int) -> None:
        self._inner: Deposit | None = inner
        self._left = octets + octets // 64 + 1024 if octets else -1  # doubled dots are on the wire and not in the size

    def write(self, data: bytes) -> None:
        if self._inner is None:
            return
        if self._left >= 0:
            if len(data) > self._left:
                self.abort()
                return
            self._left -= len(data)
        self._inner.write(data)

    def commit(self) -> Sequence[Reply]:
        if self._inner is None:
            return (Reception._too_large(),)
        return self._inner.commit()

    def abort(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.abort()
