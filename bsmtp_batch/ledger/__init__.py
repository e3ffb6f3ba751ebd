"""The ledger of a node: contacts, batches, and what became of every recipient that was imported."""

from bsmtp_batch.ledger.rows import BatchRow, Contact, Fate, Outcome, SetAside, Settled
from bsmtp_batch.ledger.store import Ledger

__all__ = ["BatchRow", "Contact", "Fate", "Ledger", "Outcome", "SetAside", "Settled"]
