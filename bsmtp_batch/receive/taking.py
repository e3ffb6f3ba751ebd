"""The half of the conversation in which batches come in: put, offer, sent, size."""

from __future__ import annotations

from contextlib import ExitStack

from bsmtp_batch.edge import road
from bsmtp_batch.errors import Bad, Later, Problem
from bsmtp_batch.handover.intake import Differs, Intake
from bsmtp_batch.handover.parcel import Parcel, parcel
from bsmtp_batch.handover.protocol import Line, largest
from bsmtp_batch.receive.desk import Desk, in_words
from bsmtp_batch.spool.expected import EXPECTED, allow, forbid
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.listing import size_of
from bsmtp_batch.spool.medium import write_part


class Offer:
    """A batch that another program is bringing: ``size`` octets, in ``form``, of which ``offset`` were there before."""

    def __init__(self, parcel: Parcel, form: str, size: int, inbox: Inbox) -> None:
        self.parcel = parcel
        self.size = size
        self.form = form
        self.road = parcel.name + road.SUFFIXES[form]
        self.part = inbox.part(self.road)
        self.offset = beginning(inbox, self.road, size)


class Taking:
    """Takes batches into ``inbox``; ``locks`` ends with the contact."""

    def __init__(self, desk: Desk, inbox: Inbox, intake: Intake, locks: ExitStack) -> None:
        self._desk = desk
        self._inbox = inbox
        self._intake = intake
        self._hold = ExitStack()
        self._offer: Offer | None = None
        locks.callback(self._hold.close)

    def put(self, line: Line) -> None:
        """A batch, in this conversation."""
        offered = self._offered(line, plain=line.number(0))
        with self._inbox.intake():
            if not self._intake.held(self._inbox, offered):
                self._take(offered)
        self._desk.say(_receipt(offered))

    def offer(self, line: Line) -> None:
        """A batch that another program will bring, while we hold its place."""
        self._end_offer()
        form, size = line.values[0], line.number(1)
        offered = self._offered(line, plain=size if form == "plain" else None)
        if size > largest(offered, form):
            raise _other_size(offered)
        with ExitStack() as hold:
            hold.enter_context(self._inbox.intake())
            if self._intake.held(self._inbox, offered):
                self._desk.say(_receipt(offered))
                return
            offer = Offer(offered, form, size, self._inbox)
            self._inbox.need_room(size - offer.offset + (0 if form == "plain" else offered.size))
            write_part(offer.part, (), append=True)
            allow(self._inbox, EXPECTED, offer.road, size)
            hold.callback(forbid, self._inbox, EXPECTED)
            self._hold = hold.pop_all()
        self._offer = offer
        self._desk.say(Line("SEND", offered.name, (str(offer.offset),)))

    def size(self, line: Line) -> None:
        """How much of the batch on offer has come."""
        offer = self._offer
        there = size_of(offer.part) if offer is not None and offer.parcel.name == line.name else 0
        self._desk.say(Line("SIZE", line.name, (str(there),)))

    def sent(self, line: Line) -> None:
        """The batch on offer is here, says the other side."""
        offer = self._offer
        if offer is None or offer.parcel.name != line.name:
            raise Later(f"{line.name} is not on offer", safe="Nothing was moved", next="offer it first")
        try:
            self._settle(offer)
        finally:
            self._end_offer()
        self._desk.say(_receipt(offer.parcel))

    def _offered(self, line: Line, *, plain: int | None) -> Parcel:
        """The batch that ``line`` is about; ``plain`` is its size where the line tells it."""
        offered = parcel(line.name, *self._desk.papers(line))
        if plain is not None and plain != offered.size:
            raise _other_size(offered)
        self._intake.admit(offered)
        self._inbox.make()
        return offered

    def _take(self, offered: Parcel) -> None:
        offset = beginning(self._inbox, offered.name, offered.size)
        self._inbox.need_room(offered.size - offset)
        self._desk.say(Line("GO", offered.name, (str(offset),)))
        write_part(self._inbox.part(offered.name), self._desk.body(offered.size - offset), append=offset > 0)
        self._keep(offered, offered.size - offset, resumed=offset > 0)

    def _settle(self, offer: Offer) -> None:
        came = size_of(offer.part)
        if came < offer.size:
            raise Later(
                f"{came} of {offer.size} octets of {offer.road} have come",
                safe="It was not acknowledged, so the far side keeps it",
                next="the next contact goes on",
            )
        if offer.form != "plain":
            self._unpack(offer)
        self._keep(offer.parcel, offer.size - offer.offset, resumed=offer.offset > 0)

    def _unpack(self, offer: Offer) -> None:
        """From the form of the road to the batch; what cannot be unpacked is of no use to the next contact either. On a
        full disk it is: the next one finds all of it here."""
        try:
            road.expand(offer.part, self._inbox.part(offer.parcel.name), offer.form, offer.parcel.size, _nobody)
        except Bad as error:
            self._inbox.drop_part(offer.road)
            raise Later(error.what, safe="It was not acknowledged", next="the next contact sends it anew") from error
        self._inbox.drop_part(offer.road)

    def _keep(self, offered: Parcel, octets: int, *, resumed: bool) -> None:
        try:
            arrived = self._intake.keep(self._inbox, offered)
        except Differs as error:
            raise self._damaged(offered, error, resumed=resumed) from error
        self._desk.tally.count(octets)
        self._desk.tell(
            f"receive {self._inbox.origin}: batch {offered.name}, {in_words(offered.manifest.messages)},"
            f" {offered.size} octets" + (f" ({arrived.remark})" if arrived.remark else "")
        )

    def _damaged(self, offered: Parcel, error: Differs, *, resumed: bool) -> Problem:
        """It came to its end and is wrong. What was resumed may have begun wrong: then the next contact starts anew."""
        if resumed:
            self._inbox.drop_part(offered.name)
            return error
        path = self._inbox.set_damaged(offered.name, offered.raw, error.what, offered.signature)
        self._intake.note(self._inbox, offered, "damaged", error.what)
        return Bad(error.what, safe=f"It was not acknowledged; what came is in {path}", next="send it again")

    def _end_offer(self) -> None:
        self._offer = None
        self._hold.close()


def beginning(inbox: Inbox, name: str, size: int) -> int:
    """How many of ``size`` octets of ``name`` an earlier contact has brought; perhaps all, and was then cut before it
    could say so. A part that is longer cannot be the beginning of it, and goes."""
    there = size_of(inbox.part(name))
    if there > size:
        inbox.drop_part(name)
        return 0
    return there


def _receipt(offered: Parcel) -> Line:
    return Line("ACK", offered.name, (offered.sha256,))


def _other_size(offered: Parcel) -> Bad:
    return Bad(
        f"the manifest of {offered.name} says {offered.size} octets, the command another number",
        safe="Nothing of it was taken",
        next="send it again",
    )


def _nobody(_: int) -> None:
    pass
