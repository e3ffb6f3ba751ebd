"""The daemon on real sockets: in a thread of the test with a played hub, or as the program with a real one."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.fragments import make_route
from support.odmr_raw import Wire, cram_md5

from bsmtp_batch.accounts.backoff import Backoff
from bsmtp_batch.accounts.gate import Gate
from bsmtp_batch.accounts.work import Work
from bsmtp_batch.edge.listening import listening
from bsmtp_batch.server.daemon import Daemon, Port
from bsmtp_batch.server.line import Listener

HUB = "hub.example"
ROUTE = "site.example"


def dial(port, source="127.0.0.1"):
    """A connection from one of this machine's loopback addresses."""
    return Wire(socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0)))


class Served:
    """A daemon with ``hub`` on one port, in a thread, while the ``with`` block lasts."""

    def __init__(self, hub, *, tls=None, implicit=False, patience=1.0, host="127.0.0.1"):
        self._hub, self._tls, self._implicit, self._patience = hub, tls, implicit, patience
        self._socket = listening(host, 0)
        self.port = self._socket.getsockname()[1]
        self.told = []
        self.gate_clock = time.monotonic
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Tell it to end, and wait until it has."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self):
        with ThreadPoolExecutor(4) as workers, ThreadPoolExecutor(50) as movers:
            asyncio.run(self._serve(workers, movers))

    async def _serve(self, workers, movers):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        work = Work()
        gate = Gate(Backoff(time.monotonic), work)
        listener = Listener(self._hub, gate, self._tls, self._implicit, self._patience)
        daemon = Daemon([Port(self._socket, listener)], workers=workers, movers=movers, tell=self.told.append)
        await daemon.run(self._stop, ready=self._ready.set)
        work.close()


class HubProgram:
    """``bsmtp-batch serve`` with a spool and the accounts ``names``, each with a route NAME.example of its own.

    ``secrets`` holds what ``account add`` printed. ``serve`` are more lines for [serve], ``more`` for the file.
    """

    def __init__(self, home: Path, *names: str, serve: str = "", more: str = "", odmr: str = "127.0.0.1:0"):
        self.home, self.spool = home, home / "hub"
        self.config = home / "hub.toml"
        self.routes = {name: make_route(self.spool, f"{name}.example") for name in names}
        accounts = "".join(f'[account.{n}]\nroutes = ["{n}.example"]\ncram_md5 = true\n' for n in names)
        self.config.write_text(
            f'[node]\nname = "{HUB}"\nspool = "{self.spool}"\nsecrets = "{home}/secrets"\n'
            f'{accounts}[serve]\nodmr = ["{odmr}"]\n{serve}\n{more}'
        )
        self.secrets = {n: self.batch("account", "add", n, "--cram-md5").stdout.strip() for n in names}
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "bsmtp_batch", *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "BSMTP_BATCH_CONFIG": str(self.config)}

    def batch(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == code, (arguments, done.returncode, done.stderr)
        return done

    def __enter__(self):
        self._process = subprocess.Popen(
            self.command("serve"), env=self.environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        first = self._process.stderr.readline()
        self.ports = [int(port) for port in re.findall(r":(\d+)\b", first)]
        if not self.ports:
            with self._process:
                raise AssertionError(first + self._process.stderr.read())
        self._reader = threading.Thread(target=lambda: self.log.extend(self._process.stderr))
        self._reader.start()
        return self

    @property
    def port(self) -> int:
        return self.ports[0]

    def __exit__(self, *_):
        if self._process is not None and self._process.returncode is None:
            self.stop()

    def terminate(self) -> None:
        """Tell it to end."""
        self._process.terminate()

    def stop(self) -> int:
        """Tell it to end; its exit code."""
        self.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait until it has ended; its exit code."""
        code = self._process.wait(30)
        self._reader.join(20)
        self._process.stderr.close()
        return code

    @property
    def memory(self) -> int:
        """Its resident set, KiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def enter(self, name: str, *, port: int = 0, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Wire:
        """A connection on which ``name`` has logged in."""
        wire = dial(port or self.port, source)
        if tls is not None:
            wire.encrypt(tls)
        wire.reply()
        wire.ask(b"EHLO site.example")
        challenge = wire.ask(b"AUTH CRAM-MD5")
        said = wire.ask(cram_md5(name, self.secrets[name], base64.b64decode(challenge[4:])))
        assert said.startswith(b"235"), said
        return wire
