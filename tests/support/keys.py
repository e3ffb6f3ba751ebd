"""Keys for signatures, and files of allowed signers."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bsmtp_batch.edge.signing import NAMESPACE


@dataclass(frozen=True)
class Key:
    """A private key in file ``path``, its public half beside it."""

    path: str

    @property
    def public(self) -> str:
        """Type and key, without a comment."""
        return " ".join(Path(f"{self.path}.pub").read_text().split()[:2])


def make_key(path: Path, *, kind: str = "ed25519", passphrase: str = "") -> Key:
    """A new key."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return Key(str(path))


def allow(path: Path, **origins: Key) -> str:
    """A file of allowed signers: for each origin (``_`` for a dot) its key."""
    lines = [f'{name.replace("_", ".")} namespaces="{NAMESPACE}" {key.public}\n' for name, key in origins.items()]
    path.write_text("".join(lines))
    return str(path)
