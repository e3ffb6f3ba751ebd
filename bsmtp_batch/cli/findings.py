"""What a look at the settings finds beyond their grammar: files, programs, the spool, and promises that do not hold."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bsmtp_batch.cli.words import socket_directory

if TYPE_CHECKING:
    from bsmtp_batch.config import Peer, Settings

RSYNC = (3, 5, 0)
"""The first release of rsync without the faults through which a far end could write or read elsewhere."""


@dataclass(frozen=True)
class Finding:
    """``what`` is the matter with ``setting``, and the ``remedy``; an ``error`` keeps something from working at all,
    everything else is a warning."""

    setting: tuple[str, ...]
    what: str
    remedy: str
    error: bool = False


def of(settings: Settings) -> Iterator[Finding]:
    """Everything there is to say about ``settings``."""
    for name, peer in settings.peers.items():
        yield from _promises(name, peer, settings)
    yield from _files(settings)
    yield from _accounts(settings)
    yield from _programs(settings)
    yield from _spool(settings.node.spool)
    yield from _groups(settings.node.spool)
    yield from _routes(settings)
    yield from _sockets(settings)


# --- what is not promised ---------------------------------------------------------------------------------------------


def _promises(name: str, peer: Peer, settings: Settings) -> Iterator[Finding]:
    here = ("peer", name)
    if peer.receipt == "copied":
        yield Finding(
            (*here, "receipt"),
            '"copied" lets go of a batch that nobody has said is safe there: what is lost, changed or never taken in'
            " behind the copying is not sent again by itself",
            "have `bsmtp-batch receive` answer there, or let the other node pull from that place and leave receipt out;"
            " until then set keep of the routes so long that a loss is noticed in time",
        )
    if peer.far == "directory":
        yield Finding(
            (*here, "far"),
            '"directory" means an account without our program: nobody there checks what arrives, a number that is'
            " missing or comes twice is noticed by who pulls from there only, and whoever has the key can read and"
            " delete all that lies there",
            "use `bsmtp-batch receive` as the forced command of the key (`bsmtp-batch route key`), or give each"
            " customer an account and a directory of its own",
        )
    if peer.signature == "optional" and (peer.allowed_signers or settings.node.allowed_signers):
        yield Finding(
            (*here, "signature"),
            "signatures are checked where there is one, and a batch without one is taken all the same: who can write"
            " there can leave it away",
            'set signature = "required" as soon as the other node signs',
        )


# --- what has to be there ---------------------------------------------------------------------------------------------


def _files(settings: Settings) -> Iterator[Finding]:
    node = settings.node
    yield from _file(("node", "signing_key"), node.signing_key, secret=True)
    yield from _file(("node", "allowed_signers"), node.allowed_signers)
    for name, peer in settings.peers.items():
        yield from _file(("peer", name, "identity"), peer.identity, secret=True)
        yield from _file(("peer", name, "known_hosts"), peer.known_hosts)
        yield from _file(("peer", name, "allowed_signers"), peer.allowed_signers)
        yield from _file(("peer", name, "ca_file"), peer.ca_file)
        yield from _file(("peer", name, "cert_file"), peer.cert_file)
        yield from _file(("peer", name, "key_file"), peer.key_file, secret=True)
        yield from _password(("peer", name, "secret_file"), peer.secret_file)
    serve = settings.serve
    yield from _file(("serve", "certificate"), serve.certificate)
    yield from _file(("serve", "key"), serve.key, secret=True)
    yield from _file(("serve", "client_ca"), serve.client_ca)


def _password(setting: tuple[str, ...], path: str) -> Iterator[Finding]:
    from bsmtp_batch.cli.sending import secret
    from bsmtp_batch.errors import Setting

    if path:
        try:
            secret(path)
        except Setting as fault:
            yield Finding(setting, fault.what, fault.next, error=True)


def _accounts(settings: Settings) -> Iterator[Finding]:
    from bsmtp_batch.accounts import store
    from bsmtp_batch.errors import Setting

    try:
        found = store.read(settings.node.secrets) if settings.accounts else None
    except Setting as fault:
        yield Finding(("node", "secrets"), fault.what, fault.next)
        return
    known = found[0].accounts if found else {}
    for name, account in settings.accounts.items():
        if name not in known and not account.certificate:
            yield Finding(
                ("account", name),
                f"there is no secret for it in {settings.node.secrets}, so nobody can log in with it",
                f"bsmtp-batch account add {name}",
            )
    if settings.accounts and not settings.imports.to:
        yield Finding(
            ("account", next(iter(settings.accounts))),
            "there is no [import] to: what a customer's mail server refuses is set aside in dead/, and its sender hears"
            " nothing",
            'name the mail server here in [import], such as to = "smtp://127.0.0.1:25"',
        )


def _file(setting: tuple[str, ...], path: str, *, secret: bool = False) -> Iterator[Finding]:
    from bsmtp_batch.edge.user import user_name

    if not path:
        return
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            private = b"PRIVATE KEY" in file.read(200)
    except OSError as error:
        remedy = f"name the right file, and let {user_name()} read it"
        yield Finding(setting, f"{path} cannot be read by {user_name()}: {error.strerror}", remedy, error=True)
        return
    if not stat.S_ISREG(mode):
        yield Finding(setting, f"{path} is not a file", "name the right one", error=True)
    elif secret and private and mode & 0o077:
        ssh = ", and ssh takes none like that" if setting[-1] in ("identity", "signing_key") else ""
        yield Finding(setting, f"others can read the private key {path}{ssh}", f"chmod 600 {path}")
    elif not secret and mode & 0o022:
        yield Finding(setting, f"others can write to {path}, and so decide whom to believe", f"chmod go-w {path}")


def _programs(settings: Settings) -> Iterator[Finding]:
    for setting, program in dict(_needed(settings)).items():
        if _where(program) is None:
            yield Finding(
                setting,
                f"the program {program} is needed for this and not there",
                f"install {program}, or name the directory it is in with BSMTP_BATCH_PATH",
                error=True,
            )
    for name, peer in settings.peers.items():
        if peer.url.startswith("rsync:") and _where("rsync"):
            yield from _old_rsync(("peer", name, "url"))
        if not peer.url and _where("rsync"):  # it comes to us, and may ask `receive` for rsync
            yield from _old_rsync(("peer", name))
        if peer.compression == "zstd" and not _zstd():
            yield Finding(
                ("peer", name, "compression"),
                "zstd can be neither written nor read here",
                'install zstd (or bsmtp-batch[zstd]), or set compression = "xz"',
                error=True,
            )


def _needed(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Setting and program; of one setting the last that is missing is told."""
    node = settings.node
    if node.signing_key:
        yield ("node", "signing_key"), "ssh-keygen"
    if node.allowed_signers:
        yield ("node", "allowed_signers"), "ssh-keygen"
    for name, peer in settings.peers.items():
        if peer.allowed_signers:
            yield ("peer", name, "allowed_signers"), "ssh-keygen"
        scheme = peer.url.partition(":")[0]
        if scheme in ("scp", "rsync"):
            yield ("peer", name, "url"), "ssh" if _where("ssh") is None else scheme


