"""Certificates for the servers of the tests, made when they are needed and worth nothing anywhere else."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from support.debian import tool


def certificate(directory: Path, name: str) -> tuple[str, str]:
    """A certificate for host ``name`` and its key, both in ``directory``; the certificate is its own issuer."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    command = [tool("openssl"), *words, *subject, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return str(certificate), str(key)


def server_context(directory: Path, name: str) -> ssl.SSLContext:
    """What a server of the test called ``name`` needs for TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(directory, name))
    return context


def trusting() -> ssl.SSLContext:
    """What a client of the test needs for TLS; it takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
