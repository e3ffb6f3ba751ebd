"""Making batches and importing them: what the tests of the importer share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.batch.writer import END, QUIT, greeting, transaction
from bsmtp_batch.importer import stage
from bsmtp_batch.importer.one import Options, Tally
from bsmtp_batch.importer.policy import Policy
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.replay import address, targets
from bsmtp_batch.replay.journal import Line
from bsmtp_batch.wire.command import Mail, Rcpt, parse_mail, parse_rcpt
from bsmtp_batch.wire.dots import stuff

NODE = "site.example"


@dataclass
class Letter:
    """A message to put into a batch; ``sender`` and ``to`` with parameters behind the bracket where wanted."""

    sender: bytes = b"a@hub.example"
    to: tuple[bytes, ...] = (b"c@site.example",)
    content: bytes = b"Subject: hello\r\n\r\nhello\r\n"

    @property
    def mail(self) -> Mail:
        return parse_mail(b"MAIL FROM:" + _bracketed(self.sender), tolerant=True)

    @property
    def rcpts(self) -> list[Rcpt]:
        return [parse_rcpt(b"RCPT TO:" + _bracketed(one), tolerant=True) for one in self.to]


def _bracketed(text: bytes) -> bytes:
    return text if text.startswith(b"<") else b"<" + text + b">"


def letters(count: int) -> list[Letter]:
    return [Letter(content=b"Subject: %d\r\n\r\nthis is number %d\r\n" % (n, n)) for n in range(1, count + 1)]


def batch(found: Iterable[Letter]) -> bytes:
    """A batch as our writer makes it."""
    parts = [transaction(one.mail, one.rcpts) + stuff(one.content) + END for one in found]
    return greeting("hub.example", True) + b"".join(parts) + QUIT


def manifest(octets: bytes, found: list[Letter], *, sequence: int = 1) -> Manifest:
    return Manifest(
        name=f"site.example.{sequence:08d}.20261122T053300Z.hub.example.bsmtp",
        route="site.example",
        origin="hub.example",
        sequence=sequence,
        messages=len(found),
        recipients=sum(len(one.to) for one in found),
        bytes=len(octets),
        sha256=hashlib.sha256(octets).hexdigest(),
        created="2026-11-22T05:33:00Z",
    )


def arrive(spool: Path, found: list[Letter], *, sequence: int = 1, origin: str = "hub.example") -> Path:
    """Put a batch and its manifest where ``receive`` would."""
    octets = batch(found)
    said = manifest(octets, found, sequence=sequence)
    for directory in ("tmp", "new", "work", "done", "bad"):
        (spool / "in" / origin / directory).mkdir(parents=True, exist_ok=True)
    path = spool / "in" / origin / "new" / said.name
    path.write_bytes(octets)
    path.with_name(said.name + ".json").write_bytes(said.to_bytes())
    return path


@dataclass
class Notebook:
    """A watcher that remembers."""

    lines: list[Line] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    yes: bool = True
    code: int | None = None

    def line(self, line: Line) -> None:
        self.lines.append(line)

    def trouble(self, what: str) -> None:
        self.troubles.append(what)

    def summary(self, tally: Tally) -> None:
        self.tallies.append(tally)

    def agrees(self, question: str) -> bool:
        self.questions.append(question)
        return self.yes

    @property
    def outcomes(self) -> list[str]:
        return [line.outcome for line in self.lines]

    def of(self, message: int) -> dict[bytes, str]:
        return {line.rcpt_to: line.outcome for line in self.lines if line.message == message}

    def said(self, text: str) -> bool:
        return any(text in trouble for trouble in self.troubles)


def run(
    spool: Path, url: str | None, *files: Path | str, domains: Iterable[str] = (), yes: bool = True, **more
) -> Notebook:
    """One import; the exit code is ``.code`` of what it returns."""
    notebook = Notebook(yes=yes)
    patience = more.pop("patience", 0.1)
    target = targets.target_of(address.parse(url), node=NODE, patience=patience) if url else None
    more.setdefault("target", target)
    options = Options(spool=str(spool), node=NODE, policy=Policy(domains), **more)
    notebook.code = stage.run([str(file) for file in files], options, notebook)
    return notebook


def ledger(spool: Path) -> Ledger:
    return Ledger(str(spool / "ledger.db"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
