"""``bsmtp-batch serve`` taking mail by LMTP in a box, and a tap before it that can lose what is said on the line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.box import ENVIRONMENT, OWNER, PROGRAM, SPOOL, Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORY = "/run/bsmtp-batch"
SOCKET = f"{DIRECTORY}/lmtp"
CONFIG = "/etc/bsmtp-batch/bsmtp-batch.toml"
NODE = f'[node]\nname = "hub.example"\nspool = "{SPOOL}"\nreserve = 0\n'


class Intake:
    """The daemon with the lines for its settings that a contrib file carries (``#c`` or ``dnl c``), and ``more``."""

    def __init__(self, box: Box, directory: Path, contrib: str, more: str = ""):
        self.box = box
        lines = re.findall(r"^(?:#|dnl )c +(.*)$", contrib, re.M)
        assert "[serve]" in lines and any(line.startswith("lmtp = ") for line in lines)
        box.write(CONFIG, NODE + "".join(line + "\n" for line in lines) + more)
        box.run("install", "-d", "-o", OWNER, "-g", OWNER, "-m", "755", DIRECTORY)
        self._told = directory / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._routes = 0
        self.start()

    def start(self, *under: str) -> None:
        """Start it, with the words ``under`` before its command line, and wait until it takes mail."""
        before = self._starts()
        with self._told.open("ab") as log:
            command = self.box.command(*under, PROGRAM, "serve", user=OWNER)
            self._process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + 20
        while self._starts() == before:
            assert self._process.poll() is None and time.monotonic() < end, self.log()[-2000:]
            time.sleep(0.02)

    def _starts(self) -> int:
        return self.log().count("serve: listening on ") if self._told.exists() else 0

    @property
    def pid(self) -> int:
        """Its process, as seen from outside the box."""
        assert self._process
        return int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0])

    def stop(self) -> None:
        """Let it hang until :meth:`go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process
        for pid in (self.pid, self._process.pid):  # nsenter stops together with what it has started
            os.kill(pid, signal.SIGCONT)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it, and wait until it has ended; what nsenter says it ended with."""
        assert self._process
        os.kill(self.pid, how)
        return self._process.wait(40)

    def log(self) -> str:
        return self._told.read_text(errors="replace")

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is not running meanwhile."""
        self.end()
        try:
            yield
        finally:
            self.start()

    def new_route(self) -> str:
        """A route that nobody has seen yet, and a domain whose mail goes there."""
        self._routes += 1
        name = f"r{self._routes}.site.example"
        self.box.batch("route", "add", name)
        return name

    def waiting(self, route: str) -> list[Path]:
        """The messages that can be seen in ``route``."""
        return sorted(self.box.path(f"{SPOOL}/out/{route}/new").iterdir())

    def wait_waiting(self, route: str, count: int) -> list[Path]:
        """Wait until ``count`` messages can be seen in ``route``: what is acknowledged is shown a moment later."""
        end = time.monotonic() + 20
        while len(found := self.waiting(route)) != count:
            assert time.monotonic() < end, f"{len(found)} and not {count} in {route}\n{self.log()[-2000:]}"
            time.sleep(0.02)
        return found

    def sealed(self, route: str) -> bytes:
        """Seal what waits in ``route``; the one batch that came of it."""
        self.box.batch("seal", route)
        (found,) = self.box.path(f"{SPOOL}/out/{route}/ready").glob("*.bsmtp")
        return found.read_bytes()

    def close(self) -> None:
        assert self._process
        if self._process.poll() is None:
            self.end()


def until(done: Callable[[], bool], again: Callable[[], object]) -> None:
    """Have a mail server try ``again`` until ``done``: for a second the daemon believes what it saw of a route."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, "it does not go through"
        again()
        time.sleep(0.2)


def asked(batch: bytes) -> tuple[set[str], dict[str, set[str]]]:
    """The parameters of MAIL, but for SIZE, and of each recipient's RCPT, of the one message in ``batch``."""
    (envelope,) = re.findall(rb"(?m)^(MAIL FROM:.*\r\n(?:RCPT TO:.*\r\n)+)DATA\r$", batch)
    first, *rcpts = [line.partition(">")[::2] for line in envelope.decode().splitlines()]
    params = {p for p in first[1].split() if not re.fullmatch(r"SIZE=\d+", p)}
    return params, {path.removeprefix("RCPT TO:<"): set(more.split()) for path, more in rcpts}


class Tap:
    """A socket in the box from which every connection goes on to the daemon; it can cut one at a point that matters.

    With ``swallow`` set, the next answer to an end of message is not passed on: the connection breaks instead, so the
    mail server never hears what became of the message.
    """

    def __init__(self, box: Box, name: str = "/run/tap/lmtp"):
        self.box, self.name = box, name
        box.run("install", "-d", "-m", "755", os.path.dirname(name))
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(_short(box, name))
        box.path(name).chmod(0o666)
        self._listening.listen(20)
        self.swallow = False
        self.swallowed: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        with near, far:
            far.connect(_short(self.box, SOCKET))
            seen = bytearray()
            back = threading.Thread(target=self._back, args=(far, near, seen), daemon=True)
            back.start()
            while data := near.recv(65536):
                seen += data
                far.sendall(data)
            _ended(far)
            back.join(20)

    def _back(self, far: socket.socket, near: socket.socket, seen: bytearray) -> None:
        """What the daemon says, up to the answer that is to be lost."""
        try:
            while data := far.recv(65536):
                if self.swallow and re.search(rb"\r\n\.\r\n(QUIT\r\n)?$", seen):
                    self.swallow = False
                    self.swallowed.append(data)
                    break
                near.sendall(data)
        except OSError:
            pass  # the mail server went first
        _ended(near)

    def close(self) -> None:
        _ended(self._listening)
        self._listening.close()


def _short(box: Box, name: str) -> str:
    """The path of a socket of the box, for this process; it is short, as paths of sockets have to be."""
    path = str(box.path(name))
    assert len(path) < 100
    return path


def _ended(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
