"""The proof at the end of the demonstration: what lies in the mailboxes is compared with what was handed in."""

from __future__ import annotations

import email
import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bsmtp_batch.demo.messages import Sample
    from bsmtp_batch.demo.mta import MailServer, Taken


@dataclass(frozen=True)
class Row:
    """One message: its sum, the copies that should have arrived and those that did, and whether all is well."""

    sample: Sample
    sha256: str
    wanted: int
    identical: int
    envelope: bool

    @property
    def good(self) -> bool:
        """Every copy arrived once, and with the envelope it was sent with."""
        return self.envelope and self.identical == self.wanted


@dataclass(frozen=True)
class Proof:
    """All messages, what nobody sent, and the report about the unknown user (its content, if it came)."""

    rows: list[Row]
    surplus: int
    report: bytes | None

    @property
    def good(self) -> bool:
        """Nothing lost, changed or doubled, and the unknown user's sender knows."""
        return all(row.good for row in self.rows) and self.surplus == 0 and self.report is not None

    @property
    def wanted(self) -> int:
        """Copies that should be in the mailboxes."""
        return sum(row.wanted for row in self.rows)

    @property
    def identical(self) -> int:
        """Copies that are there, byte for byte."""
        return sum(row.identical for row in self.rows)


def compare(samples: list[Sample], servers: list[MailServer]) -> Proof:
    """Read every mailbox of ``servers`` from the disk and hold it against ``samples``."""
    found = Counter(_stored(servers))
    taken = [one for server in servers for one in server.taken]
    rows = []
    for sample in samples:
        digest = hashlib.sha256(sample.content).hexdigest()
        homes = [] if sample.ends == "bounces" else [_home(servers, rcpt) for rcpt in sample.rcpts]
        identical = sum(1 for home in homes if found[home, digest] == 1)
        rows.append(Row(sample, digest, len(homes), identical, _envelope_kept(sample, digest, taken)))
        for home in homes:
            found.pop((home, digest), None)
    reports = [content for path in _files(servers) if (content := _report(path, samples)) is not None]
    report = reports[0] if len(reports) == 1 else None
    return Proof(rows, found.total() - len(reports[:1]), report)


def _envelope_kept(sample: Sample, digest: str, taken: list[Taken]) -> bool:
    """Whether the mail server at the far end was given this message once, with its sender and its recipients."""
    rcpts = () if sample.ends == "bounces" else sample.rcpts
    given = [one for one in taken if one.sha256 == digest]
    return Counter(r for one in given for r in one.rcpts) == Counter(rcpts) and all(
        one.sender == sample.sender for one in given
    )


def _home(servers: list[MailServer], rcpt: bytes) -> str:
    return next(s.mailbox(rcpt) for s in servers if rcpt.endswith(b"@" + s.name))


def _files(servers: list[MailServer]) -> list[str]:
    return sorted(
        os.path.join(place, name)
        for server in servers
        for place, _, names in os.walk(server.directory)
        if os.path.basename(place) == "new"
        for name in names
    )


def _stored(servers: list[MailServer]) -> list[tuple[str, str]]:
    """Mailbox and sha256 of every message on the disk."""
    return [
        (os.path.dirname(os.path.dirname(path)), hashlib.sha256(_read(path)).hexdigest()) for path in _files(servers)
    ]


def _report(path: str, samples: list[Sample]) -> bytes | None:
    """The content of ``path`` when it is a delivery report for the unknown user."""
    content = _read(path)
    unknown = [rcpt for sample in samples if sample.ends == "bounces" for rcpt in sample.rcpts]
    if len(content) > 100_000 or email.message_from_bytes(content).get_content_type() != "multipart/report":
        return None
    return content if all(b"rfc822; " + rcpt in content or b"rfc822;" + rcpt in content for rcpt in unknown) else None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
