"""Sockets that listen, on the network and in the file system."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 512

Socket = socket.socket
"""What listens."""


def listening(host: str, port: int) -> Socket:
    """A socket that listens at ``host`` (an address or name; ``"*"``: all there are). Raises ``OSError``."""
    if host == "*" and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    address = "" if host == "*" else host
    return socket.create_server(
        (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=BACKLOG
    )


def without_detail(error: OSError) -> str:
    """Why it cannot be listened there, in the system's words alone: ``create_server`` says the address once more."""
    return (error.strerror or str(error)).partition(" (while attempting")[0]


class UnixListener:
    """A socket that listens at ``path`` with the permissions ``mode``, in place of one that nobody listens at any more.

    It takes shape under a passing name, so that nobody meets it with the wrong permissions. Raises ``OSError``;
    ``EADDRINUSE`` where somebody does listen there, or where something else has that name.
    """

    def __init__(self, path: str, mode: int) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        passing = f"{path}.{os.getpid()}"
        try:
            with suppress(FileNotFoundError):
                os.unlink(passing)  # of a process before us with our number
            self.socket.bind(passing)
            try:
                _permit(passing, mode)
                self.socket.listen(BACKLOG)
                with _alone(os.path.dirname(path) or "."):
                    _require_stale(path)
                    os.rename(passing, path)
            except BaseException:
                os.unlink(passing)
                raise
        except BaseException:
            self.socket.close()
            raise
        found = os.lstat(path)
        self._known = found.st_dev, found.st_ino

    def remove(self) -> None:
        """Take the name away, unless it is somebody else's by now; never raises."""
        with suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._known:
                os.unlink(self.path)


def _permit(path: str, mode: int) -> None:
    """Give the socket ``path`` its permissions. Root may do this in a directory of somebody else, who may have put a
    link in its place just now: what is not the socket is left as it is."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.EADDRINUSE, "something else has been put there", path)
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Two that start at one time look and rename one after the other, or both would find the place free."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _require_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EADDRINUSE, "something else than a socket has that name", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # its queue is full: there is somebody
    raise OSError(errno.EADDRINUSE, "another process listens there", path)
