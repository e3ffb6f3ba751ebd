"""Accounts: who may log in to this node, and what it takes. See :mod:`bsmtp_batch.accounts.store` for the file."""
