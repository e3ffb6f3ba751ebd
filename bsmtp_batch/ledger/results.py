"""Results that come too fast for the database: a file beside it that takes them first, with one small write each.

A commit of the database writes a page of every table it touches, and lets the file system write down that a file grew.
Here a commit overwrites one place of a file that was filled with zeros before. What is in such a file is taken into the
database now and then, and by whoever comes next when its owner was killed: its owner holds a lock on it.

A record begins on a page of its own, so that no write touches what an earlier one made durable. Its generation and its
check tell it from what stood there before, and from one that was torn.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from bsmtp_batch.ledger.rows import Outcome, Settled

SIZE = 512 * 1024
"""Octets of a file."""
PAGE = 4096
DIRECTORY = "-results"
"""What the directory of these files is called: the name of the database with this behind it."""
LOCK = "recover.lock"

_HEAD = struct.Struct("<8sQII")
_MAGIC = b"results1"

News = tuple[str, Settled]
"""A batch, as the ledger knows it, and what became of one of its messages."""


class Full(Exception):
    """There is no room for the record."""


class Results:
    """A new file in ``directory``, which is made where it is missing; locked as long as it is open.

    All methods raise ``OSError``; after that nothing more is to be written to it.
    """

    def __init__(self, directory: str) -> None:
        _make(directory)
        self.path = f"{directory}/{os.getpid()}.{secrets.token_hex(8)}"
        self._generation = int.from_bytes(secrets.token_bytes(6), "big")
        self._at = 0
        with _locked(directory):  # or else it could be taken for one that was left behind before its lock is held
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            _write(self._fd, bytes(SIZE), 0)
            os.fsync(self._fd)
            _sync(directory)
        except BaseException:
            os.close(self._fd)
            os.unlink(self.path)
            raise

    def append(self, news: Iterable[News]) -> None:
        """Make ``news`` durable. Raises :class:`Full` where they do not fit."""
        record = _record(self._generation, news)
        if self._at + len(record) > SIZE:
            raise Full
        _write(self._fd, record, self._at)
        os.fdatasync(self._fd)
        self._at += len(record)

    def clear(self) -> None:
        """Forget everything, durably: it is in the database."""
        if self._at:
            _write(self._fd, bytes(PAGE), 0)
            os.fdatasync(self._fd)
        self._generation += 1
        self._at = 0

    def close(self, *, remove: bool) -> None:
        """Let go of the file; ``remove`` it, when all of it is in the database."""
        try:
            if remove:
                os.unlink(self.path)
                _sync(os.path.dirname(self.path))  # coming back, it would be held against what was written since
        finally:
            os.close(self._fd)


@contextmanager
def left_behind(directory: str) -> Iterator[list[News]]:
    """What is in files whose owners have gone; these are removed on leaving, when it is in the database. Whoever asks
    at the same time waits. Raises ``OSError``."""
    if not _names(directory):
        yield []
        return
    with _locked(directory), ExitStack() as stack:
        found = []
        for name in _names(directory):
            fd = _orphan(f"{directory}/{name}")
            if fd is not None:
                stack.callback(os.close, fd)
                found.append((f"{directory}/{name}", fd))
        yield [one for _, fd in found for one in read(fd)]
        for path, _ in found:
            os.unlink(path)
        if found:
            _sync(directory)  # as in close


def everything(directory: str) -> list[News]:
    """What is in all files, those in use as well. Raises ``OSError``."""
    found = []
    for name in _names(directory):
        with suppress(FileNotFoundError):
            fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found += read(fd)
            finally:
                os.close(fd)
    return found


def read(fd: int) -> list[News]:
    """The records in ``fd``, up to the first that is none, is torn, or is older than the one before it."""
    data, found, at, generation = os.pread(fd, SIZE, 0), [], 0, None
    while at + _HEAD.size <= len(data):
        magic, of, length, check = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        if magic != _MAGIC or (generation is not None and of != generation) or check != _check(of, payload):
            break
        if not payload:
            break  # zeros are the check of nothing: this is the beginning of a head that was torn
        generation = of
        found += [(batch, _settled(row)) for batch, rows in json.loads(payload).items() for row in rows]
        at += _pages(_HEAD.size + length)
    return found


def _record(generation: int, news: Iterable[News]) -> bytes:
    batches: dict[str, list[list[Any]]] = {}
    for batch, one in news:
        batches.setdefault(batch, []).append(_row(one))
    payload = json.dumps(batches).encode("ascii")
    head = _HEAD.pack(_MAGIC, generation, len(payload), _check(generation, payload))
    return (head + payload).ljust(_pages(len(head) + len(payload)), b"\0")


def _check(generation: int, payload: bytes) -> int:
    return zlib.crc32(payload, generation & 0xFFFFFFFF)


def _pages(octets: int) -> int:
    return -(-octets // PAGE) * PAGE


def _row(one: Settled) -> list[Any]:
    outcomes = [[o.recipient, o.address.decode("latin-1"), o.outcome, o.reply, o.attempt, o.dsn] for o in one.outcomes]
    return [one.message, one.sender.decode("latin-1"), one.state, one.attempts, outcomes]


def _settled(row: list[Any]) -> Settled:
    message, sender, state, attempts, outcomes = row
    found = tuple(Outcome(o[0], o[1].encode("latin-1"), *o[2:]) for o in outcomes)
    return Settled(message, sender.encode("latin-1"), state, attempts, found)


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    fd = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name != LOCK)
    except FileNotFoundError:
        return []


def _orphan(path: str) -> int | None:
    """The open file ``path``, if nobody else has it locked and it is there."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _write(fd: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written


def _make(directory: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
        _sync(os.path.dirname(directory) or ".")


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
