"""Postfix and Exim in boxes of their own, with their queues on a real disk: a box is in memory, where fsync is free."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.box import OWNER, Box
from support.debian import Unavailable
from support.postfix import COMMON, STOCK, postfix_box

from bench.place import Place
from bench.proc import Daemon, Ran, name_of, run, tree, wait_for
from bench.table import Missing, Sample

PORT = 2525
HERE = "/bench"
"""Where a box shows the room on the disk."""
SERVICE = (
    "{name} unix - - n - - lmtp\n"
    "  -o lmtp_line_length_limit=0 -o lmtp_send_xforward_command=yes -o lmtp_data_done_timeout=600s\n"
)
PIPE = "pipe unix - n n - - pipe\n  flags=q null_sender= user={owner}\n  argv={argv} {words}\n"
WORDS = "--spool /bench/pipe-spool --queue-id ${queue_id} --size ${size} -f ${sender} -- ${nexthop} ${recipient}"


@dataclass(frozen=True)
class Transport:
    """An LMTP transport: all mail to NAME.example goes to the server at ``socket``, which is in the room."""

    name: str
    socket: Path


def boxed(make: Callable[[], Box], room: Path) -> Box:
    """The box that ``make`` gives, with ``room`` shown in it. Raises :class:`Missing`."""
    if shutil.disk_usage(room).free < 4 << 30:
        raise Missing("there is not enough room on the disk for a mail server's queue (4 GB)")
    try:
        box = make()
    except Unavailable as why:
        raise Missing(str(why)) from None
    box.path(HERE).mkdir()
    # Entered without --root, the box's mounts are seen as its first process saw them: this machine's files, and the
    # box's own tree at the place where it was put together.
    enter = ["nsenter", f"--target={box.pid}", "--mount", "--"]
    subprocess.run([*enter, "mount", "--bind", str(room), f"/mnt/tree{HERE}"], check=True, capture_output=True)
    return box


class Mta:
    """Postfix in a box; ``network`` is what goes before a command of this machine that is to reach it."""

    def __init__(self, box: Box, room: Path, settings: str, services: str = "") -> None:
        self.box, self._room = box, room
        self.queue = room / "queue"
        self.network = ["nsenter", f"--target={box.pid}", "--net", "--"]
        box.write(
            "/etc/postfix/main.cf",
            f"{COMMON}myhostname = mta.example\nqueue_directory = {HERE}/queue\ndata_directory = {HERE}/data\n"
            "message_size_limit = 200000000\nmailbox_size_limit = 0\nmaillog_file = /var/log/postfix.log\n" + settings,
        )
        box.write("/etc/postfix/master.cf", STOCK.replace("smtp      inet", f"127.0.0.1:{PORT} inet", 1) + services)
        box.run("install", "-d", f"{HERE}/queue")
        box.run("install", "-d", "-o", "postfix", f"{HERE}/data")
        box.run("postfix", "start")
        box.wait_port(PORT)

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # the box takes all that runs in it along
            self.box.run("postfix", "stop", code=None)
        self.box.close()

    def in_queue(self, *queues: str) -> int:
        """Messages in ``queues``."""
        found = 0
        for queue in queues:
            for _, _, files in os.walk(self.queue / queue):
                found += len(files)
        return found

    def empty(self) -> bool:
        """Whether nothing is in the queue."""
        return not self.in_queue("maildrop", "incoming", "active", "deferred")

    def drained(self, every: float) -> None:
        """Wait until nothing is in the queue."""
        try:
            wait_for(self.empty, "the queue to be empty", 120, every)
        except RuntimeError as late:
            log = self.box.path("/var/log/postfix.log").read_text(errors="replace")
            raise RuntimeError(f"{late}; {log[-1000:]}") from None

    def source(self, *words: str) -> list[str]:
        """The command of Debian's smtp-source, in the box."""
        return self.box.command("smtp-source", *words, f"127.0.0.1:{PORT}")


