"""A courier to ``receive`` in a thread, over two pipes: what an ssh courier is without ssh."""

from __future__ import annotations

import os
import threading

from bsmtp_batch.courier.contract import Courier, Cut, Refusal, Sent
from bsmtp_batch.errors import Bad, Later
from bsmtp_batch.handover.parcel import Receipt, parcel
from bsmtp_batch.handover.protocol import Line, Silence, papers, read_line, read_papers
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.receive.session import Receiver
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.spool.medium import chunks_of, write_part


class Far:
    """``receive`` for ``origin`` in a spool, in a thread; ``reading`` and ``writing`` are our ends."""

    def __init__(self, spool, origin, routes):
        self.tally = None
        self.told = []
        self.error = None
        theirs, self.writing = self._pipe()
        self.reading, answers = self._pipe()
        self._thread = threading.Thread(target=self._run, args=(spool, origin, routes, theirs, answers))
        self._thread.start()

    @staticmethod
    def _pipe():
        read, write = os.pipe()
        return os.fdopen(read, "rb"), os.fdopen(write, "wb")

    def _run(self, spool, origin, routes, reading, writing):
        try:
            with Ledger(spool.ledger) as ledger, reading, writing:
                receiver = Receiver(
                    Inbox(spool.path, origin),
                    spool.chosen(routes) if routes else [],
                    ledger,
                    reading=reading,
                    writing=writing,
                    tell=self.told.append,
                )
                self.tally = receiver.tally
                receiver.serve()
        except BaseException as error:
            self.error = error

    def close(self):
        try:
            self.writing.close()
        except BrokenPipeError:
            pass
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.reading.close()

    def converse(self, *sent):
        """Write all of ``sent``, hang up, and give all that was answered."""
        try:
            for data in sent:
                self.writing.write(data)
            self.writing.close()
        except BrokenPipeError:
            pass
        answer = self.reading.read()
        self.close()
        return answer


class PipeCourier(Courier):
    """Speaks the line protocol to a :class:`Far`. ``budget`` octets of batches go by before the line is cut."""

    def __init__(self, connect, *, budget=None):
        self.peer = "pipe"
        self._connect = connect
        self._budget = budget

    def __enter__(self):
        self.far = self._connect()
        assert self._answer().verb == "READY"
        return self

    def __exit__(self, *_):
        self.far.close()

    def receipts(self, route):
        return iter(())

    def clear(self, route, receipt):
        pass

    def send(self, parcel, path, moved):
        sizes, octets = papers(parcel)
        self._say(Line("put", parcel.name, (str(parcel.size), *sizes)).to_bytes() + octets)
        answer = self._answer()
        went = answer.verb == "GO"
        if went:
            skip = answer.number(0)
            for chunk in chunks_of(path, moved):
                self._spend(chunk[skip:])
                skip = max(0, skip - len(chunk))
            answer = self._answer()
        return Sent(went, Receipt(answer.name, answer.values[0]))

    def offers(self, routes):
        self._say(Line("list").to_bytes())
        found = []
        while (line := self._answer()).verb == "BATCH":
            try:
                found.append(parcel(line.name, *read_papers(self.far.reading, line)))
            except Bad as problem:
                found.append(Refusal(line.name, str(problem), 65))
        return iter(found)

    def fetch(self, parcel, into, moved):
        offset = os.path.getsize(into) if os.path.exists(into) else 0
        offset = offset if offset < parcel.size else 0
        self._say(Line("get", parcel.name, (str(offset),)).to_bytes())
        line = self._answer()
        write_part(into, self._body(line.number(0), moved), append=offset > 0)

    def acknowledge(self, parcel):
        self._say(Line("ack", parcel.name, (parcel.sha256,)).to_bytes())
        self._answer()

    def _body(self, size, moved):
        while size:
            limit = size if self._budget is None else min(size, self._budget)
            chunk = self.far.reading.read(limit)
            if not chunk:
                raise Cut("the line was cut", safe="x", next="x")
            size -= len(chunk)
            if self._budget is not None:
                self._budget -= len(chunk)
            moved(len(chunk))
            yield chunk

    def _spend(self, chunk):
        if self._budget is not None:
            chunk = chunk[: self._budget]
            self._budget -= len(chunk)
        self._say(chunk)
        if self._budget == 0:
            raise Cut("the line was cut", safe="x", next="x")

    def _say(self, data):
        try:
            self.far.writing.write(data)
            self.far.writing.flush()
        except BrokenPipeError:
            raise Cut("the far end has gone", safe="x", next="x") from None

    def _answer(self):
        try:
            line = read_line(self.far.reading)
        except Silence:
            line = None
        if line is None:
            raise Cut("the far end has gone", safe="x", next="x")
        if line.verb == "NO":
            kind = Bad if line.values[0] == "65" else Later
            raise kind(line.values[1], safe="x", next="x")
        return line
