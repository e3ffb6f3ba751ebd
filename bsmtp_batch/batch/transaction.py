"""A message of which the reader has the envelope, or a part of it, and not yet the text."""

from __future__ import annotations

from bsmtp_batch.batch.body import Body
from bsmtp_batch.batch.events import CRLF, Limits, Message, Refused, Summary
from bsmtp_batch.wire.command import Mail, Rcpt


class Transaction:
    """Filled in command by command; ``line`` and ``offset`` are those of its first command."""

    __slots__ = ("early", "fault", "line", "mail", "offset", "rcpts")

    def __init__(self, line: int, offset: int) -> None:
        self.line = line
        self.offset = offset
        self.early = False
        """A RCPT stood before MAIL."""
        self.mail: Mail | None = None
        self.rcpts: list[Rcpt] = []
        self.fault: tuple[str, int, int] | None = None
        """Why the message is refused, and the line and offset of that."""

    def message(self, number: int, mail: Mail, body: Body, esmtp: bool, warnings: tuple[str, ...]) -> Message:
        """The complete message, now that its text has gone by."""
        newline = body.newline or CRLF
        return Message(
            number=number,
            mail=mail,
            rcpts=tuple(self.rcpts),
            offset=body.start,
            wire_size=body.wire_size,
            size=body.size,
            sha256=body.sha256(),
            line=self.line,
            newline=newline,
            exact=body.exact and newline == CRLF,
            eight_bit=body.eight_bit,
            esmtp=esmtp,
            warnings=warnings,
        )

    def refuse_more(self, limits: Limits, summary: Summary) -> None:
        """Raises :class:`Refused` where ``summary`` counts more than ``limits`` allow, since this message was added."""
        for found, most, what in (
            (summary.messages, limits.messages, "messages"),
            (summary.recipients, limits.all_recipients, "recipients"),
        ):
            if most is not None and found > most:
                raise Refused(f"the file has more than {most} {what}", line=self.line, offset=self.offset)
