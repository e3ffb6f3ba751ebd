"""The importer: into Postfix, into a sink that takes everything, large messages, and its memory."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import messages
from bench.mta import HERE, PORT, Mta, customer, exim, feed_exim
from bench.place import PEERS, Place, free_port, postfix_tool
from bench.proc import Daemon, Ran, run
from bench.table import Goal, Missing, Row, Sample, Variants

SINK_PORT = 2600


def speed(ran: Ran, count: int, size: int) -> Sample:
    """What a run gives."""
    return {
        "msg/s": count / ran.wall,
        "MB/s": count * size / ran.wall / 1e6,
        "client CPU us/msg": ran.cpu / count * 1e6,
    }


def importing(place: Place, room: Path, batch: Path, url: str) -> tuple[list[str], dict[str, str]]:
    """The command that imports ``batch`` in a new spool, and its environment."""
    number = len(list(room.glob("import-*")))
    spool = room / f"import-{number}"
    spool.mkdir()
    argv = [*place.program, "import", "--spool", str(spool), str(batch), "--to", url, "--local-domain", "site.example"]
    return argv, {**os.environ, "BSMTP_BATCH_CONFIG": os.devnull}


def into_mta(mta: Mta, count: int, size: int, argv: list[str], environment: dict[str, str] | None = None) -> Sample:
    """Run ``argv`` in the network of ``mta``; it has to have taken ``count`` messages when the queue is empty again."""
    log = mta.box.path("/var/log/postfix.log")
    at = log.stat().st_size
    ran = run(argv, env=environment, log=mta.queue.parent / "client.log")
    mta.drained(0.02)
    with log.open("rb") as file:
        file.seek(at)
        taken = len(re.findall(rb"/cleanup\[\d+\]: \w+: message-id=", file.read()))
    if taken != count:
        raise RuntimeError(f"{' '.join(argv[:8])}: Postfix has taken {taken} messages of {count}")
    return speed(ran, count, size)


def source(mta: Mta, message: Path, count: int, sessions: int) -> list[str]:
    """smtp-source as the yardstick: one sender, one message again and again."""
    words = ["-s", str(sessions), "-m", str(count), "-F", f"{HERE}/{message.name}", "-f", "s0@client.example"]
    return mta.source(*words, "-t", "u0@site.example")


def our_import(place: Place, room: Path, mta: Mta, batch: Path, count: int, size: int) -> Callable[[], Sample]:
    """A run of our import into ``mta``."""

    def one() -> Sample:
        argv, environment = importing(place, room, batch, f"smtp://127.0.0.1:{PORT}")
        return into_mta(mta, count, size, [*mta.network, *argv], environment)

    return one


@contextlib.contextmanager
def into_postfix(place: Place) -> Iterator[Variants]:
    """Batches of one sender and of many."""
    with place.room("import") as room, contextlib.ExitStack() as stack:
        mta = stack.enter_context(customer(room))
        size, count, few = messages.SMALL, place.times(5000), place.times(1200)
        message = messages.write_text(room / "message", size)
        one = messages.write_batch(room / "one", count, size, senders=False)
        many = messages.write_batch(room / "many", count, size, senders=True)
        short = messages.write_batch(room / "short", few, size, senders=True)
        plain = [place.python, str(PEERS / "smtplib_replay.py"), str(short), "127.0.0.1", str(PORT)]
        yield {
            "smtp-source -s 8": lambda: into_mta(mta, count, size, source(mta, message, count, 8)),
            "import, one sender": our_import(place, room, mta, one, count, size),
            "import, many senders": our_import(place, room, mta, many, count, size),
            "smtplib": lambda: into_mta(mta, few, size, [*mta.network, *plain]),
            "exim -bS": _exim(stack, place, size),
        }


def _exim(stack: contextlib.ExitStack, place: Place, size: int) -> Callable[[], Sample] | Missing:
    count = place.times(400)
    room = stack.enter_context(place.room("exim"))
    try:
        box = stack.enter_context(exim(room))
    except Missing as why:
        return why
    batch = messages.write_batch(room / "batch", count, size, senders=True)
    return lambda: speed(feed_exim(box, room, batch, count), count, size)


@contextlib.contextmanager
def large(place: Place) -> Iterator[Variants]:
    """Messages of 1 MB, and one of 100 MB."""
    with place.room("large") as room, customer(room) as mta:
        count, size, whole = place.times(300), messages.LARGE, place.times(messages.HUGE, 2_000_000)
        message, huge = messages.write_text(room / "message", size), messages.write_text(room / "huge", whole)
        batch = messages.write_batch(room / "batch", count, size, senders=False)
        single = messages.write_batch(room / "single", 1, whole, senders=False)
        yield {
            "smtp-source -s 8": lambda: into_mta(mta, count, size, source(mta, message, count, 8)),
            "import": our_import(place, room, mta, batch, count, size),
            "sha256sum, then smtp-source -s 8": _summed(mta, batch, count, size, source(mta, message, count, 8)),
            "smtp-source, 100 MB": lambda: into_mta(mta, 1, whole, source(mta, huge, 1, 1)),
            "import, 100 MB": our_import(place, room, mta, single, 1, whole),
            "sha256sum, then smtp-source, 100 MB": _summed(mta, single, 1, whole, source(mta, huge, 1, 1)),
        }


def _summed(mta: Mta, batch: Path, count: int, size: int, argv: list[str]) -> Callable[[], Sample]:
    """What verification cannot be quicker than: the sum of ``batch`` is taken, and only then something is sent."""
    words = ["sh", "-c", 'sha256sum "$0" && exec "$@"', str(batch), *argv]
    return lambda: into_mta(mta, count, size, words)


@contextlib.contextmanager
def sink(room: Path) -> Iterator[int]:
    """``smtp-sink``; its port. Raises :class:`Missing`."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    argv = [*postfix_tool("smtp-sink"), *user, f"127.0.0.1:{port}", "200"]
    with Daemon(argv, room / "sink.log", ready=lambda: _answers(port)):
        yield port


