"""A storm over two nodes: everything at once, a third of it killed, and at the end every message is counted.

    python bench/storm.py [--messages 300] [--routes 3] [--writers 8] [--seed 1] [--lmtp]

Hand-ins retry with their queue ids as an MTA does, also after a yes that was not heard. Two sealers, a push, two pulls,
two importers, expire at both ends and a status run at the same time, each killed with SIGKILL at a random moment now
and then. When all mail is handed in the killing ends, each command runs until there is nothing left to do, and the mail
at the site is compared with what was handed in. Ends with 1 unless nothing was lost, doubled or torn, and nothing was
said that is not true. With --lmtp mail is handed in to a server that is killed and started again all the time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

KILLED = 0.35
"""Share of the hand-ins that are killed."""
KILLED_STAGE = 0.25
UNHEARD = 0.1
"""Share of the hand-ins whose yes the MTA does not hear, so that it repeats them."""
ROUNDS = 12
"""Rounds of every command after the storm; the mail has to be through long before."""
ENDS = {0, 75, -9}
"""How a command may end here: done, later, killed."""


@dataclass
class Figures:
    """What happened, by command and exit code, and what should not have."""

    ends: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.odd or self.lost or self.doubled or self.torn or self.complaints)


class Storm:
    """Two nodes in the directory ``home``, and everything that runs on them."""

    def __init__(self, home: Path, *, messages: int, routes: int, writers: int, seed: int, lmtp: bool = False) -> None:
        self._socket = home / "lmtp" if lmtp else None
        self._config = home / "hub.toml"
        self.hub, self.site = str(home / "hub"), str(home / "site")
        self.medium, self.mail = f"dir:{home}/medium", home / "mail"
        (home / "medium").mkdir()
        self.routes = [f"r{number}.example" for number in range(routes)]
        self.figures = Figures()
        self._random = random.Random(seed)
        self._writers = writers
        self._todo = [(f"Q{number:06d}", self._random.choice(self.routes)) for number in range(messages)]
        self._sent = dict(self._todo)
        self._over = threading.Event()
        self._killed = threading.Event()
        """The server was, once at least, where there is one: the last message waits for that."""
        if not lmtp:
            self._killed.set()
        self._lock = threading.Lock()

    def run(self) -> Figures:
        """The storm, the calm after it, and the count."""
        started = time.monotonic()
        self._command("route", "add", "--spool", self.hub, *self.routes)
        writers = [threading.Thread(target=self._write) for _ in range(self._writers)]
        stages = [threading.Thread(target=self._repeat, args=step) for step in self._stages()]
        stages += [threading.Thread(target=self._serve)] if self._socket is not None else []
        for thread in (*writers, *stages):
            thread.start()
        for thread in writers:
            thread.join()
        self._over.set()
        for thread in stages:
            thread.join()
        self._calm()
        self._count()
        self.figures.seconds = time.monotonic() - started
        return self.figures

    def _stages(self) -> list[tuple[str, ...]]:
        seal = ("seal", "--spool", self.hub)
        pull = ("pull", "--spool", self.site, self.medium)
        take = ("import", "--spool", self.site, "--to", f"maildir:{self.mail}")
        return [
            seal,
            seal,
            ("push", "--spool", self.hub, self.medium),
            pull,
            pull,
            take,
            take,
            ("expire", "--spool", self.hub),
            ("expire", "--spool", self.site),
            ("status", "--spool", self.hub, "--json"),
        ]

    def _serve(self) -> None:
        """The server, killed and started again until the storm is over."""
        self._config.write_text(f'[serve]\nlmtp = ["unix:{self._socket}"]\n')
        words = ["serve", "--config", str(self._config), "--spool", self.hub]
        while not self._over.is_set():
            with self._lock:
                lives = self._random.uniform(0.1, 1.5)
            process = subprocess.Popen([sys.executable, "-m", "bsmtp_batch", *words], stderr=subprocess.PIPE)
            assert process.stderr is not None
            process.stderr.readline()  # it listens
            self._over.wait(lives)
            process.terminate() if self._over.is_set() else process.kill()
            err = process.communicate()[1]
            self._killed.set()
            with self._lock:
                self.figures.ends[f"serve {process.returncode}"] += 1
                if process.returncode not in ENDS or b"Traceback" in err:
                    self.figures.odd.append(f"serve ended with {process.returncode}: {err.decode()[-2000:]}")

    def _write(self) -> None:
        """One of the MTA's transports: hand in until everything was heard to be taken."""
        while True:
            if len(self._todo) == 1:
                self._killed.wait()
            with self._lock:
                if not self._todo:
                    return
                queue_id, route = self._todo.pop()
                kill = self._random.random() < KILLED
                after = self._random.uniform(0.0, 0.12)
                heard = self._random.random() >= UNHEARD
            if self._socket is not None:
                yes = self._by_lmtp(queue_id, route, drop=kill)
            else:
                step = ["--spool", self.hub, "--queue-id", queue_id, "-f", "a@hub.example", "--", route, f"u@{route}"]
                yes = not self._command("deliver", *step, stdin=body(queue_id), kill=after if kill else None)[0]
            if not (yes and heard):
                with self._lock:
                    self._todo.insert(self._random.randint(0, len(self._todo)), (queue_id, route))

    def _by_lmtp(self, queue_id: str, route: str, *, drop: bool) -> bool:
        """Hand in to the server; whether it said yes. ``drop``: hang up instead of listening for that."""
        head = [f"XFORWARD IDENT={queue_id}", "MAIL FROM:<a@hub.example>", f"RCPT TO:<u@{route}>", "DATA", ""]
        content = body(queue_id).replace(b"\n.", b"\n..").replace(b"\n", b"\r\n") + b".\r\n"
        steps = [(b"", 1), (b"LHLO mta\r\n", 1), ("\r\n".join(head).encode(), 4), (content, 0 if drop else 1)]
        said = [b""]
        try:
            with socket.socket(socket.AF_UNIX) as line, line.makefile("rb") as replies:
                line.settimeout(20)
                line.connect(str(self._socket))
                for text, replies_due in steps:
                    line.sendall(text)
                    said = [_code(replies) for _ in range(replies_due)]
                    if any(code[:1] not in {b"2", b"3"} for code in said):
                        break
        except OSError:
            said = [b""]
            time.sleep(0.02)  # it is away for a moment
        with self._lock:
            self.figures.ends[f"LMTP {'dropped' if drop else said[0].decode() or 'lost'}"] += 1
        return said == [b"250"]

    def _repeat(self, *step: str) -> None:
        while not self._over.is_set():
            with self._lock:
                kill = self._random.random() < KILLED_STAGE
                after = self._random.uniform(0.1, 0.9)
            self._command(*step, kill=after if kill else None)
            time.sleep(0.05)

    def _calm(self) -> None:
        for _ in range(ROUNDS):
            for step in dict.fromkeys(self._stages()):
                if step[0] not in {"expire", "status"}:
                    self._command(*step)
            if not any((Path(self.hub) / "out" / route / "ready").iterdir() for route in self.routes) and len(
                list((self.mail / "new").glob("*"))
            ) >= len(self._sent):
                break

    def _command(self, *words: str, stdin: bytes = b"", kill: float | None = None) -> tuple[int, bytes]:
        """Run one command as an operator would; ``kill`` seconds after its start it is killed."""
        program = [sys.executable, "-m", "bsmtp_batch"]
        process = subprocess.Popen(
            [*program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        killer = threading.Timer(kill, process.kill) if kill is not None else None
        if killer:
            killer.start()
        out, err = process.communicate(stdin)
        if killer:
            killer.cancel()
        with self._lock:
            self.figures.ends[f"{words[0]} {process.returncode}"] += 1
            if process.returncode not in ENDS or b"Traceback" in err:
                said = (out + err).decode(errors="replace")[-2000:]
                self.figures.odd.append(f"{words[0]} ended with {process.returncode}: {said}")
        return process.returncode, out

    def _count(self) -> None:
        found: Counter[str] = Counter()
        for file in (self.mail / "new").iterdir():
            content = file.read_bytes().replace(b"\r\n", b"\n")
            queue_id = content.partition(b"X-Id: ")[2][:7].decode(errors="replace")
            found[queue_id] += 1
            if not content.endswith(body(queue_id)):
                self.figures.torn.append(str(file))
        self.figures.lost = sorted(set(self._sent) - set(found))
        self.figures.doubled = sorted(queue_id for queue_id, times in found.items() if times > 1)
        for spool in (self.hub, self.site):
            for line in self._command("status", "--spool", spool, "--json")[1].splitlines():
                self._judge(json.loads(line))

    def _judge(self, row: dict[str, object]) -> None:
        """After the storm nothing waits, nothing is odd and nothing is said to be missing."""
        who = row.get("route") or row.get("origin")
        for word in ("set_aside", "odd", "missing", "unfinished"):
            if row.get(word):
                self.figures.complaints.append(f"{who} {word}: {row[word]}")
        for word in ("waiting", "ready", "new", "work"):
            heap = row.get(word)
            if isinstance(heap, dict) and heap["files"]:
                self.figures.complaints.append(f"{who} {word}: {heap['files']} files are left")


def _code(replies: BinaryIO) -> bytes:
    """The code of a reply; nothing at the end of the line."""
    while True:
        line = replies.readline()
        if line[3:4] != b"-":
            return line[:3]


def body(queue_id: str) -> bytes:
    """A message that says which one it is, and ends in a way that shows a cut."""
    filler = b"0123456789abcdef" * 8 + b"\n"
    size = int(queue_id[1:]) * 37 % 300
    return b"X-Id: %s\nSubject: storm\n\n" % queue_id.encode() + filler * size + b".\n..\nend %s\n" % queue_id.encode()


def main() -> int:
    """Run the storm the command line asks for and print its figures."""
    parser = argparse.ArgumentParser(description="Everything at once, a third of it killed, every message counted.")
    for name, default in (("messages", 300), ("routes", 3), ("writers", 8), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lmtp", action="store_true", help="hand in by LMTP")
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="storm."))
    sizes = {"messages": asked.messages, "routes": asked.routes, "writers": asked.writers}
    storm = Storm(home, **sizes, seed=asked.seed, lmtp=asked.lmtp)
    figures = storm.run()
    print(f"{asked.messages} messages, {asked.routes} routes, {asked.writers} writers: {figures.seconds:.0f} s")
    for end, times in sorted(figures.ends.items()):
        print(f"  {end:<14} {times}")
    for word in ("lost", "doubled", "torn", "odd", "complaints"):
        found = getattr(figures, word)
        print(f"{word}: {len(found)}", *found[:10], sep="\n  ")
    if not asked.keep and figures.good:
        shutil.rmtree(home)
    else:
        print(f"kept: {home}", file=sys.stderr)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
