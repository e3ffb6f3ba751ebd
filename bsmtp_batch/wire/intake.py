"""What a server reads: command lines, responses to challenges, content and chunks, chosen by the state.

The counterpart of ``ReplyReader``. It asks the dialogue before it gives a request out, so that a command out of order
never looks like one that may be carried out.
"""

from __future__ import annotations

from bsmtp_batch.wire.command import MAX_COMMAND
from bsmtp_batch.wire.events import (
    Bdat,
    Content,
    EndOfChunk,
    EndOfData,
    Event,
    PeerProblem,
    Reply,
    Request,
    Violation,
    WireProblem,
)
from bsmtp_batch.wire.lines import ChunkReader, DataReader, LineBuffer, LineTooLong
from bsmtp_batch.wire.states import TABLE, Dialogue, State
from bsmtp_batch.wire.verbs import MAX_AUTH, parse_request, parse_response, too_long, usual_request

_USUALLY = frozenset({State.READY, State.MAIL, State.RCPT})


class RequestReader:
    """Requests and content out of a :class:`LineBuffer`, noted in the :class:`Dialogue` as they are given out."""

    __slots__ = ("_body", "_buffer", "_chunk", "_dialogue")

    def __init__(self, buffer: LineBuffer, dialogue: Dialogue) -> None:
        self._buffer = buffer
        self._dialogue = dialogue
        self._body: DataReader | ChunkReader | None = None
        self._chunk: Bdat | Violation | None = None  # what the chunk that is being read will be answered as

    @property
    def in_content(self) -> bool:
        """Whether content or a chunk is being read."""
        return self._body is not None

    def begin_content(self) -> None:
        """354 was said: content follows."""
        self._body = DataReader()

    def drop(self) -> None:
        """Nothing more will be read."""
        self._body = self._chunk = None

    def next(self) -> list[Event]:
        """The next request, or content and what ends it; nothing when more is needed. Raises ``WireProblem``."""
        if self._body is not None:
            return self.content(self._buffer.take())
        response = self._dialogue.asker is State.AUTH
        try:
            line = self._buffer.line(MAX_AUTH)
        except LineTooLong:
            raise too_long(MAX_AUTH if response else MAX_COMMAND) from None
        if line is None:
            return []
        request = parse_response(line) if response else parse_request(line, self._dialogue.protocol)
        if isinstance(request, Bdat):
            return self._begin_chunk(request)
        self._dialogue.ask(request)
        return [request]

    def usual(self, data: bytes) -> Request | None:
        """The request that ``data`` is (``b""``: the next line in the buffer), noted as asked, where it is one of the
        usual ones in its usual place. None: nothing was done, take the long way."""
        dialogue = self._dialogue
        state = dialogue.asker
        if self._body is not None or dialogue.outstanding or state not in _USUALLY or dialogue.answerer is not state:
            return None
        if data and self._buffer.inside_line:  # also of a line that was too long to be kept: this is more of it
            return None
        line = data or self._buffer.peek(MAX_COMMAND)
        request = usual_request(line) if line else None
        if request is None:
            return None
        row = TABLE[state].get(request.verb)
        if row is None or row.asked is None:
            return None
        dialogue.asker = row.asked
        dialogue.outstanding.append(request)
        if not data and line:
            self._buffer.drop(len(line))
        return request

    def content(self, data: bytes) -> list[Event]:
        """``data`` as content, and the request it ends with, if it does; what stands behind goes to the buffer."""
        assert self._body is not None
        content, rest = self._body.feed(data)
        wanted = content and not isinstance(self._chunk, Violation)
        events: list[Event] = [Content(content)] if wanted else []
        if rest is not None:
            self._body = None
            self._buffer.feed(rest)
            events.append(self._end())
        return events

    def _begin_chunk(self, request: Bdat) -> list[Event]:
        """The octets of a chunk come whether it is welcome or not: an unwelcome one is read past, then refused."""
        self._body = ChunkReader(request.size)
        self._chunk = request
        try:
            self._dialogue.check(request.verb)
            if b"CHUNKING" not in self._dialogue.extensions:
                raise PeerProblem("BDAT is not offered", Reply(502, b"5.5.1", b"BDAT is not offered here"))
        except WireProblem as problem:
            self._chunk = Violation(problem.reply, problem.reason)
            return self.content(self._buffer.take())
        return [request]

    def _end(self) -> Event:
        """The content is complete: the request that it belongs to waits for its reply from now on."""
        chunk, self._chunk = self._chunk, None
        request = EndOfData() if chunk is None else chunk
        self._dialogue.ask(request)
        return EndOfChunk(request.last) if isinstance(request, Bdat) else request
