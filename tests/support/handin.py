"""The hand-in as a real process: laid out as an installation, in both of its forms, with a spool of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.spooldir import make_installation, make_route

from bsmtp_batch.wire.command import Mail, Rcpt, parse_mail, parse_rcpt
from bsmtp_batch.wire.dots import END, unstuff

ROUTE = "site.example"
FROM = ["-f", "sender@example.org", "--", ROUTE, "rcpt@site.example"]


@dataclass(frozen=True)
class Stored:
    """One fragment, read with the strict grammar."""

    mail: Mail
    rcpts: tuple[Rcpt, ...]
    content: bytes


@dataclass
class HandIn:
    """Runs the program an MTA would run; ``spool`` has one route."""

    program: list[str]
    spool: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def argv(self, *arguments: str | bytes) -> list[str | bytes]:
        return [*self.program, "--spool", str(self.spool), *arguments]

    def run(
        self, *arguments: str | bytes, message: bytes = b"Subject: x\n\nbody\n"
    ) -> subprocess.CompletedProcess[bytes]:
        argv = self.argv(*(arguments or FROM))
        return subprocess.run(argv, input=message, capture_output=True, timeout=50, env=self.environment)

    def accepts(self, *arguments: str | bytes, message: bytes = b"Subject: x\n\nbody\n") -> Stored:
        """Hand a message in, expect it to be taken without a word, and return what is in ``new/``."""
        before = set(self.new())
        done = self.run(*arguments, message=message)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        (fragment,) = set(self.new()) - before
        return read_fragment(self.home / "new" / fragment)

    def refuses(self, code: int, start: str, *arguments: str | bytes, message: bytes = b"Subject: x\n\nbody\n") -> str:
        """Hand a message in, expect that nothing is kept of it, and return the line the MTA reads."""
        done = self.run(*arguments, message=message)
        return self.check_refusal(done.returncode, done.stdout, code, start)

    def check_refusal(self, returncode: int, stdout: bytes, code: int, start: str) -> str:
        line = stdout.decode("ascii")
        assert (returncode, line[: len(start)], line.count("\n")) == (code, start, 1), stdout
        assert line.rstrip("\n").isprintable()
        assert self.new() == []
        assert list((self.home / "tmp").iterdir()) == []
        return line

    def new(self) -> list[str]:
        return sorted(os.listdir(self.home / "new"))


def read_fragment(path: Path) -> Stored:
    """The one transaction in a fragment; fails on anything that is not exactly in the form of a batch."""
    head, data, rest = path.read_bytes().partition(b"DATA\r\n")
    assert data and rest.endswith(END)
    lines = head.split(b"\r\n")
    assert lines.pop() == b""
    wire = rest[: -len(END)]
    assert not wire or wire.endswith(b"\r\n")
    assert b"\n.\r\n" not in b"\n" + wire
    return Stored(parse_mail(lines[0]), tuple(map(parse_rcpt, lines[1:])), unstuff(wire))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    directory = tmp_path_factory.mktemp("installed")
    return {
        "merged": make_installation(directory / "merged"),
        "modules": make_installation(directory / "modules", merged=False),
    }


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    make_route(tmp_path / "spool", ROUTE)
    return tmp_path / "spool"


@pytest.fixture
def hand_in(programs: dict[str, list[str]], spool: Path) -> HandIn:
    """The form an installed package has."""
    return HandIn(programs["merged"], spool, spool / "out" / ROUTE)


@pytest.fixture(params=["merged", "modules"])
def either(request: pytest.FixtureRequest, programs: dict[str, list[str]], spool: Path) -> HandIn:
    """Each of the two forms in turn."""
    return HandIn(programs[request.param], spool, spool / "out" / ROUTE)
