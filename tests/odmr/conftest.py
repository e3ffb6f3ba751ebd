"""A site that collects its mail from a scripted hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bsmtp_batch.batch.events import Fault, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.odmr import Access, Event, Means, Outcome, Provider, Stop, Terms, collect
from bsmtp_batch.odmr.address import Place
from bsmtp_batch.reception.store import Store
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.routes import make_spool

OPEN = Access("none", user=b"aurora", password=b"secret")


@dataclass
class Site:
    """Its spool ``base``; collects into ``in/hub``."""

    base: Path
    events: list[Event] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def inbox(self) -> Inbox:
        return Inbox(str(self.base), "hub")

    def ledger(self) -> Ledger:
        return Ledger(f"{self.base}/ledger.db")

    def collect(self, port: int, access: Access = OPEN, *, host: str = "127.0.0.1", patience=0.1, **more) -> Outcome:
        means = {key: more.pop(key) for key in ("sink", "policy", "up", "arrived", "stop") if key in more}
        provider = Provider(Place(host, port), access, node="site.example", patience=patience)
        terms = Terms("site.example", **more)
        with self.ledger() as ledger:
            means.setdefault("sink", Store(self.inbox, "site.example", self.ledger, tell=self.told.append))
            means.setdefault("stop", Stop())
            return collect(provider, Means(ledger=ledger, watcher=self, **means), terms)

    def stored(self) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
        """Sender, recipients and content of each message in new/, in the order in which they came."""
        found = []
        for path in sorted(Path(self.inbox.at("new")).glob("*.bsmtp")):
            with path.open("rb") as file:
                batch = BatchFile(file)
                (message,) = batch.scan(Severity.STRICT)
                assert not isinstance(message, Fault)
                content = b"".join(batch.content(message))
            found.append((message.mail.path, tuple(rcpt.path for rcpt in message.rcpts), content))
        return found

    def contact(self):
        """The last contact in the ledger."""
        with self.ledger() as ledger:
            return ledger.last_contacts()[-1]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "spool")
    make_spool(str(made.base))
    return made
