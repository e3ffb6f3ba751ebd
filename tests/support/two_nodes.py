"""Two nodes and a memory stick in one directory, and what has to be true of them whatever was killed where.

``hub`` takes mail for the route, ``site`` gets it over ``medium`` and hands it to a mail server (``mail``, a Maildir).
The checks read the files with code of their own: a fault in the product's reader must not hide a fault in its writer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support import lmtp_handin
from support.keys import make_key
from support.warm import Ended, Step, Warm

from bsmtp_batch.spool.groups import Entry, GroupWriter
from bsmtp_batch.spool.names import fragment_name, key_of
from bsmtp_batch.wire.command import envelope_lines
from bsmtp_batch.wire.dots import END, stuff

ROUTE = "site.example"
GROUP_FILES = "hub/groups/" + "[0-9a-f]" * 24 + "*"


@dataclass(frozen=True)
class Message:
    """One message as the MTA hands it in; ``content`` has the MTA's line ends (LF)."""

    queue_id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def canonical(self) -> bytes:
        """The content as it has to arrive: CRLF, the last line complete."""
        ended = self.content if self.content.endswith(b"\n") else self.content + b"\n"
        return ended.replace(b"\n", b"\r\n")

    @property
    def transaction(self) -> Transaction:
        """Envelope and content as they have to arrive."""
        return Transaction(self.sender.encode(), tuple(r.encode() for r in self.recipients), self.canonical)


@dataclass(frozen=True)
class Transaction:
    """What one SMTP transaction carries: paths without brackets, content unstuffed with CRLF."""

    sender: bytes
    recipients: tuple[bytes, ...]
    content: bytes


class Torn(AssertionError):
    """A file that others may read is not whole."""


def _text(number: int, extra: bytes = b"") -> bytes:
    return b"From: a@hub.example\nSubject: number %d\n\nbody %d\n" % (number, number) + extra


MESSAGES = (
    Message("4A0001", "a@hub.example", (f"u@{ROUTE}",), _text(1, b".\n..\n.dots. \n")),
    Message(
        "4A0002", "", (f"v@{ROUTE}", f"-w@{ROUTE}"), _text(2, b"\xe4\xf6\xfc\n" + b"x" * 998 + b"\nno last line end")
    ),
    Message("4A0003", "b@hub.example", (f"u@{ROUTE}",), _text(3, b"thirty kilobytes\n" * 1800)),
    Message("4A0004", "c@hub.example", (f"z@{ROUTE}",), _text(4)),
)
LARGE = Message("4A0009", "d@hub.example", (f"u@{ROUTE}",), _text(9, b"a line of more than a megabyte\n" * 40_000))
"""Does not fit into memory's share: goes to ``tmp/`` while it arrives."""


