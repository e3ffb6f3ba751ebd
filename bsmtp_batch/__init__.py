"""bsmtp-batch: mail for sites that are not always online.

Only the version lives here: whatever this file imported would be paid for by every message
that an MTA hands to ``bsmtp-batch-deliver``.
"""

__version__ = "0.1.0"