def _where(program: str) -> str | None:
    from bsmtp_batch.edge.process import environment

    return shutil.which(program, path=environment()["PATH"])


def _zstd() -> bool:
    from bsmtp_batch.edge.inflate import zstd_library

    return zstd_library() is not None or _where("zstd") is not None


def _old_rsync(setting: tuple[str, ...]) -> Iterator[Finding]:
    found = _rsync_version()
    if found is not None and found >= RSYNC:
        return
    is_old = "it cannot be told how old this rsync is" if found is None else f"rsync {'.'.join(map(str, found))} is old"
    wanted = ".".join(map(str, RSYNC))
    yield Finding(
        setting,
        f"{is_old}: before {wanted} a far end could make it write and read elsewhere",
        f"install rsync {wanted} or a newer one, or use scp:// with a far end that is not your own",
    )


def _rsync_version() -> tuple[int, ...] | None:
    from bsmtp_batch.edge.process import Child

    said = b""
    try:
        with Child(["rsync", "--version"]) as child:
            while chunk := child.receive(10):
                said += chunk
    except OSError:  # a timeout is one, too
        return None
    found = re.search(rb"version v?(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else None


# --- the spool and its routes -----------------------------------------------------------------------------------------


def _spool(path: str) -> Iterator[Finding]:
    from bsmtp_batch.edge.user import user_name

    setting = ("node", "spool")
    try:
        found = os.stat(path)
    except OSError as error:
        yield Finding(
            setting,
            f"there is no spool at {path}: {error.strerror}",
            "`bsmtp-batch route add ROUTE` makes one; or name the one there is",
        )
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Finding(setting, f"{path} is not a directory", "name the one that holds the spool", error=True)
        return
    if found.st_uid == 0:
        yield Finding(
            setting,
            f"{path} belongs to root, and an MTA hands mail in as another user",
            f"chown -R USER {path}, where USER is who the MTA hands mail in as",
        )
    elif found.st_uid != os.geteuid():
        yield Finding(
            setting,
            f"{path} belongs to somebody else than {user_name()}",
            "run the commands as its owner (or as root: they go on as its owner)",
        )
    if found.st_mode & 0o022:
        yield Finding(
            setting, f"others can write in {path}: they could put mail there or take it", f"chmod go-w {path}"
        )


def _groups(path: str) -> Iterator[Finding]:
    """Where LMTP keeps what it has acknowledged, until that is in its routes."""
    from bsmtp_batch.edge.user import user_name
    from bsmtp_batch.spool.groups import GROUPS, look

    groups, setting = f"{path}/{GROUPS}", ("node", "spool")
    if not os.path.lexists(groups):
        return  # made by the first who needs it
    if not os.path.isdir(groups) or not os.access(groups, os.W_OK | os.X_OK):
        yield Finding(
            setting,
            f"{groups} cannot be written to by {user_name()}: LMTP takes nothing, and what it has taken does not go on",
            f"see that it is a directory of the spool's owner (chown -R {user_name()} {groups})",
            error=True,
        )
        return
    found = look(path)
    for odd in found.odd:
        yield Finding(setting, f"{odd.path} {odd.reason}", "see OPERATING, 'A damaged spool'")
    for route in sorted(found.left):
        yield Finding(
            setting,
            f"mail accepted for {route} cannot be put into its route",
            f"bsmtp-batch route add {route}, or see that out/{route}/ belongs to {user_name()}",
        )


def _routes(settings: Settings) -> Iterator[Finding]:
    from bsmtp_batch.spool.store import Spool

    try:
        there = Spool(settings.node.spool).routes()
    except OSError:
        return  # told above
    for name in settings.routes:
        if name not in there:
            yield Finding(
                ("route", name),
                "there is no such route, so nothing of this section is in force",
                f"bsmtp-batch route add {name}, or take the section away",
            )
    catch_all = settings.serve.lmtp_route
    if catch_all and catch_all not in there:
        yield Finding(
            ("serve", "lmtp_route"),
            f"there is no route {catch_all}: mail that has no route of its own stays with the MTA",
            f"bsmtp-batch route add {catch_all}",
        )
    for peer, section in settings.peers.items():
        for name in section.routes:
            if name not in there:
                yield Finding(
                    ("peer", peer, "routes"),
                    f"{name} is no route here: its batches can be pulled, and nothing can be pushed",
                    f"bsmtp-batch route add {name}, if mail for it is to leave from here",
                )


def _sockets(settings: Settings) -> Iterator[Finding]:
    """A warning only: the directory may be made with the daemon, and go with it."""
    for where in settings.serve.lmtp:
        directory = os.path.dirname(where.removeprefix("unix:"))
        if where.startswith("unix:") and not os.path.isdir(directory):
            yield Finding(
                ("serve", "lmtp"),
                f"there is no directory {directory} now, and without it serve cannot listen at {where}",
                socket_directory(directory),
            )
