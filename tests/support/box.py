"""A box: one mail server's own view of this machine, with nothing installed and nothing left behind.

Linux namespaces do the work. The box sees the machine's files, the unpacked packages of its server on top, and its own
accounts, devices and network; whatever is written lands in memory. Its first process ends when the test process does,
and with it everything that runs in the box, its mounts and its network.

The virtual environment of the test run is /opt/bsmtp-batch in every box, where the files in ``contrib/`` say it is.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from support.debian import Unavailable, root

import bsmtp_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HOME = "/opt/bsmtp-batch"
SPOOL = "/var/spool/bsmtp-batch"
OWNER = "bsmtp-batch"
PROGRAM = f"{HOME}/bin/bsmtp-batch"
PREFIX = os.path.realpath(sys.prefix)
PYTHON = f"{PREFIX}/bin/python"
PACKAGE = str(Path(bsmtp_batch.__file__).resolve().parent)
T = TypeVar("T")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NAMESPACES = ["--mount", "--uts", "--net", "--pid"]
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Box:
    """A view with the packages ``sets`` (of :data:`support.debian.SETS`) and the ``accounts`` NAME -> home directory.

    ``hosts`` are names that mean 127.0.0.1 in it; ``apart`` are roots of another release, PLACE -> set, into which a
    program is put with chroot(8). Raises :class:`support.debian.Unavailable` where a set cannot be had or the machine
    does not let this user make namespaces.
    """

    def __init__(
        self,
        *sets: str,
        accounts: Mapping[str, str],
        hosts: Sequence[str] = (),
        name: str = "hub.example",
        apart: Mapping[str, str] | None = None,
    ):
        if os.geteuid() != 0:
            raise Unavailable("only root can give a mail server its own view of the machine (run the tests as root)")
        roots = [str(root(s)) for s in sets]
        self._spawned: list[subprocess.Popen[bytes]] = []
        settings = {
            "roots": roots,
            "apart": {place: str(root(s)) for place, s in (apart or {}).items()},
            "accounts": {OWNER: SPOOL, **accounts},
            "hostname": name,
            "hosts": f"127.0.0.1 {' '.join([name, *hosts, 'localhost'])}\n",
            "needed": [PREFIX, os.path.realpath(sys.base_prefix), str(Path(bsmtp_batch.__file__).resolve().parents[1])],
            "links": {HOME: PREFIX},
        }
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", sys.executable, "-I"]
        self._process = subprocess.Popen(
            [*command, os.path.join(os.path.dirname(__file__), "boxinit.py"), json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout and self._process.stderr
        if self._process.stdout.readline() != b"ready\n":
            told = self._process.stderr.read().decode(errors="replace").strip()
            self.close()
            raise Unavailable(f"this machine lets us make no view of our own: {told.splitlines()[-1:]}")
        first = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.pid = int(first[0])
        self.root = Path(f"/proc/{self.pid}/root")
        self.run("install", "-d", "-o", OWNER, "-g", OWNER, "-m", "750", SPOOL)
        if not PACKAGE.startswith(PREFIX):
            self._fresh_stub()

    def _fresh_stub(self) -> None:
        """Put today's stub where the installer put it: an editable install keeps the one of the day it was made."""
        stub = (Path(bsmtp_batch.__file__).parent / "deliver" / "stub.py").read_text()
        self.write(f"{PREFIX}/bin/bsmtp-batch-deliver", stub.replace("#!python", f"#!{PYTHON}", 1), 0o755)

    def path(self, name: str) -> Path:
        """The file ``name`` of the box as the test process reaches it. Absolute links in it lead out of the box."""
        return self.root / name.lstrip("/")

    def command(self, *argv: str, user: str | None = None) -> list[str]:
        """The command line that runs ``argv`` in the box, as root or as ``user``."""
        enter = ["nsenter", f"--target={self.pid}", *NAMESPACES, "--root", "--wd", "--"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        return [*enter, *become, *argv]

    def run(
        self, *argv: str, user: str | None = None, code: int | None = 0, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the box to its end, at most 50 s; ``code`` is the exit code it has to have (None: any)."""
        environment = ENVIRONMENT | more.pop("env", {})
        done = subprocess.run(
            self.command(*argv, user=user), capture_output=True, timeout=50, check=False, env=environment, **more
        )
        assert code is None or done.returncode == code, (
            f"{' '.join(argv)} ended with {done.returncode}: {done.stdout.decode()} {done.stderr.decode()}"
        )
        return done

    def spawn(self, *argv: str, user: str | None = None) -> None:
        """Start a program that stays for the life of the box."""
        null = subprocess.DEVNULL
        command = self.command(*argv, user=user)
        self._spawned.append(subprocess.Popen(command, env=ENVIRONMENT, stdin=null, stdout=null, stderr=null))

    def wait_port(self, port: int) -> None:
        """Wait until something in the box listens on ``port``."""
        end = time.monotonic() + 20
        while not re.search(rf"(?m)^ *\d+: \w+:{port:04X} \w+:0000 0A ", Path(f"/proc/{self.pid}/net/tcp").read_text()):
            assert time.monotonic() < end, f"nothing listens on port {port} in the box"
            time.sleep(0.02)

    def connect(self, port: int) -> socket.socket:
        """A connection to a server in the box, for this process."""
        return self._in_its_network(lambda: socket.create_connection(("127.0.0.1", port), timeout=50))

    def listen(self, port: int = 0) -> socket.socket:
        """A listening socket of this process that programs in the box can reach."""
        return self._in_its_network(lambda: socket.create_server(("127.0.0.1", port)))

    def _in_its_network(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in a thread that sees the box's network; a socket stays in the one it was made in."""

        def made() -> T:
            with open(f"/proc/{self.pid}/ns/net", "rb") as network:
                if LIBC.setns(network.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(made).result()

    def batch(
        self, *arguments: str, code: int | None = 0, spool: str = SPOOL, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """``bsmtp-batch ARGUMENTS`` as the owner of the spool."""
        environment = {"BSMTP_BATCH_SPOOL": spool, **more.pop("env", {})}
        return self.run(PROGRAM, *arguments, user=OWNER, code=code, env=environment, **more)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the box, with the directories that lead to it."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)
        self.path(name).chmod(mode)

    @contextmanager
    def broken(self, fault: str, home: str) -> Iterator[None]:
        """Something is wrong with the hand-in to the route in the directory ``home``, and right again afterwards."""
        limits, program = self.path(f"{home}/limits"), f"{PREFIX}/bin/bsmtp-batch-deliver"
        before = limits.read_text()
        apart = {"no route": home, "no interpreter": HOME, "no program": program, "killed": program}.get(fault)
        if fault == "bad setting":
            limits.write_text("max_size as much as you like\n")
        elif fault == "no room":
            limits.write_text(re.sub(r"(?m)^min_free .*", f"min_free {2**59}", before))
        elif fault == "no permission":
            self.run("chown", "root", f"{home}/tmp")
        elif fault == "no modules":
            self.run("mount", "-t", "tmpfs", "tmpfs", PACKAGE)
        elif apart:
            self.run("mv", apart, apart + ".aside")
        if fault == "killed":
            self.write(program, "import os\nos.kill(os.getpid(), 9)\n")
        try:
            yield
        finally:
            if fault in ("bad setting", "no room"):
                limits.write_text(before)
            elif fault == "no permission":
                self.run("chown", OWNER, f"{home}/tmp")
            elif fault == "no modules":
                self.run("umount", PACKAGE)
            elif apart:
                self.run("mv", apart + ".aside", apart)

    def log(self) -> str:
        """What programs of the box sent to syslog."""
        return self.path("/var/log/box.log").read_text(errors="replace")

    def close(self) -> None:
        """End everything in the box; its files and mounts go with its first process."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._process.stdin.close()
        for process in [self._process, *self._spawned]:
            process.wait(20)
        self._process.stdout.close()
        self._process.stderr.close()
