"""Messages into ``in/ORIGIN/new``, each as a batch of its own, durable before anybody is told so."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.batch.writer import END, QUIT, greeting, transaction
from bsmtp_batch.errors import Problem
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.reception.contract import Deposit
from bsmtp_batch.spool import durable, names
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.wire.command import BadAddress, BadCommand, Mail, Rcpt
from bsmtp_batch.wire.dots import Canonicaliser, Unstuffer
from bsmtp_batch.wire.events import Reply


@dataclass(frozen=True)
class _Label:
    """What a stored message is called, and what is known of it before its content."""

    name: str
    sequence: int
    when: float
    recipients: int


STORED = Reply(250, b"2.0.0", b"stored")
_TRIES = 100


class Store:
    """The sink that keeps messages of ``inbox``'s origin for ``import``; ``node`` is who we are. ``open_ledger`` opens
    the ledger, each time in the thread that answers.

    ``min_free`` octets stay free on the file system. ``tell`` gets a line for the operator when something goes wrong
    that the client is told in few words only.
    """

    def __init__(
        self,
        inbox: Inbox,
        node: str,
        open_ledger: Callable[[], Ledger],
        *,
        min_free: int = 16 << 20,
        tell: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inbox = inbox
        self._node = node
        self._open_ledger = open_ledger
        self._min_free = min_free
        self._tell = tell
        self._now = now

    def begin(self, mail: Mail, rcpts: Sequence[Rcpt]) -> Deposit | Reply:
        """See :class:`~bsmtp_batch.reception.contract.Sink`."""
        try:
            head = transaction(mail, rcpts)
        except (BadCommand, BadAddress) as error:
            return Reply(554, b"5.6.0", error.reason.encode())
        try:
            self._inbox.make()
            system = os.statvfs(self._inbox.path)
            if system.f_bavail * system.f_frsize < self._min_free:
                return Reply(452, b"4.3.1", b"there is no room here now")
            esmtp = bool(mail.params or any(rcpt.params for rcpt in rcpts))
            return self._create(greeting(self._node, esmtp) + head, len(rcpts))
        except OSError as error:
            return self.trouble(error)

    def _create(self, head: bytes, rcpts: int) -> Deposit:
        """A file of a name that nobody has; numbers are taken from the clock, so that they never come again."""
        when = self._now()
        sequence = int(when * 1_000_000)
        for number in range(sequence, sequence + _TRIES):
            name = names.batch_name(self._inbox.origin, number, when, self._node)
            if any(self._inbox.places(name)):
                continue  # the clock was set back to a moment that has been
            try:
                fd = durable.create(self._inbox.settled(name))
            except FileExistsError:
                continue
            message = _Message(self, _Label(name, number, when, rcpts), fd)
            message.put(head)
            return message
        raise FileExistsError("another program uses up all names")

    def keep(self, manifest: Manifest) -> None:
        """The part that ``manifest`` describes is durable: publish it. Raises ``OSError``."""
        self._inbox.publish(manifest.name, manifest.to_bytes())
        m = manifest
        try:
            with self._open_ledger() as ledger:
                ledger.note_batch(
                    "in", self._inbox.origin, m.name, m.sequence, m.sha256, 1, m.recipients, m.bytes, names.NEW
                )
        except Problem as problem:  # it is in new/ for good, and a client that hears anything but yes sends it again
            self._tell(f"{m.name} is stored, but not in the ledger: {problem.what}")

    def manifest(self, label: _Label, size: int, sha256: str) -> Manifest:
        """What is said about a batch of one message."""
        return Manifest(
            name=label.name,
            route=self._inbox.origin,
            origin=self._node,
            sequence=label.sequence,
            messages=1,
            recipients=label.recipients,
            bytes=size,
            sha256=sha256,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(label.when)),
        )

    def drop(self, name: str) -> None:
        """Forget the part of ``name``; age removes what cannot be removed now."""
        with suppress(OSError):
            self._inbox.drop_part(name)

    def trouble(self, error: OSError) -> Reply:
        """The answer to a client whose message the disk does not take."""
        self._tell(f"a message from {self._inbox.origin} cannot be stored now: {error.strerror} ({error.filename})")
        return Reply(451, b"4.3.0", b"it cannot be stored now")


class _Message:
    """See :class:`~bsmtp_batch.reception.contract.Deposit`: one file in ``tmp/``, which becomes a batch in ``new/``."""

    def __init__(self, store: Store, label: _Label, fd: int) -> None:
        self._store = store
        self._label = label
        self._fd = fd
        self._digest = hashlib.sha256()
        self._size = 0
        self._unstuff = Unstuffer()
        self._text = Canonicaliser()
        self._failure: OSError | None = None

    def put(self, data: bytes) -> None:
        """Octets of the batch. Raises ``OSError``."""
        durable.write_all(self._fd, data)
        self._digest.update(data)
        self._size += len(data)

    def write(self, data: bytes) -> None:
        """See ``Deposit``. Dots are undone and doubled anew behind the canonical line ends, stray ones included."""
        if self._failure is not None:
            return
        try:
            self.put(self._text.feed(self._unstuff.feed(data)))
        except OSError as error:
            self._failure = error
            self.abort()

    def commit(self) -> Sequence[Reply]:
        """See ``Deposit``."""
        if self._failure is not None:
            return (self._store.trouble(self._failure),)
        try:
            self.put(self._text.feed(self._unstuff.close()) + self._text.close() + END + QUIT)
            fd, self._fd = self._fd, -1
            durable.sync_close(fd)
            self._store.keep(self._store.manifest(self._label, self._size, self._digest.hexdigest()))
        except OSError as error:
            self.abort()
            return (self._store.trouble(error),)
        return (STORED,)

    def abort(self) -> None:
        """See ``Deposit``."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
        self._store.drop(self._label.name)
