"""What both halves of the conversation stand at: the two streams, and the record of what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bsmtp_batch.handover.protocol import Line, Silence, no, read_line, read_papers
from bsmtp_batch.spool.medium import CHUNK


@dataclass
class Tally:
    """What a contact came to: batches and octets that went over, and the exit code of the worst thing in it."""

    batches: int = 0
    octets: int = 0
    code: int = 0
    result: str = "ok"

    def blame(self, code: int, sentence: str) -> None:
        """Something went wrong; of several things the first is remembered, and 75 outranks 65."""
        if self.code == 0:
            self.result = sentence
        self.code = 75 if 75 in (code, self.code) else code

    def count(self, octets: int) -> None:
        """A batch went over, of which ``octets`` were moved."""
        self.batches += 1
        self.octets += octets


class Desk:
    """``tell`` gets a line for people about each thing done; ``origin`` is who is at the other end."""

    def __init__(self, origin: str, reading: BinaryIO, writing: BinaryIO, tell: Callable[[str], None]) -> None:
        self.origin = origin
        self.tally = Tally()
        self.tell = tell
        self.owed = 0
        """Octets of a body that were announced and have not gone by: until then nothing else can be said."""
        self._reading = reading
        self._writing = writing

    def line(self) -> Line | None:
        """The next line of the other side; None at the end. Raises ``Unspeakable`` and ``Silence``."""
        try:
            return read_line(self._reading)
        except TimeoutError as error:
            raise Silence("nothing was said for a long time") from error

    def papers(self, line: Line) -> tuple[bytes, bytes]:
        """Manifest and signature, which follow ``line``. Raises ``Silence``."""
        return read_papers(self._reading, line)

    def body(self, size: int) -> Iterator[bytes]:
        """``size`` octets of a batch. Raises ``Silence``."""
        self.owed = size
        while self.owed:
            chunk = self._reading.read(min(self.owed, CHUNK))
            if not chunk:
                raise Silence(f"{self.owed} more octets of a batch were announced")
            self.owed -= len(chunk)
            yield chunk

    def say(self, line: Line, papers: bytes = b"") -> None:
        """Answer."""
        self._write(line.to_bytes() + papers)

    def give(self, chunks: Iterator[bytes]) -> None:
        """Write ``chunks``, of which ``owed`` octets were announced."""
        for chunk in chunks:
            self._writing.write(chunk)
            self.owed -= len(chunk)
        self._writing.flush()

    def note(self, code: int, sentence: str) -> None:
        """Something is not as it should be, and the other side need not know."""
        self.tally.blame(code, sentence)
        self.tell(f"receive {self.origin}: {sentence}")

    def refuse(self, code: int, sentence: str) -> None:
        """Say no, and note it."""
        self.note(code, sentence)
        self._write(no(code, sentence))

    def withhold(self, sentence: str) -> None:
        """Say that something has to wait; why was noted before."""
        self._write(no(75, sentence))

    def _write(self, data: bytes) -> None:
        self._writing.write(data)
        self._writing.flush()


def in_words(messages: int) -> str:
    """So many messages."""
    return "1 message" if messages == 1 else f"{messages} messages"