@dataclass
class Nodes:
    """The directory ``home`` with both nodes, and the commands that run in it."""

    home: Path
    warm: Warm
    told_yes: bool = False
    """Whether the MTA heard yes for the last message that was handed in by LMTP."""
    _messages: dict[str, Message] = field(default_factory=dict)

    @property
    def hub(self) -> str:
        """The spool of the provider."""
        return str(self.home / "hub")

    @property
    def site(self) -> str:
        """The spool of the customer."""
        return str(self.home / "site")

    @property
    def medium(self) -> str:
        """The URL of the directory between them."""
        return f"dir:{self.home}/medium"

    @property
    def target(self) -> str:
        """The URL of the Maildir the site imports to."""
        return f"maildir:{self.home}/mail"

    def found(self) -> Nodes:
        """Make everything anew, empty."""
        shutil.rmtree(self.home, ignore_errors=True)
        for name in ("hub", "site", "medium"):
            (self.home / name).mkdir(parents=True)
        self.must(cli("route", "add", ROUTE, *self._at("hub")))
        return self

    def become(self, start: Path) -> Nodes:
        """Take on the state saved in ``start``."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(start, self.home, symlinks=True)
        return self

    def save(self, where: Path) -> Path:
        """Save the state to ``where``."""
        shutil.rmtree(where, ignore_errors=True)
        shutil.copytree(self.home, where, symlinks=True)
        return where

    def run(self, step: Step) -> Ended:
        """Run a command to its end, unwatched."""
        return self.by_lmtp(step, self.warm.run) if step.program == "lmtp" else self.warm.run(step)

    def must(self, step: Step) -> Ended:
        """Run a command that has to end with 0."""
        ended = self.run(step)
        assert ended.code == 0, str(ended)
        return ended

    # The commands, as an operator or a timer would write them.

    def hand_in(self, message: Message) -> Step:
        """What the MTA runs for ``message``."""
        stdin = self.warm.scratch / f"message.{message.queue_id}"
        if not stdin.exists():
            stdin.write_bytes(message.content)
        return Step("deliver", self.deliver_arguments(message), str(stdin))

    def hand_in_by_lmtp(self, message: Message) -> Step:
        """What the MTA does for ``message`` where it hands in by LMTP: :meth:`by_lmtp` makes a server of it."""
        self._messages[message.queue_id] = message
        return Step("lmtp", [message.queue_id], self.hand_in(message).stdin)

    def by_lmtp(self, step: Step, start: Callable[[Step, Callable[[int], None]], Ended]) -> Ended:
        """Hand in the message of ``step`` to a server that ``start`` starts and that is told to end afterwards.

        Its code is that of the hand-in: 0 told yes, 75 not, unless the server was killed or ended as it never should.
        A server that finds its settings unreadable ends with 78, and to the MTA that is a server that is not there. So
        is one that met its fault before it listened for our signal, and was about to end when that came."""
        message, where = self._messages[step.argv[0]], str(self.warm.scratch / "lmtp.socket")

        def meanwhile(pid: int) -> None:
            self.told_yes = lmtp_handin.hand_in(
                where,
                message.queue_id,
                message.sender,
                message.recipients,
                message.canonical,
                lives=lambda: lmtp_handin.lives(pid),
            )
            os.kill(pid, signal.SIGTERM)

        ended = start(cli("serve", *self._at("hub", f'\n[serve]\nlmtp = ["unix:{where}"]\n')), meanwhile)
        ways = {0, 75, 78} if self.told_yes else {0, 75, 78, -signal.SIGTERM}
        code = (0 if self.told_yes else 75) if ended.code in ways else ended.code
        return replace(ended, step=step, code=code)

    def group(self, *commits: list[Message]) -> None:
        """Messages as a server leaves them that is killed right after it said yes: in a group, not in ``new/``."""
        writer = GroupWriter(self.hub)
        for messages in commits:
            writer.commit([self._entry(message) for message in messages])
        writer.close()

    def _entry(self, message: Message) -> Entry:
        rcpts = [rcpt.encode() for rcpt in message.recipients]
        head = envelope_lines(message.sender.encode(), rcpts, smtputf8=False) + b"DATA\r\n"
        data = head + stuff(message.canonical) + END
        digest = hashlib.sha256(data)
        key = fragment_name(key_of(message.queue_id.encode(), digest.digest()), digest.hexdigest())
        return Entry(ROUTE, key, data)

    def deliver_arguments(self, message: Message) -> list[str]:
        """The arguments of ``deliver`` for ``message``."""
        options = ["--spool", self.hub, "--queue-id", message.queue_id, "-f", message.sender]
        return [*options, "--", ROUTE, *message.recipients]

    def seal(self) -> Step:
        """Seal what waits at the hub."""
        return cli("seal", *self._at("hub"), ROUTE)

    def seal_signed(self) -> Step:
        """Seal what waits at the hub, and sign the batch."""
        key = self.warm.scratch / "signing-key"
        if not key.exists():
            make_key(key)
        return cli("seal", *self._at("hub", f'signing_key = "{key}"\n'), ROUTE)

    def push(self) -> Step:
        """The hub's contact with the medium."""
        return cli("push", *self._at("hub"), self.medium, ROUTE)

    def pull(self) -> Step:
        """The site's contact with the medium."""
        return cli("pull", *self._at("site"), self.medium)

    def import_(self, target: str | None = None) -> Step:
        """The site hands its mail to its MTA."""
        where = ["--to", target or self.target, "--local-domain", ROUTE]
        return cli("import", *self._at("site"), *where, "--json")

    def receive(self, node: str, origin: str) -> Step:
        """The far end of a contact of ``origin``, at ``node``."""
        return cli("receive", *self._at(node), origin)

    def _at(self, node: str, more: str = "") -> list[str]:
        """The options that say which node. Its reserve is small: the tests copy spools all the time."""
        kind = "-signs" if "signing" in more else "-serves" if more else ""
        config = self.warm.scratch / f"{node}{kind}.toml"
        config.write_text(f'[node]\nname = "{node}.example"\nreserve = 20000\n{more}')
        return ["--config", str(config), "--spool", str(self.home / node)]

    def round(self, target: str | None = None) -> list[Step]:
        """One round of all timers; the second push fetches the receipt."""
        return [self.seal(), self.push(), self.pull(), self.import_(target), self.push()]

    # What must be true at any moment.

    def assert_nothing_torn(self) -> None:
        """Every file under a name that others may act on is whole."""
        for path in self._files("hub/out/*/new/*"):
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name.partition(".")[2]:
                raise Torn(f"{path} is not what its name says")
            transactions(b"HELO x\r\n" + path.read_bytes() + b"QUIT\r\n", str(path))
        for pattern in ("hub/out/*/ready/*.bsmtp", "hub/out/*/kept/*.bsmtp", "site/in/*/*/*.bsmtp", "medium/*/*.bsmtp"):
            for path in self._files(pattern):
                self._assert_batch(path)
        for pattern in ("hub/out/*/ready/*.sig", "hub/out/*/kept/*.sig", "site/in/*/*/*.sig", "medium/*/*.sig"):
            for path in self._files(pattern):
                if not path.read_bytes().endswith(b"-----END SSH SIGNATURE-----\n"):
                    raise Torn(f"{path} is not whole")

    def _assert_batch(self, path: Path) -> None:
        data = path.read_bytes()
        # In in/ a manifest goes ahead of its batch from directory to directory, into kept/ it follows.
        moving = "site/in" in str(path) or path.parent.name == "kept"
        beside = path.parent.parent.glob("*") if moving else [path.parent]
        manifest = next((m for d in beside if (m := d / f"{path.name}.json").exists()), None)
        if manifest is None:
            raise Torn(f"{path} has no manifest")
        if json.loads(manifest.read_bytes())["sha256"] != hashlib.sha256(data).hexdigest():
            raise Torn(f"{path} is not what its manifest says")
        transactions(data, str(path))

    def _files(self, pattern: str) -> Iterator[Path]:
        yield from (p for p in sorted(self.home.glob(pattern)) if not p.name.startswith(".") and not p.is_dir())

    # What must be true in the end.

    def imported(self) -> Counter[Transaction]:
        """What the batches hold that the site has dealt with."""
        found: Counter[Transaction] = Counter()
        for path in self._files("site/in/*/done/*.bsmtp"):
            found.update(transactions(path.read_bytes(), str(path)))
        return found

    def maildir(self) -> Counter[bytes]:
        """What is in the Maildir, by content."""
        return Counter(p.read_bytes() for p in self._files("mail/new/*"))

    def leftovers(self) -> list[str]:
        """Files that have no business to be there once all is done (``tmp/`` is cleared by age, it may hold some)."""
        patterns = (GROUP_FILES, "hub/out/*/new/*", "hub/out/*/ready/*", "hub/out/*/dead/*", "hub/out/*/lists/*.list",
                    "medium/*/*", "site/in/*/new/*", "site/in/*/work/*", "site/in/*/bad/*")  # fmt: skip
        return [str(p.relative_to(self.home)) for pattern in patterns for p in self._files(pattern)]

    def assert_arrived(self, messages: list[Message]) -> None:
        """Each message is in the batches of the site and in its Maildir, once, byte for byte; nothing is left."""
        wanted = Counter(m.transaction for m in messages)
        assert differences(wanted, self.imported()) == [], f"batches at the site: {self.listing()}"
        mail = Counter(m.canonical.replace(b"\r\n", b"\n") for m in messages)
        assert differences(mail, self.maildir()) == [], f"Maildir: {self.listing()}"
        assert self.leftovers() == []
        kept, done = ({p.name for p in self._files(d)} for d in ("hub/out/*/kept/*.sig", "site/in/*/done/*.sig"))
        assert kept == done, "a signature is not where its batch is"

    def listing(self) -> str:
        """Every file, for the message of a failed check."""
        return "\n" + "\n".join(str(p.relative_to(self.home)) for p in sorted(self.home.rglob("*")) if p.is_file())


