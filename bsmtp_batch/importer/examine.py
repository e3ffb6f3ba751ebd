"""Looking at a whole batch before its first message is sent: what is in it, and whether it may be imported.

With a manifest the file has to be exactly what the manifest says and what our writer writes; without one, whatever the
tolerant grammar reads to its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bsmtp_batch.batch.events import Fault, Message, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.manifest import Manifest

MAX_REFUSED = 10_000
"""Refused messages of one file, after which the file as a whole is taken for something else."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message the grammar refuses in an otherwise sound file; it lies between ``start`` and ``end`` in the file."""

    fault: Fault
    start: int
    end: int


@dataclass(slots=True)
class Examined:
    """What is in a batch. ``bad`` says why the file as a whole must not be imported, ``""`` when it may."""

    batch: BatchFile
    manifest: Manifest | None
    messages: list[Message] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    bad: str = ""

    @property
    def sha256(self) -> str:
        """What identifies the batch: the hash of its plain octets."""
        return self.batch.sha256

    @property
    def recipients(self) -> int:
        """Recipients of all complete messages."""
        return sum(len(message.rcpts) for message in self.messages)


def examine(batch: BatchFile, manifest: Manifest | None) -> Examined:
    """Read ``batch`` from end to end. Raises ``OSError`` when it cannot be read."""
    found = Examined(batch, manifest)
    behind = 0  # where the last message ended, complete or refused
    for event in batch.scan(Severity.STRICT if manifest else Severity.TOLERANT):
        if isinstance(event, Message):
            found.messages.append(event)
            behind = event.offset + event.wire_size
        elif event.scope == "file" or len(found.refused) >= MAX_REFUSED:
            found.bad = found.bad or str(event)
        else:
            found.refused.append(Refused(event, behind, event.end))
            behind = event.end
    if manifest and not found.bad:
        summary = batch.summary
        found.bad = manifest.matches(batch.size, batch.sha256, summary.messages, summary.recipients) or ""
    return found
