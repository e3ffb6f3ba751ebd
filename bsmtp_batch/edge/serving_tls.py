"""TLS for the server of a connection."""

from __future__ import annotations

import ssl


def server_context(certificate: str, key: str = "", client_ca: str = "") -> ssl.SSLContext:
    """What a server needs for a handshake, TLS 1.2 or newer, with the PEM files ``certificate`` (with its chain) and
    ``key`` (``""``: it is in the other). Clients may show certificates that ``client_ca`` (PEM) has issued; any other
    ends the handshake. Raises ``OSError``, of which ``ssl.SSLError`` is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key or None)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
