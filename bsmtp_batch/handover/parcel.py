"""A batch on its way, and the word that it has arrived."""

from __future__ import annotations

from dataclasses import dataclass

from bsmtp_batch.batch.manifest import Manifest, ManifestError
from bsmtp_batch.errors import Bad
from bsmtp_batch.spool import names

RECEIPT_CAP = 512


@dataclass(frozen=True)
class Parcel:
    """One batch as it is offered: its manifest, the octets of that as they came, and the signature over them."""

    manifest: Manifest
    raw: bytes
    signature: bytes = b""
    """What lies beside the manifest as ``NAME.sig``; empty where it is not signed. Checked by :mod:`.trust` only."""

    @property
    def name(self) -> str:
        """File name of the batch."""
        return self.manifest.name

    @property
    def route(self) -> str:
        """The route it is for."""
        return self.manifest.route

    @property
    def size(self) -> int:
        """Octets of the batch."""
        return self.manifest.bytes

    @property
    def sha256(self) -> str:
        """Hex sha256 of the batch."""
        return self.manifest.sha256

    @property
    def receipt(self) -> Receipt:
        """The receipt that matches it."""
        return Receipt(self.name, self.sha256)


@dataclass(frozen=True)
class Receipt:
    """The word of the far side that batch ``name`` with these bytes is safe there."""

    name: str
    sha256: str

    def to_bytes(self) -> bytes:
        """``ACK NAME SHA256`` and a line end, as it travels and as it lies on a medium."""
        return f"ACK {self.name} {self.sha256}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Receipt:
        """Read it; ``ValueError`` for anything but one whole receipt."""
        words = data.decode("ascii").split(" ")
        found = cls(words[1], words[2].removesuffix("\n")) if len(words) == 3 else None
        if found is None or found.to_bytes() != data or names.parse_batch_name(found.name) is None:
            raise ValueError("it is not a receipt")
        return found


def parcel(name: str, manifest: bytes, signature: bytes = b"") -> Parcel:
    """The batch ``name`` that ``manifest`` describes.

    Raises :class:`~bsmtp_batch.errors.Bad` for a manifest that is none, or that speaks of another batch.
    """
    try:
        found = Manifest.from_bytes(manifest)
        if found.name != name:
            raise ManifestError("the manifest names another batch")
        if names.parse_batch_name(name) is None:
            raise ManifestError("its name is not that of a batch")
    except ManifestError as error:
        raise Bad(
            f"batch {name} cannot be taken: {error}",
            safe="Nothing of it was stored, and the far side keeps it",
            next="if it stays so, have the batch sent again from there",
        ) from error
    return Parcel(found, manifest, signature)
