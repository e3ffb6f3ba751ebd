"""The programs that move one file over ssh: what they are called with."""

from __future__ import annotations

from typing import Protocol

from bsmtp_batch.courier.ssh import SshFiles

PATIENCE = 120
"""Seconds without an octet after which rsync ends; ssh notices a dead line earlier."""


class Carrier(Protocol):
    """``resumes``: it goes on where an earlier one stopped. ``name`` is the file on the far side, checked; ``local`` an
    absolute path."""

    program: str
    resumes: bool

    def send(self, files: SshFiles, local: str, name: str) -> list[str]:
        """The command that brings ``local`` there."""

    def fetch(self, files: SshFiles, name: str, local: str) -> list[str]:
        """The command that brings ``name`` here."""


class Scp:
    """``scp`` in its old protocol (``-O``): the newer one asks for an SFTP server, which serves a whole account."""

    program = "scp"
    resumes = False

    def send(self, files: SshFiles, local: str, name: str) -> list[str]:
        """See :class:`Carrier`."""
        return [*self._words(files), local, f"{files.address.operand}:{name}"]

    def fetch(self, files: SshFiles, name: str, local: str) -> list[str]:
        """See :class:`Carrier`."""
        return [*self._words(files), f"{files.address.operand}:{name}", local]

    def _words(self, files: SshFiles) -> list[str]:
        return ["scp", "-O", "-q", "-B", "-F", files.config, "--"]


class Rsync:
    """``rsync``, going on with what is there after comparing the checksum of that (``--append-verify``)."""

    program = "rsync"
    resumes = True

    def send(self, files: SshFiles, local: str, name: str) -> list[str]:
        """See :class:`Carrier`."""
        return [*self._words(files), local, f"{files.address.operand}:{name}"]

    def fetch(self, files: SshFiles, name: str, local: str) -> list[str]:
        """See :class:`Carrier`."""
        return [*self._words(files), f"{files.address.operand}:{name}", local]

    def _words(self, files: SshFiles) -> list[str]:
        return ["rsync", "--append-verify", f"--timeout={PATIENCE}", "-e", files.shell(), "--"]
