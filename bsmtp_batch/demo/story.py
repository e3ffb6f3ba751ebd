"""What happens in the demonstration, in which order: one method for each part of the road."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bsmtp_batch.demo.messages import HUB, SHIP, STATION, samples
from bsmtp_batch.demo.nodes import Done, Node
from bsmtp_batch.demo.proof import Proof, compare
from bsmtp_batch.demo.show import size
from bsmtp_batch.errors import Later

if TYPE_CHECKING:
    from bsmtp_batch.demo.show import Screen

STEPS = 18
"""How often :meth:`Story.run` moves the progress bar."""


@dataclass
class Ending:
    """What came of it: the proof, the sealed batches as ``seal`` reported them, and the time it took in seconds."""

    proof: Proof
    batches: list[dict[str, object]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether all sums agree."""
        return self.proof.good


class Story:
    """A hub and two sites below ``folder``, told on ``screen``."""

    def __init__(self, folder: str, screen: Screen) -> None:
        self._screen = screen
        self.samples = samples()
        self._sticks = {title: os.path.join(folder, f"stick-of-the-{title}") for title in ("ship", "station")}
        self.hub = Node(HUB, "hub", folder=folder, samples=self.samples)
        self.ship = Node(SHIP, "ship", folder=folder, samples=self.samples, uplink=HUB)
        self.station = Node(STATION, "station", folder=folder, samples=self.samples, uplink=HUB)
        self._batches: list[dict[str, object]] = []

    def run(self) -> Ending:
        """The whole loop. Raises ``errors.Later`` when a stage ends otherwise than it should."""
        began = time.monotonic()
        with ExitStack() as stack:
            for node in (self.hub, self.ship, self.station):
                stack.enter_context(node.server)
            self._set_up()
            self.accept(self.hub)
            self._seal(self.hub)
            self._cut_and_resume()
            self._take_home()
            self._import_at_the_ship()
            self._import(self.station)
            self._and_back()
        proof = compare(self.samples, [node.server for node in (self.hub, self.ship, self.station)])
        return Ending(proof, self._batches, time.monotonic() - began)

    def _tell(self, verb: str, text: str) -> None:
        self._screen.step(verb, text)
        self._screen.advance()

    def _set_up(self) -> None:
        self._screen.doing("making three spools")
        for stick in self._sticks.values():
            os.mkdir(stick)
        sites = (self.ship, self.station)
        self.hub.set_up([SHIP, STATION], {s.title: (self._sticks[s.title], [s.name, HUB]) for s in sites})
        for site in sites:
            site.set_up([HUB], {"hub": (self._sticks[site.title], [site.name, HUB])})
        self._tell("route", "a hub, a ship and a polar station, each with a spool and a mail server")

    def accept(self, node: Node) -> None:
        """Everything that ``node``'s mail server has for other places goes through the pipe."""
        mine = [sample for sample in self.samples if sample.origin == node.name]
        self._screen.doing(f"handing in at the {node.title}")
        for sample in mine:
            refused = node.hand_in(sample.sender, sample.rcpts, sample.content, sample.route)
            if refused:
                raise Later(
                    f"the demonstration's hand-in of {sample.title!r} at the {node.title} ended with {refused}",
                    safe="No mail of yours is in the demonstration, and its folder is kept",
                    next="see to what the message says, and run the demonstration again",
                )
        what = f"{len(mine)} {_messages(len(mine))} from the mail server's pipe"
        self._tell("deliver", f"{node.title}: {what}, accepted and durable")

    def _seal(self, *nodes: Node) -> None:
        for node in nodes:
            done = node.run("seal")
            self._batches += [row for row in done.rows if row.get("name")]
            messages = done.total("messages")
            self._tell("seal", f"{node.title}: {_batches(len(done.rows))}, {messages} {_messages(messages)}")

    def _cut_and_resume(self) -> None:
        [batch] = self.hub.batches(SHIP, "ready")
        whole = os.path.getsize(batch)
        self._screen.doing("pushing, to be killed")
        gone = self.hub.push_and_be_killed(SHIP, self._sticks["ship"], whole // 2)
        self._tell("push", f"hub: killed (SIGKILL) after {size(gone)} of {size(whole)} octets")
        early = self.ship.run("pull", expect=(75,))
        self._tell("pull", f"ship: half a copy is no batch, nothing taken (exit code {early.code})")
        done = self.hub.run("push")
        self._tell("push", f"hub: the same command again: {_batches(done.count('kind', 'sent'))} on two memory sticks")

    def _take_home(self) -> None:
        self._screen.doing("taking the batches home")
        for site in (self.ship, self.station):
            taken = site.run("pull").count("kind", "arrived")
            self._tell("pull", f"{site.title}: {_batches(taken)}, verified and durable; a receipt stays on the stick")

    def _import_at_the_ship(self) -> None:
        self._screen.doing("importing at the ship")
        first = self.ship.run("import", expect=(75,))
        self._tell("import", f"ship: {_outcomes(first)}")
        self._tell("deliver", "ship: the report about the refused one, on its way to the hub")
        second = self.ship.run("import")
        self._tell("import", f"ship: once more: {_outcomes(second)}")

    def _import(self, node: Node) -> None:
        self._screen.doing(f"importing at the {node.title}")
        self._tell("import", f"{node.title}: {_outcomes(node.run('import'))}")

    def _and_back(self) -> None:
        """Mail from the sites, with the report about the unknown user among it, to the hub; receipts both ways."""
        for site in (self.ship, self.station):
            self.accept(site)
        self._seal(self.ship, self.station)
        self._screen.doing("the way back")
        for site in (self.ship, self.station):
            site.run("push")
        home = self.hub.run("pull")
        arrived, receipts = home.count("kind", "arrived"), home.count("kind", "acknowledged")
        self._tell("pull", f"hub: {_batches(arrived)}, and {receipts} receipts for its own")
        self._import(self.hub)
        for site in (self.ship, self.station):
            site.run("push")
        left = sum(len(names) for stick in self._sticks.values() for _, _, names in os.walk(stick))
        self._tell("push", f"ship and station: receipts for theirs; {left} files left on the sticks")

    @property
    def kept(self) -> str:
        """The batch for the ship, acknowledged and kept at the hub."""
        return self.hub.batches(SHIP, "kept")[0]

    def suggestions(self) -> list[tuple[str, str]]:
        """Three commands about the folder, as a shell takes them, each with what it shows."""
        kept = f"{shlex.quote(self.hub.spool)}/out/{SHIP}/kept/*.bsmtp"
        at_the_ship = f"--config {shlex.quote(self.ship.config)}"
        return [
            ("where everything is, seen from the hub", f"status --config {shlex.quote(self.hub.config)}"),
            ("who wrote to whom in the batch for the ship", f"show {kept}"),
            ("the same batch at the ship once more: nothing arrives twice", f"import {at_the_ship} {kept}"),
        ]


def _batches(number: int) -> str:
    return f"{number} {'batch' if number == 1 else 'batches'}"


def _messages(number: int) -> str:
    return "message" if number == 1 else "messages"


def _outcomes(done: Done) -> str:
    """``9 delivered, 1 deferred (451)``: how many recipients came to what, with the reply where it was no."""
    counts = Counter(_outcome(row) for row in done.rows)
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items(), key=lambda c: _rank(c[0])))


def _outcome(row: dict[str, object]) -> str:
    code = str(row["reply"])[:3]
    return f"{row['outcome']} ({code})" if row["outcome"] in ("deferred", "bounced") else str(row["outcome"])


def _rank(outcome: str) -> int:
    order = ("delivered", "deferred", "bounced")
    word = outcome.split(maxsplit=1)[0]
    return order.index(word) if word in order else len(order)