def cli(*arguments: str) -> Step:
    """A command line of ``bsmtp-batch``."""
    return Step("cli", list(arguments))


def differences(wanted: Counter[Any], got: Counter[Any]) -> list[str]:
    """What is lost and what is there too often, in words."""
    lost = [f"LOST {n} x {_short(m)}" for m, n in (wanted - got).items()]
    return lost + [f"TOO MANY {n} x {_short(m)}" for m, n in (got - wanted).items()]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:200]}...{text[-80:]} ({len(text)})"


def transactions(batch: bytes, where: str) -> list[Transaction]:
    """The transactions of a whole batch of ours, read without mercy (:class:`Torn` for the least deviation)."""
    if not batch.startswith((b"HELO ", b"EHLO ")) or not batch.endswith(b"\r\n.\r\nQUIT\r\n"):
        raise Torn(f"{where}: no greeting, or no QUIT after the last message")
    if batch.replace(b"\r\n", b"").translate(None, b"\r\n") != batch.replace(b"\r\n", b""):
        raise Torn(f"{where}: a line end that is not CRLF")
    lines = iter(batch.split(b"\r\n"))
    next(lines)
    found = []
    for line in lines:
        if line == b"QUIT":
            if list(lines) != [b""]:
                raise Torn(f"{where}: something stands behind QUIT")
            return found
        found.append(_transaction(line, lines, where))
    raise Torn(f"{where}: no QUIT")


