"""What ``push`` and ``pull`` have in common: whom to reach, and how to tell what happened."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bsmtp_batch.config import Peer as Section
    from bsmtp_batch.config import Settings
    from bsmtp_batch.courier.bounds import Watch
    from bsmtp_batch.courier.contact import Terms
    from bsmtp_batch.courier.contract import Courier
    from bsmtp_batch.courier.options import Options
    from bsmtp_batch.handover.events import Event
    from bsmtp_batch.spool.store import Spool

    Contact = Callable[[Spool, Courier, list[str], Terms], Iterable[int]]
    ByMail = Callable[[Spool, Settings, str, Section, Terms], Iterable[int]]

Peer = Annotated[
    str | None,
    typer.Argument(
        metavar="[PEER|URL]",
        help="A [peer.NAME] of the settings, dir:/path, scp://user@host/, rsync://user@host/, smtp://[host] (push)"
        " or odmr://user@host/ (pull); default: every peer in turn.",
    ),
]
Routes = Annotated[
    list[str] | None, typer.Argument(metavar="[ROUTE]...", help="Default: the peer's routes, or all there are.")
]
Identity = Annotated[
    str | None, typer.Option("--identity", metavar="FILE", help="Private ssh key; comes before the peer's own.")
]
KnownHosts = Annotated[
    str | None,
    typer.Option("--known-hosts", metavar="FILE", help="Host keys that ssh may meet; comes before the peer's own."),
]
MaxBytes = Annotated[
    str | None,
    typer.Option(
        "--max-bytes",
        metavar="SIZE",
        help='The most octets of batches in this contact ("50M"; 0: no bound); comes before the peer\'s own.',
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="HH:MM-HH:MM",
        help="Local time outside which nothing is moved, also when it ends in the middle; comes before the peer's own.",
    ),
]
Tls = Annotated[
    str | None,
    typer.Option(
        "--tls",
        metavar="MODE",
        help="With smtp:// and odmr://: none, starttls or implicit (both want a good certificate), and with smtp://"
        " opportunistic (as MTAs do).",
    ),
]
CaFile = Annotated[
    str | None,
    typer.Option(
        "--ca-file", metavar="FILE", help="Who issues good certificates (PEM); default: what the system trusts."
    ),
]
SecretFile = Annotated[
    str | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="With odmr://: its first line is the password; comes before the peer's own.",
    ),
]
TLS_MODES = ("none", "opportunistic", "starttls", "implicit")


@dataclass(frozen=True)
class Flags:
    """What was said on the command line about the contact, as it was written; None: nothing."""

    identity: str | None = None
    known_hosts: str | None = None
    max_bytes: str | None = None
    window: str | None = None
    tls: str | None = None
    ca_file: str | None = None
    secret_file: str | None = None


MAIL = ("smtp:", "odmr:")
"""How the urls of mail servers begin: what is moved to or from them is messages and not batches."""


def with_each(
    verb: str,
    peer: str | None,
    flags: Flags,
    contact: Contact,
    *,
    mail: Mapping[str, ByMail] | None = None,
    config: str | None,
    spool: str | None,
    json: bool,
) -> int:
    """Run ``contact`` (spool, courier, the peer's routes, its terms; gives exit codes) with each peer; the worst of
    its codes. With a peer that is a mail server it is what ``mail`` has for its scheme (spool, settings, the peer's
    name and section, its terms) instead.

    Trouble with one peer does not keep the others waiting, and one that is outside its window is told and left alone.
    """
    from bsmtp_batch.cli.words import worst
    from bsmtp_batch.courier.schemes import courier_for
    from bsmtp_batch.errors import Problem
    from bsmtp_batch.spool.store import Spool

    settings = common.settings(config, spool)
    store = Spool(settings.node.spool)
    common.become_owner(store.path)
    codes = [0]
    for name, section in peers(settings, peer):
        try:
            by_mail = (mail or {}).get(section.url.partition(":")[0])
            if section.url.startswith(MAIL) and by_mail is None:
                if peer is not None:
                    raise _one_way(section.url)
                continue
            chosen = _with(flags, section, named=peer is not None)
            courier = None if by_mail else courier_for(chosen.url, _options(chosen))
            terms = _terms(settings, chosen)
            if terms is None:
                codes += tell(_outside(verb, name, chosen.window), json=json)
            elif courier is not None:
                codes += contact(store, courier, chosen.routes, terms)
            elif by_mail is not None:
                codes += by_mail(store, settings, name, chosen, terms)
        except Problem as problem:
            common.complain(common.printable(f"bsmtp-batch: {problem}"))
            codes.append(problem.code)
    return worst(*codes)


def _terms(settings: Settings, peer: Section) -> Terms | None:
    """What a contact with ``peer`` is bound by; None outside its window."""
    from bsmtp_batch.cli.hours import closes
    from bsmtp_batch.cli.trust import trust_of
    from bsmtp_batch.courier.contact import Terms

    until = closes(peer.window, time.time()) if peer.window else None
    if peer.window and until is None:
        return None
    return Terms(trust_of(settings, peer), peer.receipt, peer.max_bytes or None, until)


def _outside(verb: str, name: str, window: str) -> Iterator[Event]:
    from bsmtp_batch.handover.events import Event

    yield Event(verb, "outside", name, note=f"outside its window {window}, nothing was moved")


def _options(peer: Section) -> Options:
    from bsmtp_batch.courier.options import Options

    for what, path in (("identity", peer.identity), ("known_hosts", peer.known_hosts)):
        if path and not os.access(path, os.R_OK):
            raise _unreadable(what, path)
    return Options(peer.identity, peer.known_hosts, peer.compression, peer.far)


def _with(flags: Flags, peer: Section, *, named: bool) -> Section:
    """``peer`` with what the command line says in the place of its own; ``named``: it was said whom to reach.

    Raises ``errors.Usage`` for what makes no sense.
    """
    from bsmtp_batch.config_values import file, octets, window

    found: dict[str, object] = {}
    checks = {
        "identity": file,
        "known_hosts": file,
        "max_bytes": octets,
        "window": window,
        "tls": _mode,
        "ca_file": file,
        "secret_file": file,
    }
    for key, check in checks.items():
        given = getattr(flags, key)
        if given is None:
            continue
        if remedy := _unused(key, peer.url):
            if named:
                raise _senseless(key, remedy)
            continue
        try:
            found[key] = check(os.path.abspath(given) if check is file else given)
        except ValueError as error:
            raise _senseless(key, str(error)) from error
    return peer.model_copy(update=found)


def _unused(key: str, url: str) -> str:
    """Why the flag for ``key`` is not for a peer at ``url``; ``""`` when it is."""
    if key in ("identity", "known_hosts") and url.startswith(("dir:", *MAIL)):
        return f"leave it out: a {'directory' if url.startswith('dir:') else 'mail server'} is reached without ssh"
    if key in ("tls", "ca_file") and url.startswith(("dir:", "scp:", "rsync:")):
        return "leave it out: it is for smtp:// and odmr:// only"
    if key == "secret_file" and not url.startswith("odmr:"):
        return "leave it out: it is for odmr:// only"
    return ""


def _mode(value: object) -> object:
    if value not in TLS_MODES:
        raise ValueError(f"write one of: {', '.join(TLS_MODES)}")
    return value


def _one_way(url: str) -> Exception:
    from bsmtp_batch.errors import Usage

    if url.startswith("odmr:"):
        return Usage(
            f"nothing is pushed to {url} by itself: the mail of the peer's routes goes up when ours is collected",
            safe="Nothing was moved",
            next="pull from it",
        )
    return Usage(
        f"nothing can be pulled from {url}: an SMTP server sends mail and is not asked for it",
        safe="Nothing was moved",
        next="push to it, or pull from where batches are kept for us",
    )


def watching(*, json: bool) -> Watch:
    """A bar for each batch on standard error where that is a terminal and nobody reads JSON; otherwise nothing: the
    line that tells of each batch is enough for a log."""
    from bsmtp_batch.courier.bounds import UNWATCHED

    if json or not sys.stderr.isatty():
        return UNWATCHED
    from rich.console import Console

    from bsmtp_batch.cli.progress import Bar

    return Bar(Console(stderr=True))


def peers(settings: Settings, wanted: str | None) -> Iterator[tuple[str, Section]]:
    """Name and section of each peer to reach; of a URL, a section that has nothing else. Raises ``errors.Usage`` when
    there is none."""
    from bsmtp_batch.config import Peer as Section
    from bsmtp_batch.errors import Usage

    if wanted is None:
        reachable = [(name, peer) for name, peer in settings.peers.items() if peer.url]
        if not reachable:
            raise Usage(
                "it is not said whom to reach, and the settings have no [peer.NAME] with a url",
                safe="Nothing was moved",
                next="name a URL, such as dir:/media/stick, or add a peer to the settings",
            )
        yield from reachable
        return
    found = settings.peer(wanted)
    if found is not None and not found.url:
        raise Usage(
            f"the peer {wanted} has no url: it comes to us",
            safe="Nothing was moved",
            next=f"set url in [peer.{wanted}] when it can be reached from here",
        )
    yield wanted, found or Section.model_construct(url=wanted)


def proper(routes: Iterable[str]) -> list[str]:
    """Route names as a user wrote them, as they are. Raises ``errors.Usage``."""
    from bsmtp_batch.spool.routes import proper_name

    return [proper_name(name) for name in routes]


def tell(events: Iterator[Event], *, json: bool) -> list[int]:
    """Print each event as it happens; the exit codes they ask for, and that of the contact as a whole."""
    from bsmtp_batch.errors import Problem

    codes = []
    try:
        for event in events:
            codes.append(event.code)
            show(event, json=json)
    except Problem as problem:
        common.complain(f"bsmtp-batch: {problem}")
        codes.append(problem.code)
    return codes


def show(event: Event, *, json: bool) -> None:
    """Print one event: a row for programs, a line for people, on standard error where something is left or wrong."""
    if json:
        row = asdict(event)
        common.print_json([{k: row[k] for k in ("verb", "kind", "party", "name", "messages", "octets", "note")}])
    elif event.code:
        common.complain(_line(event))
    else:
        typer.echo(_line(event))


def _unreadable(what: str, path: str) -> Exception:
    from bsmtp_batch.edge.user import user_name
    from bsmtp_batch.errors import Setting

    return Setting(
        f"{what} {path} is not there, or {user_name()} cannot read it",
        safe="Nothing was moved",
        next=f"name the right file, and let {user_name()} read it",
    )


def _senseless(key: str, remedy: str) -> Exception:
    from bsmtp_batch.errors import Usage

    flag = "--" + key.replace("_", "-")
    return Usage(f"{flag} makes no sense as it is", safe="Nothing was moved", next=remedy)


def _line(event: Event) -> str:
    from bsmtp_batch.cli.words import count, size

    parts = [f"{event.verb} {event.party}:" if event.party else f"{event.verb}:"]
    if event.kind == "outside":
        parts.append(event.note)
        return common.printable(" ".join(parts))
    if event.name:
        parts.append(f"batch {event.name} {event.kind}")
        if event.messages:
            parts.append(f"({count(event.messages, 'message')}, {size(event.octets)})")
    else:
        parts.append(event.kind)
    text = " ".join(parts)
    note = event.note.replace(f"batch {event.name} is not taken: ", "", 1)  # the line says so already
    return common.printable(f"{text}: {note}" if note else text)
