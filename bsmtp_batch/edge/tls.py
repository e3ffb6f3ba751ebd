"""TLS for the client of a connection: whom to believe, and what a failed handshake says to people."""

from __future__ import annotations

import ssl


def client_context(*, verify: bool, ca_file: str = "", cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """What a client needs for a handshake, TLS 1.2 or newer.

    ``verify``: the far side has to have a certificate for the name it was reached by, issued by somebody in ``ca_file``
    (PEM), or with none by whom the system believes; otherwise anything at all is taken: encrypted to somebody is better
    than read by everybody. ``cert_file`` and ``key_file`` are our own certificate, if it is to be shown.

    Raises ``OSError`` for a file that cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file:
        context.load_cert_chain(cert_file, key_file or None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()
    return context


def words(error: OSError) -> str:
    """What went wrong in a handshake, or on the way to it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be believed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "TLS did not come about within the time allowed"
    return error.strerror or str(error) or type(error).__name__
