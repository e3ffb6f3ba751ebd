"""Mail from an MTA over LMTP (RFC 2033): ``serve`` takes it, many messages are made durable by one fsync, then all are
answered.

:mod:`.conversation` is one session as octets in and out, :mod:`.server` reads and writes for it, :mod:`.commit` makes
durable what is complete, :mod:`.routing` knows the routes and what they take.
"""
