"""Who may say what, when: the one table of transitions, and the only code that changes a state.

A session is a list of requests and their replies. The side that sends requests in the present direction is the
*asker*, the other the *answerer*; nothing in this file knows which of the two we are. Each has a cursor over the list:
the asker stands where the session will be if everything it asked is granted, the answerer where it is. With PIPELINING
(RFC 2920) the asker runs ahead; when nothing is unanswered, both stand at the same state. Both ends of a connection run
this same machine, so turning round (ATRN, RFC 2645) is a reset of it and a swap of roles outside.

    GREETING -> START -> READY -> MAIL -> RCPT -> CONTENT -> READY ...      DATA and the dot
                                            '-> CHUNKS -> READY             BDAT
                         READY -> AUTH -> READY,  READY -> TLS -> START,  READY -> TURN -> GREETING the other way
    a greeting of 554 -> REFUSED;  QUIT, any 421 and the end of input -> CLOSED;  a broken protocol -> ERROR

Rules for whoever changes this file. Every pair of state and request that may be asked has a row; what has none cannot
be asked. A refusal (4yz, 5yz) to what has no row is harmless and changes nothing, because it answers a request that was
sent ahead; anything else without a place in the table breaks the protocol. This module does not learn about roles.

Time-outs are kept beside the table and not in the machine: the core has no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from bsmtp_batch.wire.command import Rcpt
from bsmtp_batch.wire.events import Connect, LocalProblem, RcptTo, Reply, Request, Verb, Violation
from bsmtp_batch.wire.replies import parse_extensions
from bsmtp_batch.wire.verbs import Protocol


class State(StrEnum):
    """Where a side stands."""

    GREETING = "greeting"  # the connection is open, the answerer has to greet
    START = "start"  # greeted, the asker has to name itself
    REFUSED = "refused"  # greeted with 4yz or 5yz: nothing but QUIT is left (RFC 5321 section 3.1)
    READY = "ready"  # between transactions
    MAIL = "mail"  # a sender, and no recipient yet
    RCPT = "rcpt"  # a sender and a recipient
    CONTENT = "content"  # 354 was said: content, up to the dot line
    CHUNKS = "chunks"  # a chunk of BDAT was taken: more of them, up to the last
    AUTH = "auth"  # 334 was said: one response
    TLS = "tls"  # 220 to STARTTLS was said: nothing is read until TLS is up
    TURN = "turn"  # 250 to ATRN was said: nothing is read until the roles are turned
    CLOSED = "closed"
    ERROR = "error"


class Row(NamedTuple):
    """What becomes of one request in one state.

    ``asked`` is where the asker stands once it has said it (None: it must not be said here); ``ok``, ``go`` and ``no``
    are where the answerer stands after 2yz, 3yz and 4yz or 5yz (None: such a reply breaks the protocol).
    """

    asked: State | None
    ok: State | None
    go: State | None
    no: State | None


def _anywhere(here: State, reset: State) -> dict[Verb, Row]:
    """The rows of what may be said whenever commands are read; ``reset`` is where RSET leads."""
    idle = Row(here, here, None, here)
    return {
        Verb.NOOP: idle,
        Verb.VRFY: idle,
        Verb.EXPN: idle,
        Verb.HELP: idle,
        Verb.RSET: Row(reset, reset, None, here),
        Verb.EHLO: Row(State.READY, State.READY, None, here),
        Verb.HELO: Row(State.READY, State.READY, None, here),
        Verb.QUIT: Row(State.CLOSED, State.CLOSED, None, State.CLOSED),
        Verb.VIOLATION: Row(here, None, None, here),
    }


_CHUNK = Row(State.CHUNKS, State.CHUNKS, None, State.READY)
_FINAL = Row(State.READY, State.READY, None, State.READY)

TABLE: Mapping[State, Mapping[Verb, Row]] = {
    State.GREETING: {Verb.CONNECT: Row(State.START, State.START, None, State.REFUSED)},
    State.START: _anywhere(State.START, State.START),
    State.REFUSED: {
        Verb.QUIT: Row(State.CLOSED, State.CLOSED, None, State.CLOSED),
        Verb.VIOLATION: Row(State.REFUSED, None, None, State.REFUSED),
    },
    State.READY: {
        **_anywhere(State.READY, State.READY),
        Verb.MAIL: Row(State.MAIL, State.MAIL, None, State.READY),
        # Sent ahead of a MAIL that was refused. A server that then says 354 gets a lone dot (RFC 2920 section 3.1).
        Verb.DATA: Row(None, None, State.CONTENT, State.READY),
        Verb.STARTTLS: Row(State.TLS, State.TLS, None, State.READY),
        Verb.AUTH: Row(State.AUTH, State.READY, State.AUTH, State.READY),
        Verb.ATRN: Row(State.TURN, State.TURN, None, State.READY),
        Verb.ETRN: Row(State.READY, State.READY, None, State.READY),
        Verb.XFORWARD: Row(State.READY, State.READY, None, State.READY),
    },
    State.MAIL: {
        **_anywhere(State.MAIL, State.READY),
        Verb.RCPT: Row(State.RCPT, State.RCPT, None, State.MAIL),
        # Sent ahead of recipients that were all refused: as above.
        Verb.DATA: Row(None, None, State.CONTENT, State.MAIL),
    },
    State.RCPT: {
        **_anywhere(State.RCPT, State.READY),
        Verb.RCPT: Row(State.RCPT, State.RCPT, None, State.RCPT),
        Verb.DATA: Row(State.CONTENT, None, State.CONTENT, State.RCPT),
        Verb.BDAT: _CHUNK,
        Verb.BDAT_LAST: _FINAL,
    },
    State.CHUNKS: {**_anywhere(State.CHUNKS, State.READY), Verb.BDAT: _CHUNK, Verb.BDAT_LAST: _FINAL},
    State.CONTENT: {Verb.END: _FINAL},
    State.AUTH: {
        Verb.RESPONSE: Row(State.AUTH, State.READY, State.AUTH, State.READY),
        Verb.VIOLATION: Row(State.READY, None, None, State.READY),  # what is no response ends the login
    },
    State.TLS: {},
    State.TURN: {},
    State.CLOSED: {},
    State.ERROR: {},
}

GROUPED = frozenset({Verb.RSET, Verb.MAIL, Verb.RCPT, Verb.END, Verb.BDAT, Verb.BDAT_LAST})
"""After these the asker may go on before the reply has come, where PIPELINING is offered (RFC 2920 section 3.1; the
content and its dot head the next group; BDAT by RFC 3030 section 2). After anything else it has to wait."""

FINAL = frozenset({Verb.END, Verb.BDAT_LAST})
"""These decide about the message: one reply in SMTP, one for each accepted recipient in LMTP (RFC 2033 section 4.2)."""

TIMEOUTS: Mapping[Verb, int] = {
    **dict.fromkeys(Verb, 300),
    Verb.DATA: 120,
    Verb.END: 600,
    Verb.BDAT: 600,
    Verb.BDAT_LAST: 600,
    Verb.ATRN: 600,  # RFC 2645 section 5.2: at least ten minutes
}
"""Seconds an asker waits for the reply to each request (RFC 5321 section 4.5.3.2)."""
BLOCK_TIMEOUT = 180
"""Seconds for one block of content to be taken by the far side (RFC 5321 section 4.5.3.2.5)."""
IDLE_TIMEOUT = 300
"""Seconds an answerer waits for the next octets (RFC 5321 section 4.5.3.2.7)."""

DOING: Mapping[Verb, str] = {
    **{verb: f"sending {verb}" for verb in Verb},
    Verb.CONNECT: "receiving the greeting",
    Verb.END: "sending end of data -- message may be sent more than once",
    Verb.BDAT_LAST: "sending BDAT LAST -- message may be sent more than once",
    Verb.VIOLATION: "refusing a faulty command",
}
"""Words for the log: what the asker was doing when the connection was lost."""

_MISPLACED: Mapping[State, bytes] = {
    State.GREETING: b"wait for the greeting",
    State.START: b"say hello first",
    State.REFUSED: b"there is no service here",
    State.READY: b"MAIL comes first",
    State.MAIL: b"no valid recipient yet",
    State.RCPT: b"a transaction is open",
    State.CHUNKS: b"BDAT or RSET is next",
}
_IN_TRANSACTION = frozenset({Verb.MAIL, Verb.AUTH, Verb.STARTTLS, Verb.ATRN, Verb.ETRN, Verb.XFORWARD})
_WITH_RECIPIENTS = frozenset({State.RCPT, State.CHUNKS, State.CONTENT})
_OVER = frozenset({State.CLOSED, State.ERROR})
_TEACH = frozenset({Verb.EHLO, Verb.HELO, Verb.AUTH, Verb.RESPONSE})


class Dialogue:
    """The two cursors, the requests between them, and what was learnt on the way.

    Raises :class:`LocalProblem` for whatever the table forbids, whoever did it: the session knows whose fault it is.
    """

    __slots__ = (
        "_verdicts",
        "accepted",
        "answerer",
        "asker",
        "authenticated",
        "extensions",
        "outstanding",
        "protocol",
        "secure",
        "turned",
    )

    def __init__(self, protocol: Protocol, *, secure: bool) -> None:
        self.protocol = protocol
        self.secure = secure
        self.turned = False
        self._begin()

    def _begin(self) -> None:
        self._forget(State.GREETING)
        self.outstanding: deque[Request] = deque()
        self.ask(Connect())

    def _forget(self, state: State) -> None:
        self.asker = self.answerer = state
        self.authenticated = False
        self.extensions: dict[bytes, tuple[bytes, ...]] = {}
        self.accepted: list[Rcpt] = []
        self._verdicts: deque[Rcpt] = deque()

    def check(self, verb: Verb) -> None:
        """Whether the asker may say ``verb`` now; :class:`LocalProblem` with the reply for it if not."""
        row = TABLE[self.asker].get(verb)
        if row is None or row.asked is None or self.answerer in _OVER:
            raise _misplaced(verb, self.asker)
        if verb is Verb.HELO and self.protocol is Protocol.LMTP:
            raise _refused(500, verb, "LMTP has no HELO")
        if (
            (verb is Verb.AUTH and self.authenticated)
            or (verb is Verb.STARTTLS and self.secure)
            or (verb is Verb.ATRN and self.turned)
        ):
            raise _refused(503, verb, "this was done already")
        if self.outstanding:
            last = self.outstanding[-1].verb
            if last not in GROUPED:
                raise _refused(503, verb, f"{last} has to be answered first")
            if b"PIPELINING" not in self.extensions:
                raise _refused(503, verb, f"{last} has to be answered first, PIPELINING is not offered")

    def ask(self, request: Request) -> None:
        """The asker says ``request``."""
        verb = request.verb
        self.check(verb)
        asked = TABLE[self.asker][verb].asked
        assert asked is not None
        self.asker = asked
        self.outstanding.append(request)

    def answer(self, reply: Reply) -> Reply:
        """The answerer says ``reply``; it comes back with the request, and in LMTP the recipient, that it answers."""
        answered = self.settle(reply)
        return reply if answered is None else Reply(reply.code, reply.status, reply.text, *answered)

    def settle(self, reply: Reply) -> tuple[Request, Rcpt | None] | None:
        """As :meth:`answer`; the request, and in LMTP the recipient, that ``reply`` answers; None: nothing asked."""
        if self.answerer in _OVER and (self.answerer is State.CLOSED or reply.code != 421):
            raise _refused(451, None, "the session is over")
        if not self.outstanding:
            self._unasked(reply)
            return None
        request = self.outstanding[0]
        rcpt = None
        if request.verb in FINAL and self.protocol is Protocol.LMTP:
            self._verdicts = self._verdicts or deque(self.accepted)
            rcpt = self._verdicts[0] if self._verdicts else None
        state = self._after(request, reply)
        if rcpt is not None:
            self._verdicts.popleft()
        if not self._verdicts or state is State.CLOSED:
            self.outstanding.popleft()
            self._move(request, reply, state)
        return request, rcpt

    @property
    def due(self) -> tuple[Rcpt | None, ...]:
        """The replies that the oldest unanswered request still wants: one entry each, naming its recipient if any."""
        if not self.outstanding:
            return ()
        if self.outstanding[0].verb in FINAL and self.protocol is Protocol.LMTP:
            return tuple(self._verdicts or self.accepted) or (None,)
        return (None,)

    def fail_asker(self, violation: Violation | None = None) -> None:
        """The asker broke the protocol for good; with a ``violation`` all the answerer may do is to answer that."""
        self.asker = State.ERROR
        if violation is not None:
            self._verdicts.clear()
            self.outstanding = deque((violation,))

    def fail_answerer(self) -> None:
        """The answerer broke the protocol for good."""
        self.answerer = State.ERROR

    def close(self) -> None:
        """The connection is gone; a side that failed stays so."""
        self.answerer = self._unless_failed(self.answerer, State.CLOSED)
        self.asker = self._unless_failed(self.asker, State.CLOSED)

    def upgrade(self) -> None:
        """TLS is up: everything learnt before is forgotten (RFC 3207 section 4.2)."""
        if self.answerer is not State.TLS:
            raise _refused(503, Verb.STARTTLS, "there is no TLS to begin here")
        self.secure = True
        self._forget(State.START)

    def turn(self) -> None:
        """Asker and answerer change places; the new answerer has to greet (RFC 2645 section 5.3)."""
        if self.answerer is not State.TURN:
            raise _refused(503, Verb.ATRN, "the connection cannot be turned round here")
        self.turned = True
        self._begin()

    def _unasked(self, reply: Reply) -> None:
        """421 may come at any time; a refusal in mid-content is a verdict that came early. Both end the session."""
        early = self.answerer is State.CONTENT and reply.code >= 400
        if reply.code != 421 and not early:
            raise _refused(451, None, "a reply that nothing asked for")
        self.answerer = State.CLOSED
        self.asker = self._unless_failed(self.asker, State.CLOSED)

    def _after(self, request: Request, reply: Reply) -> State:
        """Where the answerer stands after ``reply``."""
        code = reply.code
        if code == 421:
            return State.CLOSED
        row = TABLE[self.answerer].get(request.verb)
        if isinstance(request, Violation) and request.fatal:
            row = Row(None, None, None, State.CLOSED)
        if row is None:
            row = Row(None, None, None, self.answerer)
        state = row.ok if 200 <= code <= 299 else row.go if 300 <= code <= 399 else row.no
        if state is None:
            raise _refused(451, None, f"the reply code {reply.code} does not go with {request.verb}")
        if state is State.CONTENT and not self.accepted and self.protocol is Protocol.LMTP:
            # RFC 2033 section 4.2 wants 503 here, and nobody can tell how many replies the dot would get.
            raise _refused(451, None, "354 although no recipient was accepted")
        return state

    def _move(self, request: Request, reply: Reply, state: State) -> None:
        """Note what an answered ``request`` changed, and go to ``state``."""
        ok = 200 <= reply.code <= 299
        verb = request.verb
        if ok and verb in _TEACH:
            if verb is Verb.EHLO:
                self.extensions = parse_extensions(reply)
            elif verb is Verb.HELO:
                self.extensions = {}
            else:
                self.authenticated = True
        if ok and isinstance(request, RcptTo):
            self.accepted.append(request.rcpt)
        elif state not in _WITH_RECIPIENTS:
            self.accepted = []
        self.answerer = state
        if state is State.CLOSED or not self.outstanding:
            self.asker = self._unless_failed(self.asker, state)

    @staticmethod
    def _unless_failed(side: State, state: State) -> State:
        return side if side is State.ERROR else state


def _refused(code: int, verb: Verb | None, reason: str) -> LocalProblem:
    words = f"{verb}: {reason}" if verb else reason
    return LocalProblem(words, Reply(code, b"%d.5.1" % (code // 100), words.encode()), fatal=False)


def _misplaced(verb: Verb, state: State) -> LocalProblem:
    words = _MISPLACED.get(state, b"the session is over")
    if state is State.MAIL and verb in _IN_TRANSACTION:
        words = _MISPLACED[State.RCPT]
    elif state is State.READY and verb is Verb.RESPONSE:
        words = b"no login is going on"
    return _refused(503, verb, words.decode())
