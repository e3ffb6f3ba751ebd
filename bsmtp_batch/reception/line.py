"""A reception on a channel: read, answer, write, until one of the two sides ends it. Blocking; used after ATRN."""

from __future__ import annotations

from bsmtp_batch.edge.sockets import Channel
from bsmtp_batch.reception.session import Reception
from bsmtp_batch.wire.events import Event
from bsmtp_batch.wire.session import Reading, Session

FAREWELL = 10.0
"""Seconds to get rid of a last reply; nothing depends on it."""


class Lost(Exception):
    """The line ended in the middle; the text says what was going on. What was answered stays, the rest comes again."""


def converse(session: Session, reception: Reception, channel: Channel, *, patience: float = 1.0) -> None:
    """Greet and answer on ``channel`` until the client quits. ``patience`` stretches the time-outs of RFC 5321.

    Raises :class:`Lost`; a message that was not complete is forgotten by then.
    """
    try:
        _send(channel, reception.greeting(), session, patience)
        # What came behind the 250 to ATRN is here already, and who sent it waits for our answer.
        _answer(session, reception, channel, session.resume(), patience)
        while not reception.over:
            _one(session, reception, channel, patience)
    finally:
        reception.close()


def _one(session: Session, reception: Reception, channel: Channel, patience: float) -> None:
    """What arrives next, and the answers to it."""
    doing = session.doing
    try:
        data = channel.receive(session.timeout * patience)
    except TimeoutError:
        bye = reception.goodbye(b"nothing was said for a long time")
        _send(channel, bye, session, FAREWELL / session.timeout)
        raise Lost(f"nothing came for a long time while {doing}") from None
    except OSError as error:
        raise Lost(f"the connection was lost while {doing}: {error}") from error
    _answer(session, reception, channel, session.receive(data), patience)


def _answer(session: Session, reception: Reception, channel: Channel, events: list[Event], patience: float) -> None:
    doing = session.doing
    _send(channel, _all(session, reception, events), session, patience)
    if session.reading is Reading.ENDED and not reception.said_goodbye:
        raise Lost(f"the connection was closed while {doing}")


def answers(session: Session, reception: Reception, data: bytes) -> bytes:
    """The octets to write for ``data`` (``b""``: the end of the input)."""
    return _all(session, reception, session.receive(data))


def _all(session: Session, reception: Reception, events: list[Event]) -> bytes:
    """The octets to write for ``events``, and for what was kept behind them."""
    out = b""
    while events:
        out += b"".join(map(reception.answer, events))
        events = session.resume()
    return out


def _send(channel: Channel, data: bytes, session: Session, patience: float) -> None:
    if not data:
        return
    try:
        channel.send(data, session.timeout * patience)
    except OSError as error:
        raise Lost(f"the connection was lost while {session.doing}: {error}") from error
