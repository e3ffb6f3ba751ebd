"""The three nodes of the demonstration: each a spool, a settings file, a mail server, and the commands run on it.

The stages are run as the commands an operator would type, in this process to save the starts of Python. The two things
that are processes of their own in real life whatever one does, a hand-in and a transfer that is killed, are so here.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bsmtp_batch.demo.messages import NOBODY, Sample
from bsmtp_batch.demo.mta import MailServer, hand_in
from bsmtp_batch.errors import Later

CONFIG = """\
# A node of the demonstration.
[node]
name = "{name}"
spool = {spool}
reserve = "1M"

[import]
to = "{target}"
local_domains = ["{name}"]
"""

PEER = """
[peer.{peer}]
url = {url}
routes = {routes}
"""


@dataclass(frozen=True)
class Done:
    """What a command printed (its JSON lines) and its exit code."""

    code: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def total(self, key: str) -> int:
        """The sum of ``key`` over all lines that have it."""
        return sum(int(row.get(key) or 0) for row in self.rows)

    def count(self, key: str, value: str) -> int:
        """How many lines have ``value`` under ``key``."""
        return sum(1 for row in self.rows if row.get(key) == value)


class Node:
    """A node called ``name`` below ``folder``, shown as ``title``; ``uplink`` is its route for other places' mail,
    if it has one."""

    def __init__(self, name: str, title: str, *, folder: str, samples: list[Sample], uplink: str = "") -> None:
        self.name = name
        self.title = title
        self.spool = os.path.join(folder, title)
        self.config = os.path.join(folder, f"{title}.toml")
        self._uplink = uplink
        self._queue_ids = count(1)
        everybody = {rcpt for sample in samples for rcpt in sample.rcpts} - {NOBODY}
        self.server = MailServer(
            name,
            os.path.join(folder, f"{title}-mail"),
            {rcpt for rcpt in everybody if rcpt.endswith(b"@" + name.encode())},
            busy={sample.rcpts[0] for sample in samples if sample.ends == "waits"},
            relay=self._pass_on if uplink else None,
        )

    def set_up(self, routes: list[str], peers: dict[str, tuple[str, list[str]]]) -> None:
        """Make ``routes`` and write the settings. ``peers``: a name, the folder both use, the routes carried there."""
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(name=self.name, spool=_text(self.spool), target=self.server.url))
            for peer, (stick, carried) in peers.items():
                file.write(PEER.format(peer=peer, url=_text(f"dir:{stick}"), routes=_text(carried)))
        self.run("route", "add", *routes, json_lines=False)

    def hand_in(self, sender: bytes, rcpts: tuple[bytes, ...], content: bytes, route: str) -> str:
        """One message from the mail server into the spool; why it was not taken, ``""`` when it was."""
        return hand_in(self.spool, f"DEMO{next(self._queue_ids):04}", sender, rcpts, content, route=route)

    def run(self, *command: str, expect: tuple[int, ...] = (0,), json_lines: bool = True) -> Done:
        """Run ``bsmtp-batch COMMAND`` on this node. Raises ``Later`` when it ends with a code not in ``expect``."""
        from bsmtp_batch.cli.app import run

        out, err = io.StringIO(), io.StringIO()
        options = ["--config", self.config, "--spool", self.spool, *(["--json"] if json_lines else [])]
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*command, *options])
        if code not in expect:
            raise Later(
                f"the demonstration's `{' '.join(command)}` at the {self.title} ended with {code}: {err.getvalue()}",
                safe="No mail of yours is in the demonstration, and its folder is kept",
                next=f"look into {os.path.dirname(self.spool)}, and run the demonstration again",
            )
        return Done(code, [json.loads(line) for line in out.getvalue().splitlines()] if json_lines else [])

    def push_and_be_killed(self, route: str, stick: str, octets: int) -> int:
        """Start a push of ``route`` and kill it when ``octets`` are on ``stick``; returns how many there were."""
        command = [sys.executable, "-m", "bsmtp_batch.demo.cut", self.spool, stick, route, str(octets)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            said = child.stdout.readline()
            child.kill()
        return int(said or 0)

    def batches(self, route: str, directory: str) -> list[str]:
        """The paths of the batches in a directory of a route."""
        place = os.path.join(self.spool, "out", route, directory)
        return sorted(os.path.join(place, name) for name in os.listdir(place) if name.endswith(".bsmtp"))

    def _pass_on(self, sender: bytes, rcpts: tuple[bytes, ...], content: bytes) -> bool:
        return self.hand_in(sender, rcpts, content, self._uplink) == ""


def _text(value: str | list[str]) -> str:
    """``value`` as TOML has it, which for these two kinds is as JSON has it."""
    return json.dumps(value, ensure_ascii=False)
