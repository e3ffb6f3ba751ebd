"""What is set aside: a message as a batch file of its own, or a whole file, each with its reason beside it.

The reason is written first and the file last, both durable, so a file that was set aside always has its reason. Names
are made of what is set aside and why, so doing it again after a crash changes nothing. What a crash leaves half written
lies in ``tmp/``, where age removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from bsmtp_batch.batch.events import Message
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.writer import END, QUIT, greeting, transaction
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.directories import make_directories
from bsmtp_batch.spool.store import REASON

CHUNK = 1 << 20


def make_origin(spool: str, origin: str) -> str:
    """The directory of ``origin`` in ``spool``, made with what belongs into it where that is missing. ``OSError``."""
    path = "/".join((spool, names.IN, origin))
    for directory in names.IN_DIRECTORIES:
        make_directories(f"{path}/{directory}", spool)
    return path


class Aside:
    """Sets messages of one batch aside in ``directory`` of ``base``, its origin's or its route's; ``stem`` begins their
    names."""

    def __init__(self, base: str, stem: str, node: str, directory: str = names.BAD) -> None:
        self._base = base
        self._directory = directory
        self._stem = stem
        self._node = node

    def message(self, batch: BatchFile, message: Message, recipients: Iterable[int], kind: str, reason: str) -> str:
        """Keep ``message`` for some of its recipients as a batch that can be imported again; returns its name.

        ``kind`` is a word for why, part of the name.
        """
        rcpts = [message.rcpts[index] for index in recipients]
        esmtp = bool(message.mail.params) or any(rcpt.params for rcpt in rcpts)

        def octets() -> Iterator[bytes]:
            yield greeting(self._node, esmtp) + transaction(message.mail, rcpts)
            yield from batch.wire(message)
            yield END + QUIT

        return self._keep(f"{self._stem}.m{message.number}.{kind}.bsmtp", octets(), reason)

    def extract(self, batch: BinaryIO, number: int, start: int, end: int, reason: str) -> str:
        """Keep the octets from ``start`` to ``end`` of ``batch``, which hold message ``number``, as they are."""
        return self._keep(f"{self._stem}.m{number}.refused.raw", _part(batch, start, end), reason)

    def whole(self, batch: BinaryIO, reason: str) -> str:
        """Keep a copy of the plain ``batch``."""
        return self._keep(f"{self._stem}.bsmtp", _part(batch, 0, batch.seek(0, os.SEEK_END)), reason)

    def _keep(self, name: str, octets: Iterator[bytes], reason: str) -> str:
        write_reason(self._base, name, reason, self._directory)
        _put(self._base, self._directory, name, octets)
        return name


def write_reason(base: str, name: str, reason: str, directory: str = names.BAD) -> None:
    """Put ``reason`` beside what is, or will be, ``name`` in ``directory`` of ``base``."""
    _put(base, directory, name + REASON, iter((reason.encode("utf-8", "backslashreplace") + b"\n",)))


def _put(base: str, directory: str, name: str, octets: Iterator[bytes]) -> None:
    """A file in ``directory``, whole or not at all."""
    passing = "/".join((base, names.TMP, f"{name}.{durable.unique()}"))
    try:
        fd = durable.create(passing)
        try:
            for piece in octets:
                durable.write_all(fd, piece)
        except BaseException:
            os.close(fd)
            raise
        durable.sync_close(fd)
        durable.rename_durably(passing, "/".join((base, directory, name)), sync_source=False)
    except BaseException:
        durable.remove(passing)
        raise


def _part(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        file.seek(start)
        piece = file.read(min(CHUNK, end - start))
        if not piece:
            return
        start += len(piece)
        yield piece
