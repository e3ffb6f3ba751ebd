"""The near side of the conversation with ``bsmtp-batch receive``, over a child process that is the line to it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NoReturn, cast

from bsmtp_batch.courier.address import Address
from bsmtp_batch.courier.contract import Cut
from bsmtp_batch.edge.process import Child, Timed
from bsmtp_batch.errors import Bad, Later, Problem, Setting
from bsmtp_batch.handover.protocol import VERSION, Line, Silence, Unspeakable, read_line, read_papers

CONNECTING = 90.0
"""Seconds until the far side has to be ready, from the start of ssh on."""
ANSWER = 300.0
"""Seconds for an answer, and more for what has to be read from a disk: :func:`patience`."""
LISTING = 3600.0
"""Seconds for a whole list; a modem brings a thousand batches in that time."""
_SLOWEST = 1_000_000  # octets a second: a disk that is slower than this is told of as silent
_SAFE = "What was not acknowledged stays where it is"
_UNMOVED = "Nothing was moved"
_OURS = "bsmtp-batch: "
_SSH = 255
"""The status with which ssh ends for a reason of its own; any other is that of what it started over there."""
_SIGNALLED = 128
"""A shell adds the number of the signal to this when one has ended its child."""
_DONE = re.compile(r"(give|receive|acknowledged) \S+: batch .*")
"""What the far ``receive`` tells of its work: no reason why a line broke."""


def patience(octets: int) -> float:
    """Seconds in which the far side reads, writes or compresses so many octets."""
    return ANSWER + octets / _SLOWEST


class Far:
    """The far ``receive`` at ``address``; ``argv`` is the command that reaches it."""

    def __init__(self, argv: list[str], address: Address) -> None:
        self._address = address
        self._host = address.host
        try:
            self._child = Child(argv)
        except OSError as error:
            raise Setting(
                f"{argv[0]} cannot be started: {error.strerror}",
                safe=_UNMOVED,
                next=f"install {argv[0]}, or name the directory it is in with BSMTP_BATCH_PATH",
            ) from error
        self._timed = Timed(self._child.output, CONNECTING, CONNECTING)
        self._reading = cast("BinaryIO", io.BufferedReader(self._timed))

    def greet(self) -> None:
        """Wait until it is ready. Raises :class:`~bsmtp_batch.courier.contract.Cut`, and ``Setting`` where no later
        contact would do better: an unknown host key, a key that is not accepted, no such program."""
        try:
            line = read_line(self._reading)
        except Unspeakable as error:
            raise self._not_ours() from error
        except (Silence, OSError) as error:
            raise self._unreached() from error
        if line is None:
            raise self._unreached()
        if line != Line("READY", "", (str(VERSION),)):
            raise self._not_ours()

    def say(self, line: Line, papers: bytes = b"") -> None:
        """Say ``line``. Raises ``Cut``."""
        try:
            self._child.send(line.to_bytes() + papers, ANSWER)
        except OSError as error:
            raise self._gone() from error

    def answer(self, *verbs: str, name: str, seconds: float = ANSWER) -> Line:
        """The answer, which has to be one of ``verbs`` about batch ``name``.

        Raises ``Bad`` and ``Later`` when the far side says no, and ``Cut``.
        """
        self._timed.allow(seconds, seconds)
        line = self._line()
        if line.verb == "NO":
            self._refused(line)
        if line.verb not in verbs or line.name != name:
            raise self._confused(f"{line.verb} {line.name}".strip())
        return line

    def listed(self) -> Iterator[tuple[str, bytes, bytes]]:
        """The answer to ``list``: name, manifest and signature of each batch. Raises as :meth:`answer`."""
        self._timed.allow(ANSWER, LISTING)
        while (line := self._line()).verb == "BATCH":
            try:
                manifest, signature = read_papers(self._reading, line)
            except (Silence, OSError) as error:
                raise self._gone() from error
            yield line.name, manifest, signature
        if line.verb == "NO":
            self._refused(line)
        if line.verb != "END":
            raise self._confused(line.verb)

    def end(self) -> None:
        """Say good-bye if it can be heard, and end the child; never raises."""
        try:
            self._child.send(Line("quit").to_bytes(), 5.0)
            self._timed.allow(10.0, 10.0)
            read_line(self._reading)
            self._child.finish(10.0)
        except (OSError, Silence, Unspeakable):
            pass
        finally:
            self._child.close()

    def _line(self) -> Line:
        try:
            line = read_line(self._reading)
        except Unspeakable as error:
            raise self._confused(str(error)) from error
        except (Silence, OSError) as error:
            raise self._gone() from error
        if line is None:
            raise self._gone()
        return line

    def _refused(self, line: Line) -> NoReturn:
        code, sentence = line.values
        kind = Bad if code == "65" else Later
        said, _, advice = sentence.partition(" Next: ")
        raise kind(f"{self._host} says: {said.rstrip('.')}", safe=_SAFE, next=advice or "run the command again later")

    def _gone(self) -> Cut:
        said = [line for line in self._child.complaints() if not _DONE.fullmatch(line)]
        complaint = said[-1].rstrip(".") if said else ""
        return Cut(
            f"the contact with {self._host} broke off" + (f": {complaint}" if complaint else ""),
            safe=_SAFE,
            next="run the command again; what has come is gone on with where the courier can",
        )

    def _confused(self, what: str) -> Cut:
        return Cut(
            f"{self._host} answered something else than was asked: {what}",
            safe=_SAFE,
            next="see that both ends run the same version of bsmtp-batch",
        )

    def _not_ours(self) -> Problem:
        return _not_ours(self._host, "")

    def _unreached(self) -> Problem:
        return unreached(self._child, self._address)


def unreached(child: Child, address: Address) -> Problem:
    """Why ``address`` was not reached, from what ``child``, an ssh, said before it ended."""
    try:
        status = child.finish(10.0)
    except TimeoutError:
        status = 0
    said = " ".join(child.complaints())
    complaint = child.complaint().rstrip(".")
    if status not in (0, _SSH):
        return _inside(address.host, status, complaint)
    if "Host key verification failed" in said:
        return _host_key(address, changed="IDENTIFICATION HAS CHANGED" in said)
    if "Permission denied" in said:
        return _no_entry(address.host, complaint, open_key="UNPROTECTED PRIVATE KEY" in said)
    why = complaint or "it did not answer"
    return Cut(f"{address.host} cannot be reached: {why}", safe=_UNMOVED, next="run the command again later")


def _inside(host: str, status: int, complaint: str) -> Problem:
    """ssh got in, and what it started there has ended with ``status`` instead of answering."""
    if status > _SIGNALLED:  # what the shell there says of a program that was killed, perhaps for want of memory
        return Cut(
            f"what answers at {host} was ended there by signal {status - _SIGNALLED}",
            safe=_UNMOVED,
            next="run the command again later; if it stays so, ask whoever runs it",
        )
    if not complaint.startswith(_OURS):
        return _not_ours(host, complaint)
    what, _, advice = complaint.removeprefix(_OURS).partition(" Next: ")
    kind = Cut if status == Cut.code else Setting
    return kind(
        f"`bsmtp-batch receive` at {host} cannot work: {what.removesuffix(f'. {_UNMOVED}.')}",
        safe=_UNMOVED,
        next=f"whoever runs {host} has to see to it" + (f" ({advice})" if advice else ""),
    )


def _not_ours(host: str, complaint: str) -> Setting:
    return Setting(
        f"{host} lets us in, but what answers there is not `bsmtp-batch receive`" + (complaint and f": {complaint}"),
        safe=_UNMOVED,
        next="see that the program is there and that our key has the line of `bsmtp-batch route key` there, or, where"
        ' the account has rsync only, set far = "directory"',
    )


def _host_key(address: Address, *, changed: bool) -> Setting:
    host = address.host
    where = "in the place of the line that is there" if changed else "into the file that known_hosts names"
    scan = f"ssh-keyscan{f' -p {address.port}' if address.port else ''} {host}"
    other = f"ALARM: the host key of {host} is not the one that is known here, so somebody else may be answering"
    return Setting(
        other if changed else f"no host key of {host} is known here",
        safe=f"{_UNMOVED}, and the far side was told nothing",
        next=f"ask whoever runs {host}, by another road, for the fingerprint of its host key (`ssh-keygen -lf` there),"
        f" compare it with that of `{scan} | ssh-keygen -lf -`, and only when they agree put the output of `{scan}`"
        f" {where}",
    )


def _no_entry(host: str, complaint: str, *, open_key: bool) -> Setting:
    if open_key:
        return Setting(
            f"ssh does not use our private key, for others can read it; so {host} does not let us in",
            safe=_UNMOVED,
            next="chmod 600 the file of --identity (or identity in the settings)",
        )
    return Setting(
        f"{host} does not let us in: {complaint}",
        safe=_UNMOVED,
        next="see that the line of `bsmtp-batch route key` for our public key stands there in the file that sshd reads"
        " for this account (AuthorizedKeysFile), and that --identity (or identity in the settings) names its private"
        " key",
    )
