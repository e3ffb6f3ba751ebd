"""Child processes: started from a list of arguments, without a shell, in a clean environment, never left behind."""

from __future__ import annotations

import errno
import io
import math
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Self

from bsmtp_batch.edge.sockets import CHUNK

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PATH_VARIABLE = "BSMTP_BATCH_PATH"
"""The environment variable that replaces the fixed search path, for programs that are installed somewhere else."""

LONGEST = 86_400
"""Seconds after which a contact has ended, whoever feeds it an octet now and then."""

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
_KEPT = ("HOME", "TZ", "TMPDIR", "MAIL_CONFIG", "SSH_AUTH_SOCK", PATH_VARIABLE)
"""What a child still learns from our environment. ``MAIL_CONFIG`` names the Postfix instance of ``sendmail``,
``SSH_AUTH_SOCK`` the agent that holds an operator's keys."""


def environment() -> dict[str, str]:
    """The environment of every child: a fixed search path, the C locale, and the few variables in ``_KEPT``."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PATH": os.environ.get(PATH_VARIABLE) or _PATH, "LC_ALL": "C"}


def become(argv: list[str], *, file_limit: int) -> NoReturn:
    """Turn this process into the program ``argv``, in the clean environment, unable to make any file larger than
    ``file_limit`` octets, or to live longer than :data:`LONGEST`. Raises ``OSError`` when it cannot be started."""
    signal.alarm(LONGEST)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the program is told by an error, and can say so
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    environ = environment()
    os.execvpe(argv[0], argv, environ)  # noqa: S606 - no shell, and that is what is wanted


@contextmanager
def _file_limit(octets: int | None) -> Iterator[None]:
    """Within it a child is started that can make no file larger than ``octets``: it inherits our soft limit, which is
    ours again before anything of ours writes."""
    if octets is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets if hard < 0 else min(octets, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Child:
    """A running program whose standard output we read; a :class:`~bsmtp_batch.edge.sockets.Channel`.

    ``argv`` is a list, its first entry a program; no shell sees it. Standard input is the open file ``source``, from
    its current place on, or, without one, a pipe that :meth:`send` writes to. Standard error is kept for
    :meth:`complaint`. With ``file_limit`` it cannot make any file larger than so many octets. Raises ``OSError`` when
    the program cannot be started. A context manager: on leaving it the child is gone, killed if need be.
    """

    def __init__(self, argv: list[str], *, source: BinaryIO | None = None, file_limit: int | None = None) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        try:
            with _file_limit(file_limit):
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE if source is None else source,
                    stdout=subprocess.PIPE,
                    stderr=self._complaints,
                    env=environment(),
                    cwd="/",
                    bufsize=0,
                    # With a limit SIGXFSZ stays ignored, so that the child is told by an error and can say so.
                    restore_signals=file_limit is None,
                )
        except BaseException:
            self._complaints.close()
            raise
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def output(self) -> int:
        """The descriptor of the child's standard output; it does not block."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """Write all of ``data`` to the child's standard input within ``seconds`` (``TimeoutError``, ``OSError``)."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise BrokenPipeError(errno.EPIPE, "the input of the program was closed")
        fd = self._process.stdin.fileno()
        until = time.monotonic() + seconds
        rest = memoryview(data)
        while rest:
            _wait(fd, select.POLLOUT, until)
            rest = rest[os.write(fd, rest[:CHUNK]) :]

    def receive(self, seconds: float) -> bytes:
        """What the child writes next, within ``seconds``; ``b""`` when it has closed its output."""
        _wait(self.output, select.POLLIN, time.monotonic() + seconds)
        return os.read(self.output, CHUNK)

    def finish(self, seconds: float) -> int:
        """Close the child's input and wait for its end: the exit status, minus the signal when one killed it.

        What the child still writes meanwhile is not read. Raises ``TimeoutError``; :meth:`close` then kills it.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self._process.args!r} did not end within {seconds} seconds") from error

    def complaint(self) -> str:
        """The last line the child wrote to standard error so far, or ``""``; at most 500 characters."""
        return next(reversed(self.complaints()), "")

    def complaints(self) -> list[str]:
        """The lines, empty ones left out, among the last 4,096 octets of its standard error; each at most 500
        characters."""
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, size - 4096))
        lines = self._complaints.read().decode("utf-8", "replace").split("\n")
        return [line.strip()[:500] for line in lines if line.strip()]

    def close(self) -> None:
        """End the child if it still runs, and let go of its pipes; never raises."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._complaints.close()


class Timed(io.RawIOBase):
    """The descriptor ``fd``, read with a limit to its silence: ``TimeoutError`` after ``seconds`` without an octet, and
    ``total`` seconds after the last call of :meth:`allow`, however many octets have come by then.

    To be wrapped into ``io.BufferedReader``; ``fd`` is not closed with it.
    """

    def __init__(self, fd: int, seconds: float, total: float = math.inf) -> None:
        self._fd = fd
        self.allow(seconds, total)

    def allow(self, seconds: float, total: float = math.inf) -> None:
        """From now on these are the limits: one octet now and then holds nobody longer than ``total``."""
        self._seconds = seconds
        self._until = time.monotonic() + total

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, into: WriteableBuffer, /) -> int:
        """What there is, at least one octet; 0 at the end."""
        now = time.monotonic()
        if now >= self._until:
            raise TimeoutError("the program at the other end of the pipe has not come to an end")
        _wait(self._fd, select.POLLIN, min(now + self._seconds, self._until))
        return os.readv(self._fd, [into])


def _wait(fd: int, what: int, until: float) -> None:
    """Return when ``fd`` is ready (or broken, which the next call on it tells); TimeoutError at ``until``."""
    poll = select.poll()
    poll.register(fd, what)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError("the program at the other end of the pipe does not answer")
