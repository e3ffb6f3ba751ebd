"""What is in the batches of a route, taken apart again."""

from __future__ import annotations

from pathlib import Path

from bsmtp_batch.batch.events import Fault, Severity
from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.batch.reader import Reader
from bsmtp_batch.spool.store import Route


def manifests(route: Route, directory: str = "ready") -> list[Manifest]:
    """The manifests in ``directory``, by number, each checked against its batch."""
    found = []
    for path in sorted(Path(route.at(directory)).glob("*.bsmtp")):
        manifest = Manifest.from_bytes(Path(f"{path}.json").read_bytes())
        data = path.read_bytes()
        import hashlib

        reader = Reader(Severity.STRICT)
        assert not [e for e in reader.feed(data) + reader.close() if isinstance(e, Fault)]
        seen = reader.summary
        assert manifest.name == path.name
        assert manifest.matches(len(data), hashlib.sha256(data).hexdigest(), seen.messages, seen.recipients) is None
        found.append(manifest)
    return sorted(found, key=lambda m: m.sequence)


def transactions(route: Route, *directories: str) -> list[bytes]:
    """Every transaction in the batches of ``directories`` (default ``ready``), as the fragments had it."""
    found: list[bytes] = []
    for directory in directories or ("ready",):
        for path in sorted(Path(route.at(directory)).glob("*.bsmtp")):
            body = path.read_bytes().partition(b"\r\n")[2].removesuffix(b"QUIT\r\n")
            found += [part + b"\r\n.\r\n" for part in body.split(b"\r\n.\r\n")[:-1]]
    return found
