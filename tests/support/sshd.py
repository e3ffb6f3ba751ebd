"""A real sshd on a loopback port, with keys, configuration and accounts of its own; nothing of the machine's is used.

Its one account is the user who runs the tests. Each key gets its own forced command, so one server serves a whole test
run: a test adds the customers it needs. As root sshd insists on a user and a directory that the machine may not have;
it is then started in a mount namespace where it sees an account file of its own.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.debian import need, tool

HOST = "127.0.0.1"
RECEIVE = [sys.executable, "-I", "-m", "bsmtp_batch", "receive"]
_LISTENING = "Server listening on"
_CONFIG = """\
ListenAddress {host}:{port}
HostKey {home}/host
AuthorizedKeysFile {home}/authorized_keys
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PermitUserEnvironment no
Subsystem sftp internal-sftp
MaxStartups 1000
MaxSessions 100
LoginGraceTime 20
LogLevel VERBOSE
"""
_AS_ROOT = """\
mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/shadow" /etc/shadow &&
mount -t tmpfs -o mode=0755 tmpfs /run && mkdir -m 0755 /run/sshd &&
mount -t tmpfs -o mode=0700,size=24m tmpfs "$1/small" || exit 71
exec "$2" -D -e -f "$1/sshd_config"
"""


def programs(directory: Path) -> str:
    """A search path on which ssh, scp and rsync are found: the machine's own, or those that were fetched."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("ssh", "scp", "rsync", "ssh-keygen"):
        link = directory / name
        if not link.exists():
            link.symlink_to(tool(name))
    return f"{directory}:/usr/bin:/bin"


