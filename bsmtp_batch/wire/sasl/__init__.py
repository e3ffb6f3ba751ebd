"""SASL as values (RFC 4422, in SMTP RFC 4954): both sides of PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-256 and EXTERNAL.

``server.py`` and ``client.py`` show how they are used. Nothing here reads a clock, a file or a random source.

Names and passwords are printable ASCII. Anything else would have to go through SASLprep (RFC 4013), whose tables differ
between implementations, so it is refused where a secret is set and where our client is given one; at the server's door
such a name or password is merely wrong.
"""
