"""The group commit and the drain behind it, each in a thread of its own: a disk that is slow, or hangs, holds up those
who wait for it and nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bsmtp_batch.intake.message import Message, trouble
from bsmtp_batch.intake.routing import Route
from bsmtp_batch.spool.groups import Entry, GroupWriter, NoRoom, drain
from bsmtp_batch.wire.events import Reply

QUIET = 0.1
"""Seconds without a commit after which what was committed goes on to ``new/``."""
LATEST = 0.6
"""Seconds after which it does so however many commits there are."""
AGAIN = 10.0
"""Seconds until a drain that the disk refused is tried again."""


@dataclass(slots=True)
class Group:
    """Messages that become durable together, or are given up because it takes too long; one of the two, for good."""

    messages: list[Message]
    entries: list[tuple[Message, Route, Entry]]
    began: float = field(default_factory=time.monotonic)
    decided: threading.Lock = field(default_factory=threading.Lock)
    """Taken by whoever decides what becomes of it, and never given back."""
    given_up: bool = False

    def claim(self) -> bool:
        """Whether it is for the caller to decide."""
        return self.decided.acquire(blocking=False)


class Committer:
    """Commits one group at a time. ``done`` is called with each, in the thread of the commits, when the verdicts on its
    messages are set."""

    def __init__(self, writer: GroupWriter, done: Callable[[Group], None], committed: Callable[[], None]) -> None:
        self._writer = writer
        self._done = done
        self._committed = committed
        self._next: Group | None = None
        self._given = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def begin(self, group: Group) -> None:
        """Commit ``group``; not before the one before it is done."""
        self._next = group
        self._given.release()

    def end(self, seconds: float) -> bool:
        """Do nothing more, and wait until the last group is done, for so many ``seconds``; whether it is."""
        self._given.release()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._given.acquire()
            group, self._next = self._next, None
            if group is None:
                self._writer.close()
                return
            self._commit(group)
            self._done(group)

    def _commit(self, group: Group) -> None:
        entries = group.entries
        while entries:
            try:
                self._writer.commit([entry for _, _, entry in entries], wanted=group.claim)
            except NoRoom as short:
                _fail([one for one in entries if one[1].name in short.routes], trouble(short))
                entries = [one for one in entries if one[1].name not in short.routes]
                continue
            except OSError as error:
                _fail(entries, trouble(error))
            except Exception as error:  # noqa: BLE001 - the thread must not end, and nothing may be called ours
                _fail(entries, Reply(451, b"4.3.0", f"a bug in bsmtp-batch: {error!r}".encode()))
            else:
                self._committed()
            return


def _fail(entries: list[tuple[Message, Route, Entry]], reply: Reply) -> None:
    for message, route, _ in entries:
        message.verdicts[route] = reply


class Drainer:
    """Has ``spool`` drained soon after each commit. ``tell`` gets what was odd; ``stuck`` is told whether the disk
    refuses, and how."""

    def __init__(self, spool: str, tell: Callable[[str], None], stuck: Callable[[str], None]) -> None:
        self._spool = spool
        self._tell = tell
        self._stuck = stuck
        self._dirty = threading.Event()
        self._ending = threading.Event()
        self._last = 0.0
        self._dirty.set()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self._thread.start()

    def committed(self) -> None:
        """Something was committed; from any thread."""
        self._last = time.monotonic()
        self._dirty.set()

    def end(self, seconds: float) -> None:
        """Drain for the last time, within so many ``seconds``."""
        self._ending.set()
        self._dirty.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._dirty.wait()
            began = time.monotonic()
            while not self._ending.is_set():
                now = time.monotonic()
                if now - self._last >= QUIET or now - began >= LATEST:
                    break
                self._ending.wait(QUIET / 2)
            ending = self._ending.is_set()
            self._dirty.clear()
            if not self._drained() and not ending:
                self._ending.wait(AGAIN)
                self._dirty.set()
            if ending:
                return

    def _drained(self) -> bool:
        try:
            for line in drain(self._spool):
                self._tell(f"serve: {line}")
        except OSError as error:
            self._tell(f"serve: what was taken cannot be moved on to its routes now: {error}. It is safe in groups/")
            self._stuck(error.strerror or str(error))
            return False
        except Exception as error:  # noqa: BLE001 - the thread must not end
            self._tell(f"serve: what was taken cannot be moved on to its routes: {error!r}. It is safe in groups/")
            self._stuck(repr(error))
            return False
        self._stuck("")
        return True
