"""Receive: the far end of a push or pull, for one customer and about nobody else's mail.

What it may give are the batches of the routes it was started with, and what it takes goes to the one origin it was
started with; no name that comes over the line is looked for anywhere else. :mod:`.session` is the conversation
(:mod:`bsmtp_batch.handover.protocol`), :mod:`.giving` and :mod:`.taking` are its two halves, and :mod:`.door` lets
``scp`` and ``rsync`` move the octets of one batch beside it.
"""