def _answers(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def into_sink(place: Place) -> Iterator[Variants]:
    """The client alone: the server takes everything and stores nothing."""
    with place.room("sink") as room, sink(room) as port:
        count, size = place.times(40_000), messages.SMALL
        message = messages.write_text(room / "message", size)
        batch = messages.write_batch(room / "batch", count, size, senders=True)
        argv = [*postfix_tool("smtp-source"), "-s", "8", "-m", str(count), "-F", str(message)]
        argv += ["-f", "s0@client.example", "-t", "u0@site.example", f"127.0.0.1:{port}"]

        def ours() -> Sample:
            command, environment = importing(place, room, batch, f"smtp://127.0.0.1:{port}")
            return speed(run(command, env=environment, log=room / "client.log"), count, size)

        yield {
            "smtp-source -s 8": lambda: speed(run(argv, log=room / "client.log"), count, size),
            "import": ours,
        }


@contextlib.contextmanager
def memory(place: Place) -> Iterator[Variants]:
    """The peak of an import of one message of 100 MB, and of many small ones."""
    with place.room("memory") as room, sink(room) as port:
        single = messages.write_batch(room / "single", 1, place.times(messages.HUGE, 2_000_000), senders=False)
        many = messages.write_batch(room / "many", place.times(20_000), messages.SMALL, senders=True)

        def peak(batch: Path) -> Sample:
            argv, environment = importing(place, room, batch, f"smtp://127.0.0.1:{port}")
            measuring = [place.python, "-I", "-S", str(PEERS / "peak.py"), os.devnull]
            said = subprocess.run([*measuring, *argv], env=environment, capture_output=True, text=True, check=True)
            status, kib = said.stdout.split()
            if int(status):
                raise RuntimeError(f"import ended with status {status}: {said.stderr[-1000:]}")
            return {"MiB": int(kib) / 1024}

        yield {
            "import, 100 MB": lambda: peak(single),
            "import, 20,000 messages": lambda: peak(many),
        }


ROWS = [
    Row(
        "import-postfix",
        "import into Postfix",
        "messages per second, start of the command included",
        into_postfix,
        (
            Goal("import, one sender", "msg/s", 0.90, "smtp-source -s 8"),
            Goal("import, many senders", "msg/s", 0.70, "smtp-source -s 8"),
            Goal("import, many senders", "msg/s", 1.8, "smtplib"),
            Goal("import, many senders", "msg/s", 4, "exim -bS"),
        ),
        rounds=3,
        warm=False,
    ),
    Row(
        "import-sink",
        "import into smtp-sink",
        "messages per second, start of the command included",
        into_sink,
        (Goal("import", "msg/s", 0.60, "smtp-source -s 8"),),
        rounds=5,
    ),
    Row(
        "import-large",
        "import of large messages into Postfix",
        "messages per second, start of the command included",
        large,
        (
            Goal("import", "msg/s", 1.0, "smtp-source -s 8"),
            Goal("import, 100 MB", "msg/s", 1.0, "smtp-source, 100 MB"),
        ),
        rounds=3,
        warm=False,
    ),
    Row(
        "import-memory",
        "import of one message of 100 MB",
        "peak memory",
        memory,
        (Goal("import, 100 MB", "MiB", 32, most=True, unit="MiB"),),
        rounds=1,
        warm=False,
    ),
]
