"""The daemon: what answers on a hub's ports.

:mod:`.hub` is one session as events and replies, :mod:`.line` reads and writes for it, :mod:`.daemon` listens. What a
session may have done (log in, take mail in, hand mail over, start a push) it is given as a :class:`~.contract.Hub`.
"""
