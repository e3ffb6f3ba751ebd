"""The LMTP servers that take turns: ours, aiosmtpd, and Postfix' sink, each on a Unix socket in a room."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.place import PEERS, Place, aiosmtpd_python, listens, postfix_tool
from bench.proc import Daemon, wait_for
from bench.table import Missing


@dataclass(frozen=True)
class Server:
    """A running LMTP server: where it listens, its process, and where its mail lies."""

    socket: Path
    daemon: Daemon
    kept: Path | None
    """Ours: the spool; aiosmtpd: a directory of files; the sink keeps nothing."""
    ours: bool = False
    counted: list[int] = field(default_factory=lambda: [0])

    def settled(self) -> None:
        """Wait until what was acknowledged together has reached its route."""
        if self.ours and self.kept:
            groups = self.kept / "groups"
            wait_for(lambda: not _octets(groups), "the groups to be drained")

    def more(self) -> int | None:
        """Messages it has kept since this was asked last; None where it keeps none."""
        if self.kept is None:
            return None
        if self.ours:
            found = sum(len(os.listdir(route / "new")) for route in (self.kept / "out").iterdir())
        else:
            found = sum(file.read_bytes().count(b"\r\nDATA\r\n") for file in self.kept.iterdir())
        self.counted.append(found)
        return found - self.counted[-2]


def _octets(groups: Path) -> int:
    """Octets of acknowledged mail that is not in its route yet."""
    total = 0
    if groups.is_dir():
        for entry in os.scandir(groups):
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat().st_size if entry.is_file() else 0
    return total


@contextlib.contextmanager
def sink(room: Path) -> Iterator[Server]:
    """``smtp-sink -L``: takes everything, stores nothing. Raises :class:`bench.table.Missing`."""
    path = room / "sink"
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    argv = [*postfix_tool("smtp-sink"), "-L", *user, f"unix:{path}", "200"]
    with Daemon(argv, room / "sink.log", ready=lambda: listens(path)) as daemon:
        path.chmod(0o666)
        yield Server(path, daemon, None)


@contextlib.contextmanager
def aiosmtpd(place: Place, room: Path, mode: str = "group", **environment: str) -> Iterator[Server]:
    """aiosmtpd in ``mode`` (group or each). Raises :class:`bench.table.Missing`."""
    path, kept = room / f"aiosmtpd-{mode}", room / f"aiosmtpd-{mode}-mail"
    kept.mkdir()
    argv = [aiosmtpd_python(place), str(PEERS / "aiosmtpd_lmtp.py"), str(path), str(kept), mode]
    with Daemon(argv, room / f"aiosmtpd-{mode}.log", ready=lambda: listens(path), env=environment) as daemon:
        yield Server(path, daemon, kept)


@contextlib.contextmanager
def serve(place: Place, room: Path, routes: list[str], **environment: str) -> Iterator[Server]:
    """``bsmtp-batch serve`` with an LMTP intake for ``routes``."""
    path, spool = room / "serve", room / "serve-spool"
    for route in routes:
        place.route(spool, route)
    config = room / "serve.toml"
    config.write_text(f'[node]\nname = "hub.example"\nspool = "{spool}"\n[serve]\nlmtp = ["unix:{path}"]\n')
    argv = [*place.program, "serve", "--config", str(config)]
    with Daemon(argv, room / "serve.log", ready=lambda: listens(path), env=environment) as daemon:
        yield Server(path, daemon, spool, ours=True)


def attempt(stack: contextlib.ExitStack, server: contextlib.AbstractContextManager[Server]) -> Server | Missing:
    """``server`` running until ``stack`` ends, or why it cannot be had."""
    try:
        return stack.enter_context(server)
    except Missing as why:
        return why
    except RuntimeError as why:
        return Missing(f"it does not start: {why}")