class Provider(Mta):
    """A provider: holds the mail of every transport until it is told to release one."""

    @classmethod
    @contextlib.contextmanager
    def running(cls, place: Place, room: Path, transports: Sequence[Transport], *, pipe: bool) -> Iterator[Provider]:
        """Such a provider, while the ``with`` block lasts. Raises :class:`Missing`."""
        box = boxed(postfix_box, room)
        try:
            names = [one.name for one in transports] + (["pipe"] if pipe else [])
            maps = [f"{one.name}.example={one.name}:unix:{HERE}/{one.socket.name}" for one in transports]
            services = "".join(SERVICE.format(name=one.name) for one in transports)
            if pipe:
                _let_in(box, *(word for word in place.deliver if word.startswith("/")))
                box.run("install", "-d", "-o", OWNER, f"{HERE}/pipe-spool")
                for path in [place.route(room / "pipe-spool", "pipe.example"), *(room / "pipe-spool").rglob("*")]:
                    box.run("chown", OWNER, f"{HERE}/{path.relative_to(room)}")
                box.run("chown", OWNER, f"{HERE}/pipe-spool/out")
                maps.append("pipe.example=pipe:pipe.example")
                services += PIPE.format(owner=OWNER, argv=" ".join(place.deliver), words=WORDS)
            settings = (
                f"relay_domains = {' '.join(f'{name}.example' for name in names)}\n"
                f"transport_maps = inline:{{ {', '.join(maps)} }}\ndefer_transports = {' '.join(names)}\n"
                "default_destination_recipient_limit = 1000\nbounce_queue_lifetime = 0\n"
                "initial_destination_concurrency = 20\ndefault_destination_concurrency_limit = 20\n"
            )
            provider = cls(box, room, settings, services)
            provider.names = names
            try:
                yield provider
            finally:
                provider.close()
        finally:
            box.close()

    names: list[str]
    _piped = 0

    def release(self, name: str, message: Path, count: int, server: Daemon | None) -> Sample:
        """Queue ``count`` messages for ``name`` and take the time from the release until the queue is empty."""
        inside = f"{HERE}/{message.relative_to(self._room)}"
        words = ["-d", "-s", "10", "-m", str(count), "-F", inside, "-f", "sender@client.example"]
        run(self.source(*words, "-t", f"user@{name}.example"), log=self._room / "source.log")
        wait_for(
            lambda: self.in_queue("deferred") == count and not self.in_queue("incoming", "active"), "held mail", 120
        )
        self._hold([other for other in self.names if other != name])
        spent = server.cpu if server else 0.0
        sample = self._flush(count)
        if server:
            sample["server CPU us/msg"] = (server.cpu - spent) / count * 1e6
        if name == "pipe":
            self._check_pipe(count)
        self._hold(self.names)
        return sample

    def _flush(self, count: int) -> Sample:
        argv = self.box.command("postqueue", "-f")
        for _ in range(10):
            ran = run(argv, log=self._room / "flush.log")
            started = time.monotonic()
            # A queue manager that has just begun may not hear of it; then nothing moves, and the clock starts anew.
            with contextlib.suppress(RuntimeError):
                wait_for(lambda: self.in_queue("deferred") < count, "the queue to move", 3, 0.003)
                break
        self.drained(0.003)
        return {"msg/s": count / (ran.wall + time.monotonic() - started)}

    def _hold(self, names: list[str]) -> None:
        self.box.run("postconf", "-e", f"defer_transports = {' '.join(names)}")
        old = self._managers()
        self.box.run("postfix", "reload")
        # What the old one is told while it ends is lost; what comes after waits for the new one.
        wait_for(lambda: not old & self._managers(), "the old queue manager to end")

    def _managers(self) -> set[int]:
        """The processes of the queue manager."""
        return {pid for pid in tree(self.box.pid) if name_of(pid) == "qmgr"}

    def _check_pipe(self, count: int) -> None:
        kept = len(list((self._room / "pipe-spool/out/pipe.example/new").iterdir()))
        if kept - self._piped != count:
            raise RuntimeError(f"the pipe has kept {kept - self._piped} of {count}")
        self._piped = kept


def _let_in(box: Box, *programs: str) -> None:
    """Let every user of the box enter the directories that lead to ``programs``."""
    for directory in {parent for program in programs for parent in Path(program).parents}:
        inside = box.path(str(directory))
        inside.chmod(inside.stat().st_mode | 0o011)


@contextlib.contextmanager
def customer(room: Path) -> Iterator[Mta]:
    """A site's Postfix that takes mail for site.example and throws it away. Raises :class:`Missing`."""
    box = boxed(postfix_box, room)
    try:
        mta = Mta(box, room, "relay_domains = site.example\ntransport_maps = inline:{ site.example=discard: }\n")
        try:
            yield mta
        finally:
            mta.close()
    finally:
        box.close()


@contextlib.contextmanager
def exim(room: Path) -> Iterator[Box]:
    """Exim with its queue on the disk, for ``exim -bS``; nothing is delivered. Raises :class:`Missing`."""
    box = boxed(lambda: Box("exim", accounts={"Debian-exim": "/var/spool/exim4"}), room)
    try:
        box.run(
            "install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", f"{HERE}/exim", "/var/log/exim4", "/run/exim4"
        )
        box.write(
            "/etc/exim4/exim4.conf",
            f"primary_hostname = mta.example\nspool_directory = {HERE}/exim\nsplit_spool_directory = true\n"
            "trusted_users = root\nqueue_only = true\nhost_lookup =\nkeep_environment =\nacl_not_smtp = accept\n"
            "acl_smtp_rcpt = accept\nreceived_header_text =\nmessage_size_limit = 200M\n"
            "begin routers\nall:\n  driver = accept\n  transport = none\n"
            "begin transports\nnone:\n  driver = appendfile\n  file = /dev/null\n  user = mail\n",
        )
        box.run("exim4", "-bV")
        yield box
    finally:
        box.close()


def feed_exim(box: Box, room: Path, batch: Path, count: int) -> Ran:
    """``exim -bS -odq`` with ``batch``; its queue is checked and emptied afterwards."""
    ran = run(box.command("exim4", "-bS", "-odq"), stdin=batch, log=room / "exim.log")
    queued = list((room / "exim/input").rglob("*-D"))
    if len(queued) != count:
        raise RuntimeError(f"Exim has queued {len(queued)} of {count}: {(room / 'exim.log').read_text()[-500:]}")
    for kind in ("input", "msglog"):
        shutil.rmtree(room / "exim" / kind, ignore_errors=True)
    return ran
