"""Write one batch file from fragments, checking each on the way, and read it back from the medium.

A fragment is trusted for nothing but its name: DIGEST says what its octets must hash to, and the strict grammar
says what they must be, each fragment on its own, so that none can lean on its neighbour.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from bsmtp_batch.batch.events import Fault, Limits, Message, Severity
from bsmtp_batch.batch.reader import Reader
from bsmtp_batch.batch.usual import transactions
from bsmtp_batch.batch.writer import END, QUIT, greeting, transaction
from bsmtp_batch.spool import durable
from bsmtp_batch.spool.listing import open_regular
from bsmtp_batch.spool.lists import Member
from bsmtp_batch.spool.store import Fragment
from bsmtp_batch.wire.command import BadAddress, BadCommand, Mail, Rcpt

CHUNK = 1 << 18
"""Octets read and written at once."""
WHOLE = 1 << 20
"""Octets of a fragment that is looked at as a whole before any of it is written; larger ones stream by."""

_OPENING = greeting("check", True)
LIMITS = Limits()


class BadMember(Exception):
    """A fragment that may not enter a batch; the text is the reason."""


class Unreadable(Exception):
    """A fragment that the disk does not give back; the text is what it says instead. Another try may succeed."""


class NeedsEhlo(Exception):
    """A transaction carries parameters, and the batch began with HELO: begin again."""


class Unsound(Exception):
    """The batch read back from the medium is not the one that was written; the text says how."""


class Building:
    """A batch taking shape in the new file ``path``; a context manager that closes it whatever happens.

    ``members``, ``size``, ``messages`` and ``recipients`` count what is in it so far. All methods raise ``OSError``.
    """

    def __init__(self, path: str, node: str, *, esmtp: bool, classic: bool) -> None:
        self.path = path
        self.members: list[Member] = []
        self.size = self.messages = self.recipients = 0
        self._esmtp = esmtp
        self._classic = classic
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._waiting = 0
        self._fd = durable.create(path)
        self._open = True
        self._write(greeting(node, esmtp))

    def __enter__(self) -> Building:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            os.close(self._fd)

    def add(self, fragment: Fragment, source: int) -> None:
        """Append ``fragment``, read from the descriptor ``source``.

        Raises :class:`BadMember` or :class:`Unreadable` and then holds what it held before; :class:`NeedsEhlo`.
        """
        if fragment.size <= WHOLE:
            data = _read_whole(source, fragment.size + 1)
            found = _checked(data, fragment)
            self._write(_plain_form(found, data) if self._goes_plain(found) else data)
        else:
            found = self._add_large(fragment, source)
        recipients = sum(len(m.rcpts) for m in found)
        self.members.append(Member(fragment.name, len(found), recipients, fragment.size))
        self.messages += len(found)
        self.recipients += recipients

    def finish(self) -> str:
        """Write QUIT, make the file durable, read it back and compare. Returns its hex sha256.

        Raises :class:`Unsound`; after that, and after any ``OSError``, the file is dead and must not be used.
        """
        self._write(QUIT)
        self._flush()
        self._open = False
        durable.sync_close(self._fd)
        self._read_back()
        return self._hash.hexdigest()

    def _goes_plain(self, found: list[Message]) -> bool:
        """Whether ``found`` has to be written again without its parameters. Raises :class:`NeedsEhlo`."""
        parameters = any(m.mail.params or any(r.params for r in m.rcpts) for m in found)
        if parameters and not self._classic and not self._esmtp:
            raise NeedsEhlo
        return parameters and self._classic

    def _add_large(self, fragment: Fragment, source: int) -> list[Message]:
        """Append a fragment that is not to be held in memory: it is known to be sound when it is in the file already,
        so it may have to be taken back."""
        self._flush()
        size, digest = self.size, self._hash.copy()
        try:
            found = self._copy(fragment, source)
            if self._goes_plain(found):
                self._rewind(size, digest)
                self._copy_plain(found, source)
        except (BadMember, Unreadable):
            self._rewind(size, digest)
            raise
        return found

    def _copy(self, fragment: Fragment, source: int) -> list[Message]:
        """Append the octets of ``fragment`` as they are, and give its messages."""
        reader, found = _fresh_reader()
        digest = hashlib.sha256()
        while chunk := _read(source, CHUNK):
            digest.update(chunk)
            found += _messages(reader.feed(chunk))
            self._write(chunk)
        found += _messages(reader.feed(QUIT)) + _messages(reader.close())
        _check(fragment, digest.hexdigest(), found)
        return found

    def _copy_plain(self, found: list[Message], source: int) -> None:
        """Append ``found`` from ``source`` with no parameter at all, for readers that stop at the first one."""
        for message in found:
            self._write(_plain_envelope(message))
            at = message.offset - len(_OPENING)
            for chunk in _range(source, at, message.wire_size):
                self._write(chunk)
            self._write(END)

    def _write(self, data: bytes) -> None:
        """Append ``data``; many small pieces go to the file together."""
        self._pending.append(data)
        self._waiting += len(data)
        self.size += len(data)
        if self._waiting >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending, self._waiting = [], 0
        durable.write_all(self._fd, data)
        self._hash.update(data)

    def _rewind(self, size: int, digest: hashlib._Hash) -> None:
        self._pending, self._waiting = [], 0
        os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)
        self.size, self._hash = size, digest.copy()

    def _read_back(self) -> None:
        """Read what the medium has, not what the page cache believes, and parse it as a stranger would."""
        reader, digest, size = Reader(Severity.STRICT, LIMITS), hashlib.sha256(), 0
        fd = open_regular(self.path)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while chunk := os.read(fd, CHUNK):
                digest.update(chunk)
                size += len(chunk)
                _sound(reader.feed(chunk))
        finally:
            os.close(fd)
        _sound(reader.close())
        if (size, digest.digest()) != (self.size, self._hash.digest()):
            raise Unsound(f"{size} octets were read back, not the {self.size} that were written, or not the same")
        if (reader.summary.messages, reader.summary.recipients) != (self.messages, self.recipients):
            raise Unsound("another number of messages or recipients was read back than was written")


def _read(source: int, size: int) -> bytes:
    try:
        return os.read(source, size)
    except OSError as error:
        raise Unreadable(error.strerror) from error


def _read_whole(source: int, most: int) -> bytes:
    """``most`` octets, or fewer where the file ends."""
    data = _read(source, most)
    while len(data) < most and (more := _read(source, most - len(data))):
        data += more
    return data


def _checked(data: bytes, fragment: Fragment) -> list[Message]:
    """The messages of ``fragment``, whose octets are ``data``."""
    found = transactions(data, len(_OPENING))
    if found is None:
        reader, found = _fresh_reader()
        for piece in (data, QUIT):
            found += _messages(reader.feed(piece))
        found += _messages(reader.close())
    _check(fragment, hashlib.sha256(data).hexdigest(), found)
    return found


def _check(fragment: Fragment, digest: str, found: list[Message]) -> None:
    if digest != fragment.digest:
        raise BadMember("its content is not what was handed in: the sha256 differs from its name")
    if not found:
        raise BadMember("there is no message in it")


def _plain_form(found: list[Message], data: bytes) -> bytes:
    """The transactions ``found`` in ``data`` with no parameter at all."""
    parts: list[bytes] = []
    for message in found:
        at = message.offset - len(_OPENING)
        parts += (_plain_envelope(message), data[at : at + message.wire_size], END)
    return b"".join(parts)


def _plain_envelope(message: Message) -> bytes:
    try:
        return transaction(Mail(message.mail.path), [Rcpt(r.path) for r in message.rcpts])
    except (BadCommand, BadAddress) as error:
        raise BadMember(f"it cannot be written without parameters: {error.reason}") from error


def _fresh_reader() -> tuple[Reader, list[Message]]:
    reader = Reader(Severity.STRICT, LIMITS)
    return reader, _messages(reader.feed(_OPENING))


def _messages(events: list[Message | Fault]) -> list[Message]:
    found = []
    for event in events:
        if isinstance(event, Fault):
            raise BadMember(f"message {event.message} in it: {event.reason}")
        found.append(event)
    return found


def _sound(events: list[Message | Fault]) -> None:
    for event in events:
        if isinstance(event, Fault):
            raise Unsound(str(event))


def _range(source: int, at: int, size: int) -> Iterator[bytes]:
    while size:
        chunk = os.pread(source, min(size, CHUNK), at)
        if not chunk:
            raise BadMember("it became shorter while it was read")
        yield chunk
        at += len(chunk)
        size -= len(chunk)
