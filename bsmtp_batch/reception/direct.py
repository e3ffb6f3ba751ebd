"""Messages to the local mail server while the far side waits: what that server says is what the far side hears.

A recipient is asked about as soon as it is named, so that a refusal goes back where it belongs, and nothing has to be
returned to a sender by us. The message itself is handed in when it is complete. Where a server then still treats its
recipients differently (LMTP has a reply for each) and took the message for some of them, it cannot be given back: we
say yes, and the rest goes into ``in/ORIGIN/new`` for ``import``, which tries again or tells the sender.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO

from bsmtp_batch.reception.contract import Deposit, Sink
from bsmtp_batch.replay.contract import Connection, Job, Kind, Result, Target, Unreachable, Verdict
from bsmtp_batch.replay.parameters import parameter
from bsmtp_batch.replay.replies import judge
from bsmtp_batch.replay.smtp import SmtpConnection
from bsmtp_batch.spool import durable
from bsmtp_batch.wire.command import Mail, Rcpt, needs_utf8
from bsmtp_batch.wire.dots import Canonicaliser, Unstuffer
from bsmtp_batch.wire.events import MailFrom, RcptTo, Reply, Rset, Verb

IN_MEMORY = 1 << 20
"""Octets of a message that are kept in memory; more of it goes to a file without a name."""
_CHUNK = 1 << 16
_REPLY = re.compile(r"([2-5][0-9]{2})(?: ([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: (.*))?", re.DOTALL)
_AWAY = Reply(451, b"4.3.0", b"the mail server here takes nothing now")


class Direct:
    """The sink that hands messages to ``target``; ``rest`` is where recipients go that ``target`` left over.

    ``directory`` has room for large messages. ``tell`` gets a line for the operator. :meth:`policy` is the policy of
    the reception that this is the sink of. Use :meth:`close` at the end.
    """

    def __init__(
        self, target: Target, rest: Sink, *, directory: str, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._target = target
        self._rest = rest
        self._directory = directory
        self._tell = tell
        self._connection: Connection | None = None
        self._asked: Mail | None = None
        self._about: Reply | None = None

    def policy(self, mail: Mail, rcpt: Rcpt) -> Reply | None:
        """What the server says about ``rcpt``: its refusal, or None. See :data:`~.session.Policy`."""
        for _ in range(2):  # a connection that was idle may have been closed
            fresh = self._connection is None
            try:
                return self._about_recipient(mail, rcpt)
            except Unreachable as unreachable:
                self.close()
                if fresh:
                    name, why = self._target.name, str(unreachable)
                    self._tell(why if why.startswith(name) else f"{name}: {why}")
                    break
        return _AWAY

    def begin(self, mail: Mail, rcpts: Sequence[Rcpt]) -> Deposit | Reply:
        """See :class:`~bsmtp_batch.reception.contract.Sink`."""
        self._asked = None
        return _Message(self, mail, rcpts, tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._directory))

    def close(self) -> None:
        """End the connection with the server; never raises."""
        connection, self._connection, self._asked = self._connection, None, None
        if connection is not None:
            connection.close()

    def hand_in(self, job: Job) -> Result:
        """What the server says to ``job``. A connection that was lost before anything was decided is made anew once."""
        for _ in range(2):
            fresh = self._connection is None
            try:
                result = self._connected().carry(job, lambda: None)
            except Unreachable as unreachable:
                self.close()
                self._tell(str(unreachable))
                return Result((Verdict(Kind.DEFERRED, str(_AWAY)),) * len(job.rcpts))
            if result.ended:
                self.close()
            undecided = all(verdict.kind is Kind.DEFERRED for verdict in result.verdicts)
            if fresh or not result.ended or not undecided or result.leave:
                break
        return result

    def leave_over(self, mail: Mail, rcpts: Sequence[Rcpt], text: Iterator[bytes], why: str) -> bool:
        """Whether the message is in ``in/`` now for ``rcpts``."""
        self._tell(f"{len(rcpts)} recipients of a message that {self._target.name} took are left to import: {why}")
        begun = self._rest.begin(mail, rcpts)
        if isinstance(begun, Reply):
            return False
        for piece in text:
            begun.write(piece)
        return all(reply.ok for reply in begun.commit())

    def say(self, what: str) -> None:
        """A line for the operator."""
        self._tell(what)

    # -- recipients ----------------------------------------------------------------------------------------------

    def _about_recipient(self, mail: Mail, rcpt: Rcpt) -> Reply | None:
        """Raises ``Unreachable``."""
        connection = self._connected()
        if not isinstance(connection, SmtpConnection):
            return None  # a Maildir takes everybody
        if self._asked is not mail:
            self._asked, self._about = mail, None
            connection.ask(Rset())
            asked = connection.ask(MailFrom(_plain(mail, connection)))
            self._about = None if asked.ok else _passed_on(asked, Verb.MAIL)
        if self._about is not None:
            return self._about
        reply = connection.ask(RcptTo(Rcpt(rcpt.path)))
        return None if reply.ok else _passed_on(reply, Verb.RCPT)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._asked = None
            self._connection = self._target.connect()
        return self._connection


class _Message:
    """See :class:`~bsmtp_batch.reception.contract.Deposit`."""

    def __init__(self, sink: Direct, mail: Mail, rcpts: Sequence[Rcpt], file: IO[bytes]) -> None:
        self._sink = sink
        self._mail = mail
        self._rcpts = tuple(rcpts)
        self._file = file
        self._unstuff = Unstuffer()
        self._text = Canonicaliser()
        self._eight_bit = False
        self._failure: OSError | None = None

    def write(self, data: bytes) -> None:
        self._put(lambda: self._text.feed(self._unstuff.feed(data)))
        self._eight_bit = self._eight_bit or not data.isascii()

    def commit(self) -> Sequence[Reply]:
        self._put(lambda: self._text.feed(self._unstuff.close()) + self._text.close())
        try:
            return (self._decided(),)
        except OSError as error:
            self._failure = error
            return (self._full(),)
        finally:
            self.abort()

    def abort(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _decided(self) -> Reply:
        if self._failure is not None:
            return self._full()
        verdicts = self._sink.hand_in(self._job()).verdicts
        left = [index for index, verdict in enumerate(verdicts) if verdict.kind is not Kind.DELIVERED]
        if not left:
            return _spoken(verdicts[0].reply)
        if len(left) == len(verdicts):
            # One that is to be tried again lets all of them be tried again: who was refused is refused then, too.
            worst = next((v for v in verdicts if v.kind is not Kind.REJECTED), verdicts[0])
            return _spoken(worst.reply, temporary=worst.kind is not Kind.REJECTED)
        rcpts = [self._rcpts[index] for index in left]
        if self._sink.leave_over(self._mail, rcpts, self._wire(), verdicts[left[0]].reply):
            return Reply(250, b"2.0.0", b"taken")
        return Reply(451, b"4.3.0", b"it could not be taken for everybody")  # twice for some is better than not at all

    def _job(self) -> Job:
        return Job(
            name=f"D{durable.unique()}",
            mail=self._mail,
            rcpts=self._rcpts,
            size=self._text.size,
            eight_bit=self._eight_bit,
            wire=self._wire,
            content=self._content,
        )

    def _wire(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(_CHUNK):
            yield piece

    def _content(self) -> Iterator[bytes]:
        undo = Unstuffer()
        for piece in self._wire():
            yield undo.feed(piece)
        yield undo.close()

    def _put(self, text: Callable[[], bytes]) -> None:
        if self._failure is not None:
            return
        try:
            self._file.write(text())
        except OSError as error:
            self._failure = error

    def _full(self) -> Reply:
        assert self._failure is not None
        self._sink.say(f"a message cannot be kept while it is handed in: {self._failure.strerror}")
        return Reply(451, b"4.3.0", b"there is no room for it here now")


def _plain(mail: Mail, connection: SmtpConnection) -> Mail:
    """``mail`` for a question about recipients, with what decides about them and nothing that the content decides."""
    params: list[tuple[bytes, bytes | None]] = []
    size = parameter(mail.params, b"SIZE")
    if size and b"SIZE" in connection.extensions:
        params.append((b"SIZE", size))
    marked = any(keyword == b"SMTPUTF8" for keyword, _ in mail.params)
    if (marked or needs_utf8(mail.path)) and b"SMTPUTF8" in connection.extensions:
        params.append((b"SMTPUTF8", None))
    return Mail(mail.path, tuple(params))


def _passed_on(reply: Reply, asked: Verb) -> Reply:
    """A refusal as the far side may hear it: what is the matter with us, and not with the mail, is only "later"."""
    return _spoken(str(reply), temporary=judge(reply, asked).kind is not Kind.REJECTED)


def _spoken(said: str, *, temporary: bool = False) -> Reply:
    """``said``, code, status and words on one line, as our own reply; 421 would end the session with the far side."""
    found = _REPLY.fullmatch(said)
    code, status, text = (found[1], found[2] or "", found[3] or "") if found else ("451", "", said)
    if temporary and (code[0] != "4" or code == "421"):
        code, status = "451", "4.3.0"
    if status[:1] != code[0]:
        status = ""
    return Reply(int(code), status.encode(), text.encode("ascii", "backslashreplace"))
