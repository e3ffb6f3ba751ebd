"""What ``import`` does with its arguments, without the library that reads command lines (see ``quick.py``)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bsmtp_batch.cli.printing import complain, print_json
from bsmtp_batch.edge.log import printable
from bsmtp_batch.edge.user import become_owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from bsmtp_batch.config import Settings
    from bsmtp_batch.config_basics import Basics
    from bsmtp_batch.importer.one import Force, Options, Tally
    from bsmtp_batch.importer.policy import Policy
    from bsmtp_batch.replay.contract import Target
    from bsmtp_batch.replay.journal import Line

ORDER = ("delivered", "pending", "deferred", "bounced", "quarantined", "skipped")
"""The outcomes, in the order in which a summary names them."""
FORCES = ("unknown", "failed", "all")
MOST = 100
"""Connections that may be asked for."""


@dataclass(frozen=True)
class Wishes:
    """The arguments of ``import``; see its help."""

    files: tuple[str, ...] = ()
    to: str = ""
    local_domain: tuple[str, ...] = ()
    force: str = ""
    yes: bool = False
    salvage: bool = False
    connections: int | None = None
    dry_run: bool = False
    json: bool = False
    config: str | None = None
    spool: str | None = None


def carry_out(wishes: Wishes) -> int:
    """Import; the exit code says whether anything is left, or was set aside."""
    from dataclasses import replace

    from bsmtp_batch.errors import Usage
    from bsmtp_batch.importer import stage

    settings = basics_of(wishes.config, wishes.spool)
    if wishes.force and wishes.force not in FORCES:
        raise Usage(
            f"there is no --force={wishes.force}", safe="Nothing was sent", next=f"write one of: {', '.join(FORCES)}"
        )
    watcher = Console(json=wishes.json, yes=wishes.yes)
    chosen: Force | None = wishes.force or None  # type: ignore[assignment]  # one of FORCES, as checked above
    options = options_of(
        settings,
        to=wishes.to,
        local_domains=[*wishes.local_domain],
        dry_run=wishes.dry_run,
        connections=wishes.connections,
    )
    become_owner(settings.spool)
    return stage.run([*wishes.files], replace(options, force=chosen, salvage=wishes.salvage), watcher)


def basics_of(config: str | None, spool: str | None) -> Basics:
    """What ``--config`` and ``--spool`` come to (``errors.Setting`` when they cannot be used). What reads settings is
    as large in memory as all the rest, and not loaded where they say nothing."""
    from bsmtp_batch import config_basics

    if config_basics.say_nothing(config):
        return config_basics.basics(spool)
    from bsmtp_batch.config import load

    return basics_from(load(config, spool=spool))


def basics_from(settings: Settings) -> Basics:
    """What an import has to know of ``settings``."""
    from bsmtp_batch.config_basics import Basics

    node, imports = settings.node, settings.imports
    return Basics(
        node.spool,
        node.name,
        node.allowed_signers,
        imports.to,
        tuple(imports.local_domains),
        imports.on_reject,
        imports.connections,
    )


def options_of(
    settings: Basics,
    *,
    to: str = "",
    local_domains: list[str] | None = None,
    dry_run: bool = False,
    connections: int | None = None,
) -> Options:
    """How the settings say to import; ``to`` and ``connections`` come before theirs, and ``local_domains`` are added.
    Raises ``errors.Usage``."""
    from bsmtp_batch.importer.one import Options

    url = to or settings.to
    return Options(
        spool=settings.spool,
        node=settings.name,
        policy=_policy([*settings.local_domains, *(local_domains or [])]),
        target=target_of(url, settings.name, needed=not dry_run),
        bounce=settings.on_reject == "bounce",
        dry_run=dry_run,
        connections=connections or settings.connections or default_connections(url),
        verify=_verifier(settings.allowed_signers),
    )


def _verifier(allowed_signers: str) -> Callable[[bytes, bytes, str], str] | None:
    if not allowed_signers:
        return None
    from bsmtp_batch.edge.signing import verifier

    return verifier(allowed_signers)


def default_connections(url: str) -> int:
    """How many connections there may be to the target at ``url`` where nobody says."""
    return 8 if url.startswith(("smtp:", "lmtp:")) else 1


def _policy(domains: list[str]) -> Policy:
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.importer.policy import Policy

    try:
        return Policy(domains)
    except ValueError as error:
        raise Usage(str(error), safe="Nothing was sent", next="mend the domain") from error


def target_of(url: str, node: str, *, needed: bool) -> Target | None:
    """The target at ``url``; ``needed``: without one there is ``errors.Usage``."""
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.replay import address, targets

    if not url:
        if not needed:
            return None
        raise Usage(
            "it is not said where to hand the mail in",
            safe="Nothing was sent",
            next=f"add --to URL, or [import] to in the settings: {address.FORMS}",
        )
    try:
        return targets.target_of(address.parse(url), node=node)
    except address.BadUrl as error:
        raise Usage(str(error), safe="Nothing was sent", next=f"write the target as {address.FORMS}") from error


class Console:
    """Tells what happens: lines of JSON for programs, one line per batch for people, troubles on standard error."""

    def __init__(self, *, json: bool, yes: bool) -> None:
        self._json = json
        self._yes = yes
        self._later: dict[str, str] = {}  # by batch: who was put off first, and in which words

    def line(self, line: Line) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        if line.outcome == "deferred":
            who = line.rcpt_to.decode("utf-8", "backslashreplace")
            self._later.setdefault(line.batch, f" (<{who}>: {line.reply[:200]})")
        if self._json:
            row: dict[str, Any] = {
                "message": line.message,
                "rcpt_to": line.rcpt_to.decode("utf-8", "backslashreplace"),
                "outcome": line.outcome,
                "reply": line.reply,
                "batch": line.batch,
            }
            print_json([row])

    def trouble(self, what: str) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        complain(f"import: {printable(what)}")

    def summary(self, tally: Tally) -> None:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        if not self._json:
            why = {"deferred": self._later.pop(tally.name, "")}
            counts = [f"{tally.counts[word]} {word}{why.get(word, '')}" for word in ORDER if word in tally.counts]
            said = ", ".join(counts) or "nothing was handed in"
            sys.stdout.write(printable(f"{tally.name}: messages: {tally.messages}; recipients: {said}") + "\n")
            sys.stdout.flush()

    def agrees(self, question: str) -> bool:
        """See :class:`~bsmtp_batch.importer.one.Watcher`."""
        if self._yes or not sys.stdin.isatty():
            return self._yes
        import typer

        return typer.confirm(question, err=True)
