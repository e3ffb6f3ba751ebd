"""The reader of batches: one grammar, two severities; bytes in, messages and faults out (docs/FORMAT.md).

What it reads was written by nobody who could be asked, so whatever could be read in two ways refuses the file. Memory
stays flat: texts stream by (:mod:`bsmtp_batch.batch.body`), command lines and warnings have limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from bsmtp_batch.batch.body import Body
from bsmtp_batch.batch.events import CRLF, LF, Event, Fault, Limits, Message, Refused, Severity, Summary
from bsmtp_batch.batch.transaction import Transaction
from bsmtp_batch.batch.usual import MAX_TEXT_LINE, Bounds, Facts, Skim
from bsmtp_batch.batch.verbs import REPLY, SUB, Misplaced, is_intermediate_reply, strict_verb, tolerant_verb
from bsmtp_batch.wire.command import BadAddress, BadCommand, Mail, Rcpt, parse_mail, parse_rcpt

__all__ = ["Event", "Fault", "Limits", "Message", "Reader", "Severity", "Summary"]

_BOM = b"\xef\xbb\xbf"
_PATIENCE = 1 << 14
"""Octets of a piece that is worth waiting behind: smaller ones are taken in as they come."""
HOLD = 1 << 15
"""Octets that wait for the end of their message, so that it can be looked at as a whole; larger ones stream by."""


class Reader:
    """Takes a plain batch in pieces of any size and gives its messages and faults in order.

    Every message is given when the line with its dot has gone by; what follows may still refuse the file, so a caller
    that wants all or nothing waits for the end. After a fault of scope ``file`` nothing more is given.
    :attr:`summary` is complete after :meth:`close`.
    """

    def __init__(self, severity: Severity, limits: Limits | None = None, *, digests: bool = False) -> None:
        """``digests``: give the sha256 of each message."""
        self.summary = Summary()
        self._strict = severity is Severity.STRICT
        self._limits = limits or Limits()
        self._digests = digests
        self._quick = Bounds(self._limits, self.summary).usable
        self._patient = self._holds = False
        self._out: list[Event] = []
        self._over = False
        self._buffer = b""
        self._facts = Facts(b"")
        self._pos = 0
        self._base = 0  # offset of the buffer's first octet
        self._line = 1
        self._offset = 0  # of the line that is being looked at
        self._warnings: list[str] = []
        self._transaction: Transaction | None = None
        self._body: Body | None = None
        self._reply_due = False
        self._number = 1
        self._commands = False  # whether there was any command at all
        self._sub = False  # whether there was a ^Z
        self._begin_batch()

    def feed(self, data: bytes) -> list[Event]:
        """Take the next octets; the messages and faults that they complete. Raises nothing."""
        if self._over or not data:
            return []
        self._base += self._pos
        self._buffer = self._buffer[self._pos :] + data if self._pos < len(self._buffer) else data
        self._pos = 0
        self._patient = len(data) >= _PATIENCE
        return self._guarded(self._run)

    def close(self) -> list[Event]:
        """The file has ended; the faults that shows. Raises nothing."""
        return [] if self._over else self._guarded(self._finish)

    def _guarded(self, step: Callable[[], None]) -> list[Event]:
        try:
            step()
        except Refused as refused:
            number = self._number
            self._out.append(Fault(number, refused.line, refused.offset, refused.reason, "file"))
            self._over = True
            self._buffer, self._body = b"", None
        out, self._out = self._out, []
        return out

    def _begin_batch(self) -> None:
        """At the start and behind each QUIT: line ends are decided once per batch, and batches may be concatenated."""
        self._phase = "start"
        self._newline: bytes | None = CRLF if self._strict else None
        self._text_newline: bytes | None = None
        self._esmtp = False
        self._replies = False  # whether there were any in this transaction

    def _run(self) -> None:
        self._holds = False
        while True:
            if self._body is None:
                if self._is_usual() and self._skim():
                    self._holds = True
                    return
                if not self._read_command():
                    return
            elif self._reply_due:
                if not self._pass_reply(self._body):
                    return
            else:
                self._pos, ended = self._body.feed(self._buffer, self._pos)
                if not ended:
                    return
                self._end_text(self._body)

    def _is_usual(self) -> bool:
        """Whether messages may begin here that have nothing to do with what was before them."""
        if not self._quick or self._phase != "idle" or self._transaction or self._sub or self._warnings:
            return False
        return self._newline == CRLF and self._text_newline != LF

    def _skim(self) -> bool:
        """Take the usual messages that begin here; whether the next one waits for the rest of it."""
        if self._facts.buffer is not self._buffer:
            self._facts = Facts(self._buffer)
        skim = Skim(
            self._facts,
            self._pos,
            base=self._base,
            line=self._line,
            number=self._number,
            esmtp=self._esmtp,
            bounds=Bounds(self._limits, self.summary),
        )
        skim.run(parameters=self._esmtp or not self._strict, digests=self._digests)
        self._out += skim.messages
        self._pos, self._line = skim.pos, skim.line
        self._number += len(skim.messages)
        self.summary.messages += len(skim.messages)
        self.summary.recipients += skim.recipients
        if self._text_newline is None and any(message.wire_size for message in skim.messages):
            self._text_newline = CRLF
        return skim.waits and self._patient and len(self._buffer) - skim.pos < HOLD

    def _read_command(self) -> bool:
        """Take one command line, if it has come whole."""
        buffer, pos, limit = self._buffer, self._pos, self._limits.command
        end = buffer.find(b"\n", pos, pos + limit)
        self._offset = self._base + pos
        if end < 0:
            if len(buffer) - pos >= limit:
                raise self._refused(f"a command line is longer than {limit} octets")
            return False
        self._pos = end + 1
        line = self._checked_line(buffer[pos:end])
        if not self._strict:
            line = (line.removeprefix(_BOM) if self._offset == 0 else line).strip(b" \t")
        self._command(line)
        self._line += 1
        return True

    def _checked_line(self, raw: bytes) -> bytes:
        """``raw`` (without its LF) without the rest of its line end, which has to be the batch's own."""
        line, newline = (raw[:-1], CRLF) if raw.endswith(b"\r") else (raw, LF)
        if self._newline is None:
            self._newline = newline
        elif self._newline != newline:
            found, due = ("CRLF", "LF alone") if newline == CRLF else ("LF alone", "CRLF")
            raise self._refused(f"this line ends in {found}, where {due} is due")
        if b"\r" in line:
            raise self._refused("a stray CR in a command line: where it ends could be read in two ways")
        return line

    def _command(self, line: bytes) -> None:
        try:
            if self._strict:
                verb = strict_verb(line, self._phase)
            else:
                verb = tolerant_verb(line, between=self._transaction is None)
        except Misplaced as misplaced:
            raise self._refused(str(misplaced)) from None
        if self._sub and line.strip(SUB):
            raise self._refused("something follows the ^Z that ends a file")
        if verb == SUB:
            self._sub = True
        elif verb == REPLY:
            self._replies = True
        elif verb:
            self._commands = True
            self._HANDLERS[verb](self, line)

    # One method per command. ``line`` is without its line end, and in the tolerant case without blanks around it.

    def _greet(self, line: bytes) -> None:
        self._drop("a greeting")
        self._phase = "idle"
        self._esmtp = line[:4].upper() == b"EHLO"
        self.summary.sessions += 1

    def _mail(self, line: bytes) -> None:
        before = self._transaction
        if before and before.early:
            # Whoever wrote a RCPT too early meant it for this message, which must not lose a recipient silently.
            transaction, before.early = before, False
        else:
            self._drop("another MAIL")
            transaction = self._open()
        self._replies = False
        try:
            transaction.mail = parse_mail(line, tolerant=not self._strict)
        except (BadCommand, BadAddress) as bad:
            self._fault(transaction, f"in MAIL, {bad.reason}")
        else:
            self._check_parameters(transaction.mail)
        self._phase = "mail"

    def _rcpt(self, line: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            transaction = self._open()
            transaction.early = True
            self._fault(transaction, "RCPT stands before MAIL")
        try:
            rcpt = parse_rcpt(line, tolerant=not self._strict)
        except (BadCommand, BadAddress) as bad:
            self._fault(transaction, f"in RCPT, {bad.reason}")
        else:
            self._check_parameters(rcpt)
            if len(transaction.rcpts) < self._limits.recipients:
                transaction.rcpts.append(rcpt)
            else:
                self._fault(transaction, f"more than {self._limits.recipients} recipients")
        self._phase = "rcpt"

    def _data(self, _line: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            transaction = self._open()
            self._fault(transaction, "DATA stands before MAIL")
        elif not transaction.rcpts:
            self._fault(transaction, "the message has no recipient")
        assert self._newline is not None
        text = LF if self._newline == LF else CRLF if self._strict else self._text_newline
        self._body = Body(
            offset=self._base + self._pos,
            line=self._line + 1,
            commands=self._newline,
            text=text,
            max_line=self._limits.line,
            digest=self._digests,
        )
        self._reply_due = self._replies

    def _reset(self, _line: bytes) -> None:
        self._transaction = None
        self._phase = "idle"

    def _quit(self, _line: bytes) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction:
            self._fault(transaction, "QUIT stands where DATA should: the message has no text")
            self._give_fault(transaction)
        self._begin_batch()
        self._phase = "end"

    _HANDLERS: ClassVar[dict[bytes, Callable[[Reader, bytes], None]]] = {
        b"HELO": _greet,
        b"EHLO": _greet,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _reset,
        b"QUIT": _quit,
    }

    def _open(self) -> Transaction:
        if self._phase in ("start", "end"):
            self.summary.sessions += 1
            if self.summary.sessions > 1 or self._phase == "end":
                self._warn("a message without a greeting")
        self._transaction = Transaction(self._line, self._offset)
        return self._transaction

    def _drop(self, by: str) -> None:
        """Forget a transaction whose text never came: a reset in the tolerant grammar, impossible in the strict."""
        if self._transaction:
            self._warn(f"{by} instead of DATA: an envelope without text is dropped")
            self._transaction = None

    def _check_parameters(self, command: Mail | Rcpt) -> None:
        if self._strict and command.params and not self._esmtp:
            raise self._refused("parameters need EHLO as the greeting")

    def _pass_reply(self, body: Body) -> bool:
        """Step over the 354 of a recorded session, if the line behind DATA is one. False: it has not come whole."""
        rest = self._buffer[self._pos : self._pos + self._limits.command]
        end = rest.find(b"\n")
        if end < 0 and len(rest) < self._limits.command and (len(rest) < 4 or is_intermediate_reply(rest)):
            return False
        self._reply_due = False
        if end >= 0 and is_intermediate_reply(rest[:end].removesuffix(b"\r")):
            self._offset = self._base + self._pos
            self._line += 1
            self._checked_line(rest[:end])
            self._pos += end + 1
            body.start = body.offset = self._base + self._pos
            body.line += 1
        return True

    def _end_text(self, body: Body) -> None:
        transaction = self._transaction
        assert transaction is not None
        self._transaction = self._body = None
        self._line = body.line + 1
        self._phase = "idle"
        self._note_text(body)
        limit = self._limits.message_size
        if limit is not None and body.size > limit:
            self._fault(transaction, f"the message has {body.size} octets, more than {limit}", at=transaction)
        if transaction.fault or transaction.mail is None:
            self._give_fault(transaction)
            return
        message = transaction.message(self._number, transaction.mail, body, self._esmtp, tuple(self._warnings))
        self._warnings = []
        self.summary.messages += 1
        self.summary.recipients += len(message.rcpts)
        transaction.refuse_more(self._limits, self.summary)
        self._number += 1
        self._out.append(message)

    def _note_text(self, body: Body) -> None:
        if body.long_line:
            self._warn(f"a line of text is longer than {MAX_TEXT_LINE} octets", body.long_line)
        if self._newline == CRLF and self._text_newline is None and body.decided:
            self._text_newline = body.newline
            if body.newline == LF:
                self._warn("commands end in CRLF and texts in LF; this is taken only while every text does")

    def _fault(self, transaction: Transaction, reason: str, *, at: Transaction | None = None) -> None:
        """Refuse this one message; in the strict grammar, the file. The first reason is the one to tell."""
        line, offset = (at.line, at.offset) if at else (self._line, self._offset)
        if self._strict:
            raise Refused(reason, line=line, offset=offset)
        if transaction.fault is None:
            transaction.fault = (reason, line, offset)

    def _give_fault(self, transaction: Transaction) -> None:
        assert transaction.fault is not None
        reason, line, offset = transaction.fault
        self._out.append(Fault(self._number, line, offset, reason, "message", self._base + self._pos))
        self.summary.refused += 1
        self._number += 1

    def _refused(self, reason: str) -> Refused:
        return Refused(reason, line=self._line, offset=self._offset)

    def _warn(self, text: str, line: int = 0) -> None:
        words = f"line {line or self._line}: {text}"
        self.summary.warn(words)
        if len(self._warnings) < 20:
            self._warnings.append(words)

    def _finish(self) -> None:
        self._over = True
        self._patient = False
        if self._holds:
            self._run()
        if self._body:
            self._body.close(self._buffer, self._pos)
        self._offset = self._base + self._pos
        if self._pos < len(self._buffer):
            self._last_line(self._buffer[self._pos :])
        self._offset = self._base + len(self._buffer)
        if self._transaction:
            raise self._refused("the file ends between an envelope and its text: it was cut")
        if not self._offset:
            raise self._refused("the file is empty")
        if not self._commands:
            raise self._refused("the file holds no command")
        if self._phase != "end":
            if self._strict or self._number == 1:
                raise self._refused("the file ends without QUIT: it was cut, or something is missing")
            self._warn("no QUIT at the end")
        if self._number == 1:
            self._warn("no message in the file")

    def _last_line(self, rest: bytes) -> None:
        """A last line without its line end."""
        if self._strict and self._phase == "end":
            raise self._refused("something follows QUIT")
        text = rest.strip(b" \t\r")
        if self._strict or (text.strip(SUB) and text.upper() != b"QUIT"):
            raise self._refused("the last line has no line end: the file was cut")
        if text.upper() == b"QUIT":
            self._warn("the last line has no line end")
            self._quit(rest)
