"""Where the benchmark works and what it works with: a directory on a disk, the program under test, tools and peers."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from support import debian
from support.spooldir import make_installation, make_route

from bench import ROOT
from bench.table import Missing

PEERS = Path(__file__).parent / "peers"
INSIDE = Path(__file__).parent / "inside"
AIOSMTPD = "aiosmtpd==1.4.6"
SYSTEM_PYTHON = "/usr/bin/python3"
ATTEMPTS = 3
"""Times that a peer is fetched, before the rows that need it are skipped."""


@dataclass(frozen=True)
class Place:
    """A place of work. ``scale`` multiplies the number of messages; below 1 for a quick look."""

    home: Path
    python: str
    deliver: list[str]
    """The hand-in as an MTA is told to run it."""
    scale: float = 1.0

    def times(self, count: int, least: int = 4) -> int:
        """How many of what a full run has ``count`` of."""
        return max(least, int(count * self.scale))

    @property
    def program(self) -> list[str]:
        """``bsmtp-batch``."""
        return [self.python, "-m", "bsmtp_batch"]

    @contextlib.contextmanager
    def room(self, name: str) -> Iterator[Path]:
        """An empty directory, in a part of the disk of its own.

        Its large files are removed afterwards. The small ones stay to the end of everything: ext4 goes through all
        recently deleted inodes of the neighbourhood before it gives out a new one, up to half a millisecond each.
        """
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.home))
        path.chmod(0o755)
        try:
            yield path
        finally:
            for file in path.iterdir():
                if file.is_file() and file.stat().st_size > 1 << 20:
                    file.unlink()

    def route(self, spool: Path, name: str = "site.example") -> Path:
        """A route with the limits it has by default; its directory."""
        return make_route(spool, name, None)


@contextlib.contextmanager
def place(*, scale: float = 1.0, installed: bool = True) -> Iterator[Place]:
    """A place in ``$BENCH_DIR`` or /var/tmp, which is on a disk where /tmp may be memory.

    With ``installed`` the working copy is installed as pip does it, for the system's Python where that is new enough;
    without, it is run as it lies there by the Python of this process.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR") or "/var/tmp") as name:
        home = Path(name)
        home.chmod(0o755)
        if chattr := shutil.which("chattr"):  # what is made in it is spread over the disk; not every file system can
            subprocess.run([chattr, "+T", name], capture_output=True, check=False)
        if installed:
            python = _installed()
            stub = str(Path(python).with_name("bsmtp-batch-deliver"))
            yield Place(home, python, [python, "-I", "-S", stub], scale)
        else:
            yield Place(home, sys.executable, make_installation(home / "hand-in"), scale)


def _installed() -> str:
    """The Python of an environment in the cache, into which the working copy was installed just now."""
    base = _base_python()
    home = debian.cache() / "bench" / f"python{_version(base)}"
    python = str(home / "bin" / "python")
    if not (home / "bin" / "pip").exists():
        shutil.rmtree(home, ignore_errors=True)
        _checked([base, "-m", "venv", str(home)])
        _pip(python, "hatchling>=1.21")
    known = home / "depends-on"
    wanted = (ROOT / "pyproject.toml").read_text()
    if not known.exists() or known.read_text() != wanted:
        _pip(python, str(ROOT), "--no-build-isolation")
        known.write_text(wanted)
    _pip(
        python, str(ROOT), "--no-build-isolation", "--no-deps", "--force-reinstall"
    )  # an equal version is not new to pip
    _checked([python, "-m", "compileall", "-q", str(home / "lib")])
    return python


def _base_python() -> str:
    """The system's Python, as the README says, if it can run us; else the one that runs this."""
    with contextlib.suppress(OSError, RuntimeError):
        if tuple(int(part) for part in _version(SYSTEM_PYTHON).split(".")) >= (3, 11):
            _checked([SYSTEM_PYTHON, "-m", "ensurepip", "--version"])
            return SYSTEM_PYTHON
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@cache
def _version(python: str) -> str:
    return _checked([python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]).strip()


def _pip(python: str, *words: str) -> None:
    _checked([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words])


def _checked(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def postfix_root() -> Path:
    """Where Debian's Postfix is unpacked. Raises :class:`Missing`."""
    try:
        return debian.root("postfix")
    except debian.Unavailable as why:
        raise Missing(f"Postfix: {why}") from None


def postfix_tool(name: str) -> list[str]:
    """The command of ``smtp-sink`` or ``smtp-source``: the machine's own, or Debian's. Raises :class:`Missing`."""
    if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return [found]
    root = postfix_root()
    libraries = sorted({str(path.parent) for path in root.glob("usr/lib/**/*.so*")})
    return ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}", str(root / "usr/sbin" / name)]


def aiosmtpd_python(place: Place) -> str:
    """A Python of the same kind as the program's that has aiosmtpd. Raises :class:`Missing`."""
    home = debian.cache() / "bench" / f"aiosmtpd-{_version(place.python)}"
    python = str(home / "bin" / "python")
    home.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with FileLock(f"{home}.lock"):  # two benchmarks may want it at the same moment
        while not (home / "complete").exists():
            try:
                shutil.rmtree(home, ignore_errors=True)
                _checked([place.python, "-m", "venv", str(home)])
                _pip(python, AIOSMTPD)
                (home / "complete").touch()
            except RuntimeError as why:  # seen to fail once, and then to work
                reasons.append(str(why).strip().splitlines()[-1])
                if len(reasons) == ATTEMPTS:
                    raise Missing(f"{AIOSMTPD} could not be fetched: {'; '.join(reasons)}") from None
    return python


def slow_sync(room: Path) -> Path:
    """The library that makes fsync slower, compiled. Raises :class:`Missing`."""
    compiler = shutil.which("cc")
    if not compiler:
        raise Missing("there is no C compiler (cc) for the library that slows fsync down")
    library = room / "slow_sync.so"
    try:
        _checked(
            [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(PEERS / "slow_sync.c"), "-ldl", "-lpthread"]
        )
    except RuntimeError as why:
        raise Missing(f"the library that slows fsync down does not compile: {why}") from None
    return library


def machine(place: Place) -> dict[str, Any]:
    """What the figures were taken on, without names."""
    cpu = re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    kind = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", str(place.home)], capture_output=True, text=True, check=False
    )
    return {
        "processors": os.cpu_count(),
        "processor": cpu[1] if cpu else platform.machine(),
        "kernel": platform.release().partition("-")[0],
        "file system": kind.stdout.strip(),
        "python": _version(place.python),
        "scale": place.scale,
    }


def listens(path: Path) -> bool:
    """Whether a server takes connections on the Unix socket ``path``."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
