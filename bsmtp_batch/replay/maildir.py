"""Delivery into a Maildir: one file per message, LF line ends, under a name that a second delivery finds again.

The name is made of the batch's hash and the message's number, so a crash between the rename and the ledger's note
cannot leave the message there twice: the second run finds it, in ``new/`` or where a mail reader has moved it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from bsmtp_batch.replay.contract import Job, Kind, NextJob, Result, Unreachable, Verdict, nothing_next
from bsmtp_batch.spool import durable
from bsmtp_batch.spool.directories import make_directories


class MaildirTarget:
    """The Maildir in directory ``path``; ``tmp``, ``new`` and ``cur`` are made when they are missing."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        return f"maildir:{self._path}"

    def connect(self) -> MaildirConnection:
        """See :class:`~bsmtp_batch.replay.contract.Target`."""
        try:
            for directory in ("tmp", "new", "cur"):
                make_directories(f"{self._path}/{directory}", self._path)
            # A message that is there will count as delivered. The run that put it there may have been stopped before
            # its name was durable.
            for directory in ("new", "cur"):
                durable.fsync_dir(f"{self._path}/{directory}")
            return MaildirConnection(self._path, _present(self._path))
        except OSError as error:
            raise Unreachable(f"the Maildir {self._path} cannot be used: {error.strerror}") from error


class MaildirConnection:
    """See :class:`~bsmtp_batch.replay.contract.Connection`; ``present`` are the messages that are there already."""

    def __init__(self, path: str, present: set[str]) -> None:
        self._path = path
        self._present = present

    def carry(self, job: Job, before_dot: Callable[[], None], next_job: NextJob = nothing_next) -> Result:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        if job.name in self._present:
            return _all(job, Kind.DELIVERED, "250 2.0.0 it is in the Maildir already")
        passing = "/".join((self._path, "tmp", f"{job.name}.{durable.unique()}"))
        try:
            self._write(job, passing)
        except OSError as error:
            durable.remove(passing)
            return _failed(job, error)
        before_dot()
        try:
            durable.rename_durably(passing, f"{self._path}/new/{job.name}", sync_source=False)
        except OSError as error:
            return _failed(job, error)
        self._present.add(job.name)
        return _all(job, Kind.DELIVERED, "250 2.0.0 stored")

    def close(self) -> None:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""

    @staticmethod
    def _write(job: Job, path: str) -> None:
        fd = durable.create(path)
        try:
            held = b""
            for piece in job.content():
                # A CRLF may be cut between two pieces; content has no CR of its own.
                whole = held + piece
                held = b"\r" if whole.endswith(b"\r") else b""
                durable.write_all(fd, whole.removesuffix(b"\r").replace(b"\r\n", b"\n"))
        except BaseException:
            os.close(fd)
            raise
        durable.sync_close(fd)


def _present(path: str) -> set[str]:
    """The names in ``new/`` and ``cur/``, without what mail readers add to them behind a colon."""
    return {entry.partition(":")[0] for part in ("new", "cur") for entry in os.listdir(f"{path}/{part}")}


def _all(job: Job, kind: Kind, reply: str, *, ended: str = "") -> Result:
    return Result((Verdict(kind, reply),) * len(job.rcpts), ended=ended)


def _failed(job: Job, error: OSError) -> Result:
    """A full disk or a vanished directory is never the message's fault."""
    return _all(job, Kind.DEFERRED, f"451 4.3.0 the Maildir cannot be written: {error.strerror}", ended=str(error))
