"""From the settings to what the accounts may log in with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bsmtp_batch.accounts.verify import StoredVerifier
    from bsmtp_batch.config import Settings


def verifier_of(settings: Settings) -> StoredVerifier:
    """The verifier for a server that runs as the owner of the spool, whose the secrets file has to be."""
    from bsmtp_batch.accounts.verify import FileSecrets, Policy, StoredVerifier

    policies = {
        name: Policy(account.plain, account.cram_md5, account.certificate)
        for name, account in settings.accounts.items()
    }
    return StoredVerifier(FileSecrets(settings.node.secrets), policies)
