"""Child processes: started from a list of arguments, without a shell, in a clean environment, never left behind."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from types import TracebackType
from typing import BinaryIO, Self

from bsmtp_batch.edge.sockets import CHUNK

PATH_VARIABLE = "BSMTP_BATCH_PATH"
"""The environment variable that replaces the fixed search path, for programs that are installed somewhere else."""

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
_KEPT = ("HOME", "TZ", "TMPDIR", "MAIL_CONFIG", "SSH_AUTH_SOCK", PATH_VARIABLE)
"""What a child still learns from our environment. ``MAIL_CONFIG`` names the Postfix instance of ``sendmail``,
``SSH_AUTH_SOCK`` the agent that holds an operator's keys."""


def environment() -> dict[str, str]:
    """The environment of every child: a fixed search path, the C locale, and the few variables in ``_KEPT``."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PATH": os.environ.get(PATH_VARIABLE) or _PATH, "LC_ALL": "C"}


class Child:
    """A running program whose standard output we read; a :class:`~bsmtp_batch.edge.sockets.Channel`.

    ``argv`` is a list, its first entry a program; no shell sees it. Standard input is the open file ``source``, from
    its current place on, or, without one, a pipe that :meth:`send` writes to. Standard error is kept for
    :meth:`complaint`. Raises ``OSError`` when the program cannot be started. A context manager: on leaving it the
    child is gone, killed if need be.
    """

    def __init__(self, argv: list[str], *, source: BinaryIO | None = None) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if source is None else source,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=environment(),
                cwd="/",
                bufsize=0,
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

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """Write all of ``data`` to the child's standard input within ``seconds`` (``TimeoutError``, ``OSError``)."""
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        until = time.monotonic() + seconds
        rest = memoryview(data)
        while rest:
            _wait(fd, select.POLLOUT, until)
            rest = rest[os.write(fd, rest[:CHUNK]) :]

    def receive(self, seconds: float) -> bytes:
        """What the child writes next, within ``seconds``; ``b""`` when it has closed its output."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        _wait(fd, select.POLLIN, time.monotonic() + seconds)
        return os.read(fd, CHUNK)

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
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, size - 4096))
        lines = self._complaints.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """End the child if it still runs, and let go of its pipes; never raises."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._complaints.close()


def _wait(fd: int, what: int, until: float) -> None:
    """Return when ``fd`` is ready (or broken, which the next call on it tells); TimeoutError at ``until``."""
    poll = select.poll()
    poll.register(fd, what)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError("the program at the other end of the pipe does not answer")
