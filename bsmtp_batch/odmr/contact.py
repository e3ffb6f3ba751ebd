"""One contact with the provider: our mail goes up, the line is turned round, and ours comes down."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from bsmtp_batch.errors import Bad, Later, Problem
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.odmr.intake import Intake
from bsmtp_batch.odmr.provider import Line, Provider, Wrong
from bsmtp_batch.odmr.standing import Stop, Stopped
from bsmtp_batch.reception.contract import Limits, Sink
from bsmtp_batch.reception.line import Lost, converse
from bsmtp_batch.reception.session import Policy, Reception
from bsmtp_batch.replay.contract import Connection, Job, Kind, NextJob, Result, Unreachable, Verdict, nothing_next
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import Atrn, Helo, Noop, Reply, Rset, Verb
from bsmtp_batch.wire.states import IDLE_TIMEOUT

STAY = b"XSTAY"
"""What our own hub names in EHLO: behind NOOP, before ATRN, it asks for the turned line to stay open."""
SILENCE = 150.0
"""Seconds without an octet after which a standing line is taken for dead; the hub says something every 60."""
NOTHING_WAITS, NOT_YOURS, NO_LOGIN, BAD_LOGIN = 453, 450, 530, 535
FAREWELL = 5.0
"""Seconds to get rid of a last reply; nothing depends on it."""
_RANK = (0, Bad.code, Later.code, Wrong.code)

TAKEN, EMPTY, LATER, FAULT, MESSAGE, NOTICE = "taken", "empty", "later", "fault", "message", "notice"
"""Kinds of events: a contact that came to its end; one with nothing to take; one that is to be made again; one that
needs a setting changed; a message of it; something an operator should know."""


@dataclass(frozen=True)
class Event:
    """One thing that happened: ``kind`` as above, ``party`` whom the contact was with, ``code`` the exit code it asks
    for."""

    kind: str
    party: str
    messages: int = 0
    octets: int = 0
    note: str = ""
    code: int = 0
    verb: str = "pull"


class Watcher(Protocol):
    """Whoever is told what happens."""

    def event(self, event: Event) -> None:
        """Something happened. A message is told before the provider is answered."""


@dataclass(frozen=True)
class Terms:
    """What a contact asks for and is bound by.

    ``domains``: whose mail (none: all we may have). ``stay``: keep the line open, where the provider can; after
    ``silence`` seconds it is taken for dead. ``max_octets`` of mail are taken, and none after ``until`` (seconds since
    1970).
    """

    node: str
    domains: tuple[bytes, ...] = ()
    stay: bool = False
    max_octets: int | None = None
    until: float | None = None
    silence: float = SILENCE
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class Means:
    """What a contact works with.

    ``sink`` takes the messages, ``policy`` decides about recipients. ``up`` hands our own mail in over the connection
    before it is turned round, and gives the exit code that asks for. ``arrived`` is called after each message that was
    taken, ``stop`` ends the contact where it waits.
    """

    sink: Sink
    ledger: Ledger
    watcher: Watcher
    policy: Policy | None = None
    up: Callable[[Connection], int] | None = None
    arrived: Callable[[], None] = lambda: None
    stop: Stop = field(default_factory=Stop)


@dataclass
class Outcome:
    """What a contact came to: messages taken and their octets, the exit code, ``ok`` or what was in the way; whether
    the line was turned round, and whether the provider keeps it open."""

    messages: int = 0
    octets: int = 0
    code: int = 0
    result: str = "ok"
    turned: bool = False
    stays: bool = False
    empty: bool = False

    def trouble(self, sentence: str, code: int) -> None:
        """Take note of what was in the way; the first of it is told, and the worst code counts."""
        self.result = sentence if self.result == "ok" else self.result
        self.code = max(self.code, code, key=lambda one: _RANK.index(one) if one in _RANK else len(_RANK))


def collect(provider: Provider, means: Means, terms: Terms) -> Outcome:
    """One contact with ``provider``, which is noted in the ledger.

    Raises :class:`~.standing.Stopped`, after what was answered is noted, and
    :class:`~bsmtp_batch.errors.Later` when the ledger cannot be written.
    """
    return _Contact(provider, means, terms).run()


class _Contact:
    def __init__(self, provider: Provider, means: Means, terms: Terms) -> None:
        self._provider = provider
        self._means = means
        self._terms = terms
        self._found = Outcome()
        self._refusals = 0
        self._intake = Intake(
            means.sink, max_octets=terms.max_octets, until=terms.until, taken=self._took, now=terms.now
        )

    def run(self) -> Outcome:
        started, ended = self._terms.now(), "interrupted"
        try:
            self._made()
            ended = "ok"
        except Stopped:
            ended = "ok"
            raise
        finally:
            self._note(started, ended)
        found = self._found
        self._tell(self._kind(), found.messages, found.octets, "" if found.result == "ok" else found.result, found.code)
        return found

    def _made(self) -> None:
        try:
            self._make()
        except Unreachable as unreachable:
            self._found.trouble(str(unreachable), unreachable.code)
        except Lost as lost:
            self._found.trouble(self._intake.held or str(lost), Later.code)

    def _note(self, started: float, ended: str) -> None:
        found, intake = self._found, self._intake
        found.messages, found.octets = intake.messages, intake.octets
        for sentence in filter(None, (intake.held, intake.refused)):
            found.trouble(sentence, Later.code)
        result = ended if found.result == "ok" else found.result
        contact = (self._provider.name, "pull", started, self._terms.now(), found.messages, found.octets, result)
        self._means.ledger.record_contact(*contact, found.code)

    def _make(self) -> None:
        line = self._provider.connect(self._means.stop)
        try:
            if self._means.up is not None:
                self._send_up(line, self._means.up)
            if self._ask(line):
                line.session.turn()
                self._found.turned = True
                self._receive(line)
        finally:
            line.close()

    # -- before the turn -----------------------------------------------------------------------------------------

    def _send_up(self, line: Line, up: Callable[[Connection], int]) -> None:
        """What a server offers may depend on who asks, so that it is asked again before mail is handed in."""
        hello = line.ask(Helo(self._terms.node.encode()))
        if not hello.ok:
            self._found.trouble(f"it takes no mail from us now: {hello}", Later.code)
            return
        lent = Lent(line.connection, self._means.stop)
        try:
            with self._means.stop.held():
                code = up(lent)
        except Problem as problem:
            self._found.trouble(str(problem), problem.code)
        else:
            if code:
                self._found.trouble("not all of our own mail was handed in", code)

    def _ask(self, line: Line) -> bool:
        """Say ATRN; whether the line is to be turned round. Raises ``Unreachable``."""
        if not line.session.allows(Verb.ATRN):
            line.ask(Rset())  # the last transaction was given up
        if self._terms.stay and line.offers(STAY):
            self._found.stays = line.ask(Noop(STAY)).ok
        elif self._terms.stay:
            self._tell(NOTICE, note="it does not keep a line open (XSTAY): it is asked again from time to time")
        return self._granted(line.ask(Atrn(self._terms.domains)))

    def _granted(self, reply: Reply) -> bool:
        if reply.ok:
            return True
        if reply.code == NOTHING_WAITS:
            self._found.empty, self._found.stays = True, False
            return False
        if reply.code == NOT_YOURS:
            asked = b", ".join(self._terms.domains).decode("ascii", "backslashreplace") or "its mail"
            raise Wrong(f"this account may not have {asked}: {reply}")
        if reply.code in (NO_LOGIN, BAD_LOGIN):
            raise Wrong(f"it wants a login (user and secret_file), or another one: {reply}")
        if reply.permanent:
            raise Wrong(f"it does not turn the line round: {reply}")
        raise Unreachable(f"not now: {reply}")

    # -- after it ------------------------------------------------------------------------------------------------

    def _receive(self, line: Line) -> None:
        reception = Reception(
            line.session,
            name=self._terms.node,
            sink=self._intake,
            # A line that stays is kept alive by commands that move no mail.
            limits=Limits(idle=sys.maxsize) if self._found.stays else Limits(),
            policy=self._decided if self._means.policy is not None else None,
        )
        patience = self._provider.patience
        if self._found.stays:
            patience = min(patience, self._terms.silence / IDLE_TIMEOUT)
        try:
            converse(line.session, reception, line.channel, patience=patience)
        except Stopped:
            bye = reception.goodbye(b"going down")
            with suppress(OSError):
                line.raw.send(bye, FAREWELL)
            raise

    # -- telling -------------------------------------------------------------------------------------------------

    def _decided(self, mail: Mail, rcpt: Rcpt) -> Reply | None:
        """What the policy says. Who is refused before there is a message would be seen by nobody at this end."""
        assert self._means.policy is not None
        reply = self._means.policy(mail, rcpt)
        if reply is not None and not reply.ok:
            self._refusals += 1
            sender, to = (path.decode("utf-8", "backslashreplace") for path in (mail.path, rcpt.path))
            self._tell(NOTICE, note=f"<{to}> was refused to <{sender}>: {reply}")
            if reply.temporary:
                self._found.trouble(f"a recipient was not taken: {reply}", Later.code)
        return reply

    def _took(self, mail: Mail, rcpts: Sequence[Rcpt], octets: int, reply: Reply) -> None:
        sender, to = (path.decode("utf-8", "backslashreplace") for path in (mail.path, rcpts[0].path))
        more = f" and {len(rcpts) - 1} more" if len(rcpts) > 1 else ""
        self._tell(MESSAGE, int(reply.ok), octets, f"from <{sender}> to <{to}>{more}: {reply}")
        if reply.ok:
            self._means.arrived()

    def _kind(self) -> str:
        found = self._found
        if found.code:
            return FAULT if found.code == Wrong.code else LATER
        return TAKEN if found.messages or self._refusals else EMPTY

    def _tell(self, kind: str, messages: int = 0, octets: int = 0, note: str = "", code: int = 0) -> None:
        self._means.watcher.event(Event(kind, self._provider.name, messages, octets, note, code))


class Lent:
    """The connection while our own mail goes up: it is still needed when whoever hands that in has closed it."""

    def __init__(self, connection: Connection, stop: Stop) -> None:
        self._connection = connection
        self._stop = stop
        self._begun: Job | None = None

    def carry(self, job: Job, before_dot: Callable[[], None], next_job: NextJob = nothing_next) -> Result:
        """See :class:`~bsmtp_batch.replay.contract.Connection`."""
        if self._stop.asked and job is not self._begun:  # what was begun is not left in the middle
            deferred = Verdict(Kind.DEFERRED, "451 4.3.2 asked to end")
            return Result((deferred,) * len(job.rcpts), ended="asked to end", leave=True)
        return self._connection.carry(job, before_dot, lambda: self._next(next_job))

    def _next(self, next_job: NextJob) -> Job | None:
        self._begun = None if self._stop.asked else next_job()
        return self._begun

    def close(self) -> None:
        """Not yet."""
