"""What the engine and a target agree on: jobs, verdicts, and connections that carry one job after the other.

A target is where mail is handed in: an SMTP or LMTP server, ``sendmail -bs``, a Maildir. ``tests/replay`` holds one
conformance suite that every target passes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bsmtp_batch.wire.command import Mail, Rcpt


class Kind(enum.Enum):
    """What a target said about one recipient."""

    DELIVERED = "delivered"
    """The target is responsible now."""
    DEFERRED = "deferred"
    """Not now: stays here and is tried on the next run."""
    REJECTED = "rejected"
    """Not ever, as it stands."""
    CROWDED = "crowded"
    """One recipient too many for one transaction (RFC 5321 section 4.5.3.1.10): fit for another one at once."""
    DOUBTFUL = "doubtful"
    """The final dot was sent and no answer came (RFC 1047): perhaps delivered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one recipient: the kind, and the reply (or our own words in its form) on one printable line."""

    kind: Kind
    reply: str


class Span(NamedTuple):
    """Octets in an open file, by its descriptor."""

    fd: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """One transaction to carry out.

    ``name`` is unique to the message and stays the same from run to run. ``size`` is in octets of content, without
    added dots. ``wire`` gives the text as it goes to a socket, dots doubled, without the end mark; ``content`` gives
    it without added dots; both with CRLF, in pieces of any size, as often as they are called. ``span`` is where the
    text stands as it goes to a socket, if it does so in a file; its envelope was read by our grammar then.
    """

    name: str
    mail: Mail
    rcpts: tuple[Rcpt, ...]
    size: int
    eight_bit: bool
    wire: Callable[[], Iterator[bytes]]
    content: Callable[[], Iterator[bytes]]
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One verdict per recipient of the job, in order; ``ended`` says why the connection is of no more use, or ``""``.

    ``leave`` means that the target wants no further connection now (421): the run stops there. ``untouched`` means that
    the connection had been lost before anything of this job was answered, which had been told to the target ahead of
    its turn: the loss says nothing about this job, and it may have its turn on another connection.
    """

    verdicts: tuple[Verdict, ...]
    ended: str = ""
    leave: bool = False
    untouched: bool = False


class Unreachable(Exception):
    """The target as a whole takes no mail now: no connection, or no greeting. Holds a sentence; nothing was sent.

    ``code`` is the exit code that says so.
    """

    code = 75


NextJob = Callable[[], Job | None]
"""The job whose turn is next, if there is one. Does not wait for one to come, and does not raise."""


def nothing_next() -> None:
    """The :data:`NextJob` of whoever hands in one job alone."""


class Connection(Protocol):
    """A way into the target, open for one job after the other."""

    def carry(self, job: Job, before_dot: Callable[[], None], next_job: NextJob = nothing_next) -> Result:
        """Hand in ``job``.

        ``before_dot`` is called once when everything but the final dot has gone out, and returns when it is durable
        that the dot is about to be sent; it is not called when there is nothing to finish. Only what it raises is
        raised: whatever happens on the connection is told in the result.

        ``next_job`` may be asked, once, before that. The target may then be told the envelope of what it gives in the
        same flight as the dot, but nothing that could not be taken back by hanging up. What was given has to be the
        next job that is handed in here, unless the connection is closed.
        """

    def close(self) -> None:
        """End the connection politely where it still works; never raises."""


class Target(Protocol):
    """Somewhere to hand mail in."""

    @property
    def name(self) -> str:
        """What people call it, without secrets: the URL."""

    def connect(self) -> Connection:
        """A connection that is ready for a job. Raises :class:`Unreachable`."""
