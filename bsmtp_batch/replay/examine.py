"""Looking at a whole batch before its first message is sent: what is in it, and whether it may be imported.

With a manifest the file has to be exactly what the manifest says and what our writer writes; without one, whatever the
tolerant grammar reads to its end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO

from bsmtp_batch.batch.events import Fault, Limits, Message, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.edge.hashing import Sha256

MAX_REFUSED = 10_000
"""Refused messages of one file, after which the file as a whole is taken for something else."""

MAX_MESSAGES = 100_000
"""Messages of one file; more are refused as a whole. An import holds the envelopes of a batch in memory, and a few
megabytes of compressed data can be a hundred million empty messages. ``seal_count`` may not be larger."""
MAX_RECIPIENTS = 2_000_000
"""Recipients of all messages of one file, likewise."""


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
    stamp: tuple[int, int] | None = None
    """What :func:`stamp_of` said of the file before it was read; None where nobody else can write to it."""

    @property
    def sha256(self) -> str:
        """What identifies the batch: the hash of its plain octets."""
        return self.batch.sha256

    @property
    def recipients(self) -> int:
        """Recipients of all complete messages."""
        return sum(len(message.rcpts) for message in self.messages)


def stamp_of(file: BinaryIO) -> tuple[int, int]:
    """What changes when somebody writes to ``file``, which is a real one. Raises ``OSError``."""
    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size


def examine(batch: BatchFile, manifest: Manifest | None) -> Examined:
    """Read ``batch`` from end to end. Raises ``OSError`` when it cannot be read."""
    found = Examined(batch, manifest)
    behind = 0  # where the last message ended, complete or refused
    limits = Limits(messages=MAX_MESSAGES, all_recipients=MAX_RECIPIENTS)
    severity = Severity.STRICT if manifest else Severity.TOLERANT
    with Sha256() as whole:
        for event in batch.scan(severity, limits, whole=whole):
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
