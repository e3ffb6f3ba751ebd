"""Taking mail as an SMTP server does, message by message: what the daemon and the ODMR client have in common.

A :class:`~.session.Reception` answers the events of a :class:`~bsmtp_batch.wire.session.Session`; where a message goes
is decided by the :class:`~.contract.Sink` it was given: into ``in/ORIGIN/new`` (:mod:`.store`), or straight to the
local mail server (:mod:`.direct`). Neither knows of sockets.
"""
