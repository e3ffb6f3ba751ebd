"""Signatures over manifests, made and checked by ``ssh-keygen -Y`` (OpenSSH 8.2 or newer).

A manifest goes to the program through standard input and a signature through a file of ours; the one word of a
manifest that becomes an argument is its origin, and that is checked to be a host name first.
"""

from __future__ import annotations

import binascii
import errno
import os
import tempfile
import time
from collections.abc import Callable

from bsmtp_batch.edge.process import Child
from bsmtp_batch.errors import Later, Setting

NAMESPACE = "bsmtp-batch"
"""What a signature is for: one that the same key made for something else is not good for a batch."""
MAX_SIGNATURE = 16_384
"""Octets; a longer signature is refused before any program sees it. That of the largest RSA key is a quarter of it."""
SECONDS = 60.0
"""How long the program may take; a key on a token may have to be touched."""

_PROGRAM = "ssh-keygen"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"\n-----END SSH SIGNATURE-----\n"
_NOT_GOOD = b"Could not verify signature"
_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")


class Signer:
    """Signs with the key in file ``key`` (an absolute path): a private key without passphrase, or a public key whose
    private half an agent holds (``SSH_AUTH_SOCK``)."""

    def __init__(self, key: str) -> None:
        self._key = key

    def sign(self, manifest: bytes) -> bytes:
        """The signature over ``manifest``, as it stands beside it in ``NAME.sig``.

        Raises :class:`~bsmtp_batch.errors.Setting` when there is no such key file, and
        :class:`~bsmtp_batch.errors.Later` when it cannot be used just now.
        """
        _readable(self._key, "the signing key", "name the key with [node] signing_key")
        code, said, complaint = _run(["-Y", "sign", "-q", "-f", self._key, "-n", NAMESPACE], manifest)
        if code or not is_whole(said):
            raise Later(
                f"the manifest could not be signed with {self._key}: {complaint or _PROGRAM + ' made no signature'}",
                safe="Nothing was sealed; the messages wait as before",
                next="give a private key without passphrase that only this user may read, or one its agent holds",
            )
        return said


def verifier(allowed_signers: str) -> Callable[[bytes, bytes, str], str]:
    """What tells whether a signature is good, by the file ``allowed_signers`` (an absolute path; see ssh-keygen(1)).

    Given a manifest, a signature and the origin, who has to be among the principals of the key, it returns what is
    wrong in words for people, ``""`` when the signature is good. It raises :class:`~bsmtp_batch.errors.Setting` when
    the file cannot be read, and :class:`~bsmtp_batch.errors.Later` when the check could not be made.
    """

    def verify(manifest: bytes, signature: bytes, origin: str) -> str:
        if len(signature) > MAX_SIGNATURE:
            return f"its signature is longer than {MAX_SIGNATURE} octets"
        if not is_whole(signature):
            return "its signature is not one: was it cut or changed?"
        if not origin or origin.startswith(("-", ".")) or not _HOST.issuperset(origin):
            return f"its origin {origin!r} is not a host name"
        return _verify(allowed_signers, manifest, signature, origin)

    return verify


def is_whole(signature: bytes) -> bool:
    """Whether ``signature`` is written as ssh-keygen writes one: a frame, and inside it base64 in lines of one length.

    Readers of base64 pass over blanks and over the last bits; what was changed there would be as good as before.
    """
    if len(signature) > MAX_SIGNATURE or not (signature.startswith(_BEGIN) and signature.endswith(_END)):
        return False
    lines = signature[len(_BEGIN) : -len(_END)].split(b"\n")
    if {len(line) for line in lines[:-1]} - {len(lines[0])} or not 0 < len(lines[-1]) <= len(lines[0]):
        return False
    text = b"".join(lines)
    try:
        return binascii.b2a_base64(binascii.a2b_base64(text, strict_mode=True), newline=False) == text
    except binascii.Error:
        return False


def _verify(allowed_signers: str, manifest: bytes, signature: bytes, origin: str) -> str:
    _readable(allowed_signers, "the file of allowed signers", "name it with [node] or [peer.NAME] allowed_signers")
    try:
        with tempfile.NamedTemporaryFile(prefix="bsmtp-batch.", suffix=".sig") as file:
            file.write(signature)
            file.flush()
            options = ["-f", allowed_signers, "-I", origin, "-n", NAMESPACE, "-s", file.name]
            code, said, complaint = _run(["-Y", "verify", *options], manifest)
    except OSError as error:
        raise _unchecked(error.strerror or str(error)) from error
    if code == 0:
        return ""
    if not said.startswith(_NOT_GOOD):
        raise _unchecked(complaint or f"{_PROGRAM} ended with {code}")
    return f"its signature is not good: {complaint or f'it was made with a key that is not one of {origin}'}"


def _run(arguments: list[str], data: bytes) -> tuple[int, bytes, str]:
    """Exit status, output and last complaint of the program with ``data`` on its standard input."""
    try:
        with tempfile.TemporaryFile() as source:
            source.write(data)
            source.seek(0)
            with Child([_PROGRAM, *arguments], source=source) as child:
                said = _output(child)
                return child.finish(SECONDS), said, child.complaint()
    except FileNotFoundError as error:
        raise Later(
            f"{_PROGRAM} is not there: it makes and checks signatures",
            safe="Nothing was moved",
            next="install OpenSSH's client programs, or take the keys out of the settings",
        ) from error
    except OSError as error:
        raise _unchecked(error.strerror or str(error)) from error


def _output(child: Child) -> bytes:
    said, until = b"", time.monotonic() + SECONDS
    while chunk := child.receive(until - time.monotonic()):
        said += chunk
        if len(said) > MAX_SIGNATURE:
            raise OSError(errno.EMSGSIZE, "it says more than a signature")
    return said


def _readable(path: str, what: str, remedy: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        raise Setting(
            f"{what} {path} cannot be read: {error.strerror}",
            safe="Nothing was moved",
            next=f"{remedy}, and let this user read it",
        ) from error


def _unchecked(why: str) -> Later:
    return Later(
        f"{_PROGRAM} could not do its work: {why}",
        safe="Nothing was moved and nothing acknowledged",
        next=f"run {_PROGRAM} by hand to see what it lacks, then run the command again",
    )
