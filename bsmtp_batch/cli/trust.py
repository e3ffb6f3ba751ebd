"""From the settings to what is asked of signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bsmtp_batch.config import Peer, Settings
    from bsmtp_batch.handover.trust import Trust


def trust_of(settings: Settings, peer: Peer | None) -> Trust:
    """What ``[peer.NAME]`` and ``[node]`` ask of the signatures of batches that come from ``peer``; where it has no
    section, what ``[node]`` asks."""
    from bsmtp_batch.edge.signing import verifier
    from bsmtp_batch.handover.trust import Trust

    signers = (peer.allowed_signers if peer else "") or settings.node.allowed_signers
    return Trust(peer is not None and peer.signature == "required", verifier(signers) if signers else None)
