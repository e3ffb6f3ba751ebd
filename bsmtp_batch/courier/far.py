"""The near side of the conversation with ``bsmtp-batch receive``, over a child process that is the line to it."""

from __future__ import annotations

import io
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
                safe="Nothing was moved",
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
        complaint = self._child.complaint()
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
        return Setting(
            f"{self._host} lets us in, but what answers there is not `bsmtp-batch receive`",
            safe="Nothing was moved",
            next='have the line of `bsmtp-batch route key` put into authorized_keys there, or set far = "directory"',
        )

    def _unreached(self) -> Problem:
        problem, status = unreached(self._child, self._address)
        return self._not_ours() if status == 127 else problem


def unreached(child: Child, address: Address) -> tuple[Problem, int]:
    """Why ``address`` was not reached, from what ``child``, an ssh, said before it ended; and its exit status."""
    try:
        status = child.finish(10.0)
    except TimeoutError:
        status = 0
    said = " ".join(child.complaints())
    complaint = child.complaint().rstrip(".")
    if "Host key verification failed" in said:
        return _host_key(address, changed="IDENTIFICATION HAS CHANGED" in said), status
    if "Permission denied" in said:
        return _no_entry(address.host, complaint), status
    why = complaint or "it did not answer"
    problem = Cut(
        f"{address.host} cannot be reached: {why}", safe="Nothing was moved", next="run the command again later"
    )
    return problem, status


def _host_key(address: Address, *, changed: bool) -> Setting:
    host = address.host
    scan = f"ssh-keyscan{f' -p {address.port}' if address.port else ''} {host}"
    other = f"ALARM: the host key of {host} is not the one that is known here, so somebody else may be answering"
    return Setting(
        other if changed else f"no host key of {host} is known here",
        safe="Nothing was moved, and the far side was told nothing",
        next=f"ask whoever runs {host}, by another road, for the fingerprint of its host key (`ssh-keygen -lf` there),"
        f" compare it with that of `{scan} | ssh-keygen -lf -`, and only when they agree put the output of `{scan}`"
        " into known_hosts",
    )


def _no_entry(host: str, complaint: str) -> Setting:
    return Setting(
        f"{host} does not let us in: {complaint}",
        safe="Nothing was moved",
        next="see that the line of `bsmtp-batch route key` for our public key stands in authorized_keys there, and that"
        " --identity (or identity in the settings) names its private key",
    )
