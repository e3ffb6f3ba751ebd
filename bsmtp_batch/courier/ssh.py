"""How the system's ssh is called, by us and by the ``scp`` and ``rsync`` that call it for us: pure text and arguments.

All options stand in one generated file, named with ``-F``; so no path and no user name needs quoting in an argument
that somebody takes apart again. The user's and the system's own ssh settings follow it: jump hosts and agents work as
they do by hand, and what we say first cannot be changed by them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from typing import Self

from bsmtp_batch.courier.address import Address
from bsmtp_batch.courier.options import Options
from bsmtp_batch.errors import Usage

_PLAIN_PATH = re.compile(r"/[^\x00-\x1f\x7f\"\\$%~]*")
_PREFIX = "bsmtp-batch-"
_FIXED = """\
BatchMode yes
StrictHostKeyChecking yes
UpdateHostKeys no
ConnectTimeout 30
ServerAliveInterval 15
ServerAliveCountMax 4
ClearAllForwardings yes
ForwardAgent no
ForwardX11 no
PermitLocalCommand no
RequestTTY no
EscapeChar none
Compression no
LogLevel ERROR
ControlMaster no
ControlPersist no
"""


class SshFiles:
    """A private directory with the ``ssh_config`` of one contact and the socket over which its sessions share one
    connection. A context manager; ``directory`` exists within it."""

    def __init__(self, address: Address, options: Options) -> None:
        self.address = address
        self._text = config_text(address, options)
        self.directory = ""

    def __enter__(self) -> Self:
        self.directory = _private_directory()
        with open(self.config, "x", encoding="utf-8") as file:
            file.write(f'ControlPath "{self.directory}/s"\n{self._text}')
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def config(self) -> str:
        """The path of the generated file."""
        return f"{self.directory}/config"

    def ssh(self, *command: str) -> list[str]:
        """The first session: it makes the connection that the others share."""
        return ["ssh", "-F", self.config, "-o", "ControlMaster=yes", "-T", "--", self.address.host, *command]

    def shell(self) -> str:
        """What ``rsync -e`` is told; rsync itself takes it apart at blanks, of which there is none but ours."""
        return f"ssh -F {self.config}"


def config_text(address: Address, options: Options) -> str:
    """The ``ssh_config`` for ``address``. Raises :class:`~bsmtp_batch.errors.Usage` for a path that cannot stand in
    it."""
    lines = [_FIXED.rstrip("\n")]
    if address.user:
        lines.append(f"User {address.user}")
    if address.port:
        lines.append(f"Port {address.port}")
    if options.identity:
        lines += [f'IdentityFile "{_plain(options.identity)}"', "IdentitiesOnly yes"]
    if options.known_hosts:
        lines += [f'UserKnownHostsFile "{_plain(options.known_hosts)}"', "GlobalKnownHostsFile /dev/null"]
    return "\n".join([*lines, "Include ~/.ssh/config", "Include /etc/ssh/ssh_config", ""])


def _plain(path: str) -> str:
    if not _PLAIN_PATH.fullmatch(path):
        raise Usage(
            f"{path!r} cannot be told to ssh",
            safe="Nothing was moved",
            next='name an absolute path without control characters and without any of " \\ $ % ~',
        )
    return path


def _private_directory() -> str:
    """A new directory with a name that is short enough for a socket in it and that nobody has to quote."""
    usual = tempfile.gettempdir()
    plain = re.fullmatch(r"/[A-Za-z0-9_./-]{1,40}", usual) is not None
    parent = usual if plain else "/tmp"  # noqa: S108 - mkdtemp makes what is in it ours
    _tidy(parent)
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)


def _tidy(parent: str) -> None:
    """Remove the directories of contacts that were killed: those of ours whose process has gone."""
    with suppress(OSError), os.scandir(parent) as found:
        for entry in found:
            whose = re.fullmatch(rf"{_PREFIX}([0-9]{{1,10}})-.*", entry.name)
            with suppress(OSError):
                mine = whose and entry.is_dir(follow_symlinks=False) and entry.stat().st_uid == os.geteuid()
                if whose and mine and not os.path.exists(f"/proc/{whose[1]}"):
                    shutil.rmtree(entry.path, ignore_errors=True)