def _transaction(first: bytes, lines: Iterator[bytes], where: str) -> Transaction:
    sender = _path(first, b"MAIL FROM:", where)
    recipients = []
    for line in lines:
        if line == b"DATA":
            break
        recipients.append(_path(line, b"RCPT TO:", where))
    content = []
    for line in lines:
        if line == b".":
            return Transaction(sender, tuple(recipients), b"".join(content))
        content.append(line.removeprefix(b".") + b"\r\n")
    raise Torn(f"{where}: a message without its end")


def _path(line: bytes, verb: bytes, where: str) -> bytes:
    if not line.startswith(verb + b"<") or b">" not in line:
        raise Torn(f"{where}: {line[:80]!r} where {verb.decode()} was due")
    return line[len(verb) + 1 : line.rindex(b">")]


def stub_command(package: Path | None) -> list[str]:
    """How the MTA starts ``deliver``: the stub as it is installed, or, for a changed copy of the package, its main."""
    import bsmtp_batch

    if package is None:
        return [sys.executable, "-I", "-S", str(Path(bsmtp_batch.__file__).with_name("deliver") / "stub.py")]
    path = f"import sys; sys.path.insert(0, {os.fspath(package)!r}); "
    code = path + "from bsmtp_batch.deliver.main import main; main(sys.argv[1:])"
    return [sys.executable, "-I", "-S", "-c", code]