def make_key(path: Path) -> Path:
    """A key pair without a passphrase: the private key's path, the public one beside it under ``.pub``."""
    quiet = ["-q", "-t", "ed25519", "-N", "", "-C", path.name]
    subprocess.run([tool("ssh-keygen"), *quiet, "-f", str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


def children(pid: int) -> Iterator[int]:
    """Every living descendant of process ``pid``, parents first."""
    try:
        text = "".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return  # it ended while we looked
    for word in text.split():
        yield int(word)
        yield from children(int(word))


def words_of(pid: int) -> list[str]:
    """The command line of a process, empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal to a process that may have ended; whether it was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Sshd:
    """The server. ``home`` takes its files; the account's own home is the empty directory :attr:`account_home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.account_home = home / "account"
        self.account_home.mkdir(mode=0o700)
        (home / "small").mkdir()
        self.path = programs(home / "bin")
        self._keys = home / "authorized_keys"
        self._keys.touch(0o600)
        make_key(home / "host")
        kind, key = (home / "host.pub").read_text().split()[:2]
        self.known_hosts = home / "known_hosts"
        self.known_hosts.write_text(f"[{HOST}]:* {kind} {key}\n")  # whatever port a relay has
        self._log: list[str] = []
        self._start()

    def _start(self) -> None:
        for _ in range(5):  # somebody else may take the port between our asking and sshd's
            self.port = free_port()
            (self.home / "sshd_config").write_text(_CONFIG.format(host=HOST, port=self.port, home=self.home))
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, errors="replace", cwd="/",
            )  # fmt: skip
            assert self._process.stderr is not None
            for line in self._process.stderr:
                self._log.append(line)
                if _LISTENING in line:
                    self._reader = threading.Thread(target=self._read, daemon=True)
                    self._reader.start()
                    return
            self._process.wait()
            self._process.stderr.close()
        need(f"sshd does not start here: {''.join(self._log)[-500:]}")

    def _command(self) -> list[str]:
        program = tool("sshd")
        if os.geteuid() != 0:
            return [program, "-D", "-e", "-f", str(self.home / "sshd_config")]
        (self.home / "passwd").write_text(
            f"{self.user}:x:0:0::{self.account_home}:/bin/sh\nsshd:x:65500:65534::/run/sshd:/usr/sbin/nologin\n"
            "nobody:x:65534:65534::/:/usr/sbin/nologin\n"
        )
        (self.home / "shadow").write_text(f"{self.user}:*:19000:0:99999:7:::\n")
        private = ["unshare", "--mount", "--propagation", "private"]
        return [*private, "/bin/sh", "-c", _AS_ROOT, "sshd", str(self.home), program]

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._log.extend(self._process.stderr)

    @property
    def pid(self) -> int:
        """The listening process; every session is a descendant of it."""
        return self._process.pid

    def small_disk(self) -> tuple[Path, Path, list[str]]:
        """An empty disk of 24 MB that the server's sessions see, where root runs the tests.

        Its path for them, its path for the test, and what has to stand before a command line of ours that shall see it
        as they do.
        """
        if os.geteuid() != 0:
            need("only root can give sshd a small disk of its own (run the tests as root)")
        seen = Path(f"/proc/{self.pid}/root{self.home}/small")
        for left in seen.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return self.home / "small", seen, ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--"]

    def log(self) -> str:
        """What sshd has said so far."""
        return "".join(self._log)

    def authorize(self, name: str, *command: str | Path, restrict: str = "restrict,") -> Path:
        """Let a new key in that may start ``command`` and nothing else; the path of the private key.

        The key keeps its name: asked for again, the same key gets the new command.
        """
        key = self.home / f"key.{name}"
        if not key.exists():
            make_key(key)
        public = key.with_suffix(key.suffix + ".pub").read_text().strip()
        line = shlex.join(str(word) for word in command).replace('"', '\\"')
        others = [x for x in self._keys.read_text().splitlines(True) if public not in x]
        fresh = self._keys.with_name("authorized_keys.new")
        fresh.write_text("".join(others) + f'{restrict}command="{line}" {public}\n')
        fresh.chmod(0o600)
        fresh.rename(self._keys)
        return key

    def customer(self, name: str, origin: str, spool: str | Path, *more: str) -> Path:
        """A key that may speak with ``bsmtp-batch receive ORIGIN`` on ``spool``; ``more`` are further arguments."""
        there = ["env", f"BSMTP_BATCH_PATH={self.path}", *RECEIVE, origin, "--spool", str(spool), *more]
        return self.authorize(name, *there)

    def url(self, scheme: str, port: int | None = None) -> str:
        """The URL of this account, perhaps by way of a relay on ``port``."""
        return f"{scheme}://{self.user}@{HOST}:{port or self.port}/"

    def ssh(
        self, key: Path, *words: str, control: Path | None = None, **more: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the system's ssh with ``words`` as the command for the far side.

        ``control`` is a socket of a master connection that is made at its first use (closed with :meth:`hang_up`).
        """
        more.setdefault("input", b"")
        more.setdefault("timeout", 50)
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if control is not None:
            out["stderr"] = subprocess.DEVNULL  # a master that stays would keep the pipe open for ever
        return subprocess.run(self.ssh_command(key, *words, control=control), check=False, **out, **more)

    def talk(self, key: Path, *words: str) -> subprocess.Popen[bytes]:
        """The same as a process to talk with, by ``stdin`` and ``stdout``."""
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(self.ssh_command(key, *words), stdin=pipe, stdout=pipe, stderr=null)

    def ssh_command(self, key: Path, *words: str, control: Path | None = None) -> list[str]:
        """The command line of :meth:`ssh`."""
        options = {
            "BatchMode": "yes", "StrictHostKeyChecking": "yes", "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null", "IdentityFile": str(key), "IdentitiesOnly": "yes",
            "IdentityAgent": "none", "LogLevel": "ERROR",
        }  # fmt: skip
        if control is not None:
            options |= {"ControlPath": str(control), "ControlMaster": "auto", "ControlPersist": "60"}
        settings = [word for item in options.items() for word in ("-o", "=".join(item))]
        return [tool("ssh"), "-F", "none", *settings, "-p", str(self.port), f"{self.user}@{HOST}", "--", *words]

    def hang_up(self, control: Path) -> None:
        """End the master connection behind ``control``."""
        words = [tool("ssh"), "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", f"{self.user}@{HOST}"]
        subprocess.run(words, capture_output=True, check=False, timeout=20)

    def sessions(self) -> list[int]:
        """The processes of every session: sshd's own, and what they started."""
        return list(children(self.pid))

    def running(self, *program: str) -> list[int]:
        """The far processes whose command line holds all words of ``program``, one after another."""
        wanted = "\0".join(program)
        return [pid for pid in self.sessions() if f"\0{wanted}\0" in "\0" + "\0".join(words_of(pid)) + "\0"]

    def close(self) -> None:
        """End the server and whatever its sessions left."""
        left = self.sessions()
        self._process.terminate()
        self._process.wait(20)
        for pid in left:
            kill(pid)
        self._reader.join(20)
        assert self._process.stderr is not None
        self._process.stderr.close()


def free_port() -> int:
    """A port of the loopback nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
