"""``bsmtp-batch push smtp://``: the mail in sealed batches goes to the mail server of a customer."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from bsmtp_batch.cli import common, moving

if TYPE_CHECKING:
    from bsmtp_batch.config import Peer as Section
    from bsmtp_batch.config import Settings
    from bsmtp_batch.courier.contact import Terms
    from bsmtp_batch.dispatch.server import CustomerServer
    from bsmtp_batch.handover.events import Event
    from bsmtp_batch.replay.contract import Target
    from bsmtp_batch.replay.journal import Line
    from bsmtp_batch.spool.store import Route, Spool


def server(peer: Section, node: str) -> CustomerServer:
    """The server of ``peer``. Raises ``errors.Usage`` for a URL that names none, and ``errors.Setting``."""
    from bsmtp_batch.dispatch import address
    from bsmtp_batch.dispatch.server import CustomerServer, Security
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.replay.address import BadUrl

    try:
        place = address.parse(peer.url)
    except BadUrl as error:
        raise Usage(str(error), safe="Nothing was sent", next=f"write {address.FORMS}") from error
    user = peer.user.encode()
    password = secret(peer.secret_file) if user else b""
    return CustomerServer(place, Security(peer.tls, peer.ca_file, user, password), node=node)


def their_routes(peer: Section) -> list[str]:
    """The routes of ``peer``. Raises ``errors.Usage`` where none is named: a server must not get the mail of others."""
    from bsmtp_batch.errors import Usage

    if not peer.routes:
        raise Usage(
            f"it is not said whose mail {peer.url} takes",
            safe="Nothing was sent",
            next=f"name the routes: bsmtp-batch push {peer.url} example.org",
        )
    return peer.routes


def send(
    store: Spool, settings: Settings, routes: list[Route], target: CustomerServer, terms: Terms, *, json: bool
) -> list[int]:
    """Send what is sealed in ``routes``; the exit code."""
    from bsmtp_batch.dispatch import Terms as Bound
    from bsmtp_batch.dispatch import dispatch_routes
    from bsmtp_batch.ledger import Ledger

    if not routes:
        return []
    bound = Bound(settings.node.name, notices(settings), terms.max_octets, terms.until)
    with Ledger(store.ledger) as ledger:
        found = dispatch_routes(routes, target, ledger=ledger, terms=bound, watcher=Console(json=json))
    return [found.code]


def notices(settings: Settings) -> Target | None:
    """Where reports to senders go: the mail server of this node; None where refused mail is only kept."""
    from bsmtp_batch.errors import Setting
    from bsmtp_batch.replay import address, targets

    if settings.imports.on_reject != "bounce" or not settings.imports.to:
        return None
    try:
        return targets.target_of(address.parse(settings.imports.to), node=settings.node.name)
    except address.BadUrl as error:
        raise Setting(
            f"[import] to: {error}", safe="Nothing was sent", next=f"write the target as {address.FORMS}"
        ) from error


def secret(path: str) -> bytes:
    """The password in the file ``path``. Raises ``errors.Setting``."""
    from bsmtp_batch.edge.user import user_name
    from bsmtp_batch.errors import Setting

    try:
        with open(path, "rb") as file:
            open_to_all = os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH)
            found = file.readline(4096).rstrip(b"\r\n")
        fault = "everybody on this machine may read it" if open_to_all else "" if found else "its first line is empty"
    except OSError as error:
        fault = f"{user_name()} cannot read it: {error.strerror}"
    if fault:
        raise Setting(
            f"secret_file {path} cannot be used: {fault}",
            safe="Nothing was sent",
            next=f"write the password into its first line, and let only {user_name()} read it (mode 0600)",
        )
    return found


class Console:
    """Tells what happens; see :class:`~bsmtp_batch.dispatch.events.Watcher`."""

    def __init__(self, *, json: bool) -> None:
        self._json = json

    def event(self, event: Event) -> None:
        """A line about a batch."""
        moving.show(event, json=self._json)

    def line(self, line: Line) -> None:
        """A row about a recipient, for programs."""
        if self._json:
            row = {"verb": "push", "kind": "recipient", "name": line.batch, "message": line.message}
            said = {"rcpt_to": common.printable(line.rcpt_to), "outcome": line.outcome, "reply": line.reply}
            common.print_json([row | said])
