"""What a peer's section of the settings, or the command line, says about the road to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a courier reaches its far end; each courier uses what concerns it.

    ``identity`` and ``known_hosts`` are absolute paths (``""``: what ssh itself would take). ``compression`` is
    ``"none"``, ``"gzip"``, ``"xz"`` or ``"zstd"``. ``far`` is ``"receive"`` where the program ``bsmtp-batch receive``
    answers, ``"directory"`` where there is only an account.
    """

    identity: str = ""
    known_hosts: str = ""
    compression: str = "none"
    far: str = "receive"


DEFAULTS = Options()
