"""``bsmtp-batch route key``: the line for ``authorized_keys`` that ties a customer's key to its own mail and no other.

The line is made anew from parts that were checked one by one: what stands in the customer's file reaches no shell, no
option of sshd and no second line.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from bsmtp_batch.config import Settings
    from bsmtp_batch.errors import Problem

KINDS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""The kinds of keys that are taken, and of how many parts the octets of each are made (RFC 4253 6.6, PROTOCOL.u2f)."""

_CAP = 16_384
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
CODES = {
    64: "the origin is no name, or there is no such file",
    65: "the file is not one public key",
    78: "the settings cannot be used, or a path cannot stand in a forced command",
}


def register(route: typer.Typer) -> None:
    """Add the command to the group ``route``."""
    route.command(
        "key",
        help="Print the authorized_keys line that lets the owner of a key push and pull as ORIGIN, and do nothing"
        " else. It changes nothing.",
        epilog=common.epilog("bsmtp-batch route key site.example site.pub >> /etc/ssh/bsmtp-batch.keys", CODES),
    )(key)


def key(
    origin: Annotated[
        str, typer.Argument(metavar="ORIGIN", help="Whose key it is; normally the route that holds its mail.")
    ],
    keyfile: Annotated[str, typer.Argument(metavar="KEYFILE", help="The public key, one line; - is standard input.")],
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Print the line, and on standard error what to do with it."""
    from bsmtp_batch.spool.routes import proper_name
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    proper = proper_name(origin)
    words = [_program(), "receive", proper]
    for flag, given in (("--config", config), ("--spool", spool)):
        words += [flag, os.path.abspath(given)] if given else []
    for path in (words[0], *words[4::2]):
        _refuse_what_a_shell_reads(path)
    kind, blob, comment = public_key(_content(keyfile), keyfile)
    typer.echo(f'restrict,command="{" ".join(words)}" {" ".join(filter(None, (kind, blob, comment)))}')
    common.complain(_where_to(settings))
    if proper not in Spool(settings.node.spool).routes():
        common.complain(
            f"bsmtp-batch: there is no route {proper} yet, so no mail waits for {proper} here."
            f" Next: bsmtp-batch route add {proper}"
        )
    return 0


def public_key(content: bytes, name: str) -> tuple[str, str, str]:
    """Kind, base64 and comment (``""``: none) of the one public key in ``content``, which came from the file ``name``.

    Raises :class:`~bsmtp_batch.errors.Bad`.
    """
    if b"PRIVATE KEY" in content or content.startswith(b"PuTTY-User-Key-File"):
        raise _bad(
            name, "it is a private key, which has to stay where it was made", f"name its public half: {name}.pub"
        )
    line = content.removesuffix(b"\n")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = "\n"
    if b"\n" in line:
        raise _bad(name, "it has more than one line", "give a file with one public key, a line as ssh-keygen writes it")
    if not text.isprintable():
        raise _bad(name, "it holds control characters or is not UTF-8", "copy the line anew, as text, to a file")
    kind, _, rest = text.strip(" ").partition(" ")
    blob, _, comment = rest.strip(" ").partition(" ")
    if kind not in KINDS:
        raise _bad(name, *_no_kind(text))
    if not _is_key(blob, kind):
        raise _bad(name, f"what follows {kind} is not such a key, or not all of it", "copy the whole line anew")
    return kind, blob, comment.strip(" ")


def _no_kind(text: str) -> tuple[str, str]:
    if any(word in KINDS for word in text.split(" ")):
        return "something stands in front of the key", "take that away: which options the key gets is said here"
    return "it does not begin with a kind of key that is taken here", f"use one of: {', '.join(KINDS)}"


def _is_key(blob: str, kind: str) -> bool:
    """Whether ``blob`` is the base64, and nothing but that, of the parts that a key of this kind has."""
    try:
        octets = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return False
    parts = []
    rest = octets
    while rest:
        size = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 + size:
            return False
        parts.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    whole = base64.b64encode(octets).decode() == blob and len(parts) == KINDS[kind] and all(parts)
    return whole and parts[0] == kind.encode() and (kind != "ssh-ed25519" or len(parts[1]) == 32)


def _content(keyfile: str) -> bytes:
    from bsmtp_batch.errors import Usage

    try:
        if keyfile == "-":
            content = sys.stdin.buffer.read(_CAP + 1)
        else:
            with open(keyfile, "rb") as file:
                content = file.read(_CAP + 1)
    except OSError as error:
        raise Usage(
            f"the key {keyfile} cannot be read: {error.strerror}",
            safe="Nothing was changed",
            next="name the file with the public key, or - and give it on standard input",
        ) from error
    if len(content) > _CAP:
        raise _bad(keyfile, f"it has more than {_CAP} octets", "give a file with one public key")
    return content


def _program() -> str:
    """The absolute path under which this program was started. A link stays one: what it leads to may be replaced by
    the next version."""
    from bsmtp_batch.errors import Setting

    started = os.path.abspath(sys.argv[0])
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "bsmtp-batch")
    for path in (started if os.path.basename(started) == "bsmtp-batch" else "", beside, shutil.which("bsmtp-batch")):
        if path and os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise Setting(
        "it cannot be told where the program bsmtp-batch is",
        safe="Nothing was changed",
        next="run it by its whole path, such as /usr/bin/bsmtp-batch route key ...",
    )


def _refuse_what_a_shell_reads(path: str) -> None:
    from bsmtp_batch.errors import Setting

    if not _PLAIN.fullmatch(path):
        raise Setting(
            f"{path!r} cannot stand in a forced command, which the login shell of that account reads",
            safe="Nothing was changed",
            next="use a path of letters, digits and any of . - _ / (a link with such a name will do)",
        )


def _where_to(settings: Settings) -> str:
    import pwd

    try:
        user = pwd.getpwuid(os.stat(settings.node.spool).st_uid).pw_name
    except (OSError, KeyError):
        user = ""
    whose = f"the user {user}, who owns the spool" if user else "the user who owns the spool"
    return (
        f"bsmtp-batch: put this line into the AuthorizedKeysFile that sshd has for {whose}: best a file of root's, such"
        " as /etc/ssh/bsmtp-batch.keys (contrib/ssh/sshd_config), so that nobody who gets in can add to it"
    )


def _bad(name: str, what: str, remedy: str) -> Problem:
    from bsmtp_batch.errors import Bad

    return Bad(f"{name} is not taken: {what}", safe="Nothing was changed and nothing of it is shown", next=remedy)
