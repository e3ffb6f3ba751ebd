"""The LMTP intake: through Postfix, directly, with a slow disk, into many routes, and its memory."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import messages
from bench.mta import Provider, Transport
from bench.place import INSIDE, Place, postfix_tool, slow_sync
from bench.proc import peak_mib, run
from bench.servers import Server, aiosmtpd, attempt, serve, sink
from bench.table import Goal, Missing, Row, Sample, Variants

ROUTE = "site.example"


def direct(server: Server | Missing, message: Path, count: int, sessions: int) -> Callable[[], Sample] | Missing:
    """A run of ``count`` messages by ``smtp-source -L``, and the processor time of the server for each."""
    if isinstance(server, Missing):
        return server
    argv = [*postfix_tool("smtp-source"), "-L", "-s", str(sessions), "-m", str(count), "-F", str(message)]
    argv += ["-f", "sender@client.example", "-t", f"user@{ROUTE}", f"unix:{server.socket}"]

    def one() -> Sample:
        before = server.daemon.cpu
        ran = run(argv, log=server.socket.with_suffix(".client"))
        server.settled()
        spent = server.daemon.cpu - before
        _expect(server, count)
        return {"msg/s": count / ran.wall, "server CPU us/msg": spent / count * 1e6}

    return one


def _expect(server: Server, count: int) -> None:
    kept = server.more()
    if kept is not None and kept != count:
        raise RuntimeError(f"{server.socket.name} has kept {kept} messages of {count}")


@contextlib.contextmanager
def straight(place: Place) -> Iterator[Variants]:
    """16 sessions without an MTA."""
    with place.room("direct") as room, contextlib.ExitStack() as stack:
        message, count = messages.write_text(room / "message", messages.SMALL), place.times(2000, 32)
        yield {
            "serve": direct(attempt(stack, serve(place, room, [ROUTE])), message, count, 16),
            "aiosmtpd, group commit": direct(attempt(stack, aiosmtpd(place, room)), message, count, 16),
            "smtp-sink -L": direct(attempt(stack, sink(room)), message, count, 16),
        }


@contextlib.contextmanager
def slow(place: Place) -> Iterator[Variants]:
    """20 sessions while every fsync takes 5 ms longer."""
    with place.room("slow") as room, contextlib.ExitStack() as stack:
        slower = {"LD_PRELOAD": str(slow_sync(room)), "SLOW_SYNC_US": "5000"}
        message = messages.write_text(room / "message", messages.SMALL)
        many, few = place.times(4000, 40), place.times(400, 20)
        yield {
            "serve": direct(attempt(stack, serve(place, room, [ROUTE], **slower)), message, many, 20),
            "one fsync per message": direct(attempt(stack, aiosmtpd(place, room, "each", **slower)), message, few, 20),
        }


@contextlib.contextmanager
def hundred(place: Place) -> Iterator[Variants]:
    """One commit of 100 messages, each for another route, and of 100 for one."""
    with place.room("groups") as room:

        def commit(routes: int) -> Sample:
            argv = [place.python, "-P", str(INSIDE / "commit.py"), str(room / f"spool{routes}"), str(routes)]
            said = subprocess.run(
                [*argv, str(place.times(40))], check=True, capture_output=True, text=True
            ).stdout.split()
            wall, cpu, drain = (float(word) for word in said)
            return {"us/msg": wall, "CPU us/msg": cpu, "CPU us/msg of the drain": drain}

        for routes in (1, 100):
            for number in range(routes):
                place.route(room / f"spool{routes}", f"r{number}.example")
        yield {"100 routes": lambda: commit(100), "1 route": lambda: commit(1)}


@contextlib.contextmanager
def memory(place: Place) -> Iterator[Variants]:
    """The peak of the daemon after one message of 100 MB."""
    with place.room("memory") as room:
        huge = messages.write_text(room / "huge", place.times(messages.HUGE, 2_000_000))

        def one() -> Sample:
            with place.room("fresh") as fresh, serve(place, fresh, [ROUTE]) as server:
                argv = [*postfix_tool("smtp-source"), "-L", "-m", "1", "-F", str(huge), "-f", "s@client.example"]
                run([*argv, "-t", f"user@{ROUTE}", f"unix:{server.socket}"], log=fresh / "client")
                server.settled()
                _expect(server, 1)
                return {"MiB": peak_mib(server.daemon.pid)}

        yield {"serve": one}


@contextlib.contextmanager
def through_postfix(place: Place, size: int, counts: dict[str, int]) -> Iterator[Variants]:
    """A queue of held mail, released: what the transport alone makes of it. ``counts``: messages for each, so many that
    all take about as long and the release itself does not count, and so few that the machine is the same for all of a
    round; ``pipe`` is left out where it has none."""
    with place.room("postfix") as room, contextlib.ExitStack() as stack:
        message = messages.write_text(room / "message", size)
        found = {
            "serve": attempt(stack, serve(place, room, ["serve.example"])),
            "smtp-sink -L": attempt(stack, sink(room)),
            "aiosmtpd, group commit": attempt(stack, aiosmtpd(place, room)),
        }
        names = dict(zip(found, ("serve", "sink", "aiosmtpd"), strict=True))
        transports = [
            Transport(names[name], server.socket) for name, server in found.items() if isinstance(server, Server)
        ]
        provider = stack.enter_context(Provider.running(place, room, transports, pipe="pipe" in counts))

        def held(name: str, server: Server) -> Callable[[], Sample]:
            count = place.times(counts[names[name]], 8)

            def one() -> Sample:
                sample = provider.release(names[name], message, count, server.daemon)
                server.settled()
                _expect(server, count)
                return sample

            return one

        variants: Variants = {
            name: server if isinstance(server, Missing) else held(name, server) for name, server in found.items()
        }
        if "pipe" in counts:
            variants["our pipe"] = lambda: provider.release("pipe", message, place.times(counts["pipe"], 8), None)
        yield variants


@contextlib.contextmanager
def held_small(place: Place) -> Iterator[Variants]:
    """4 KB."""
    counts = {"serve": 900, "sink": 900, "aiosmtpd": 600, "pipe": 150}
    with through_postfix(place, messages.SMALL, counts) as variants:
        yield variants


@contextlib.contextmanager
def held_large(place: Place) -> Iterator[Variants]:
    """1 MB."""
    with through_postfix(place, messages.LARGE, {"serve": 150, "sink": 150, "aiosmtpd": 30}) as variants:
        yield variants


ROWS = [
    Row(
        "lmtp-postfix",
        "LMTP intake through Postfix",
        "messages per second of a held queue, released",
        held_small,
        (
            Goal("serve", "msg/s", 0.65, "smtp-sink -L"),
            Goal("serve", "msg/s", 1.15, "aiosmtpd, group commit"),
            Goal("serve", "msg/s", 5, "our pipe"),
        ),
        rounds=10,
        warm=False,
    ),
    Row(
        "lmtp-direct",
        "LMTP intake, direct",
        "processor time of the server per message",
        straight,
        (Goal("serve", "server CPU us/msg", 0.45, "aiosmtpd, group commit", most=True),),
        rounds=10,
    ),
    Row(
        "lmtp-large",
        "LMTP intake through Postfix, 1 MB",
        "messages per second of a held queue, released",
        held_large,
        (Goal("serve", "msg/s", 1.1, "smtp-sink -L"), Goal("serve", "msg/s", 6, "aiosmtpd, group commit")),
        rounds=10,
        warm=False,
    ),
    Row(
        "lmtp-slow-disk",
        "LMTP intake, 20 sessions, every fsync 5 ms slower",
        "messages per second",
        slow,
        (Goal("serve", "msg/s", 6, "one fsync per message"),),
        rounds=3,
    ),
    Row(
        "lmtp-routes",
        "100 messages to 100 routes in one commit",
        "microseconds per message until they are durable",
        hundred,
        (Goal("100 routes", "us/msg", 40, most=True, unit="us"),),
    ),
    Row(
        "lmtp-memory",
        "LMTP intake, one message of 100 MB",
        "peak memory of the daemon",
        memory,
        (Goal("serve", "MiB", 40, most=True, unit="MiB"),),
        rounds=1,
        warm=False,
    ),
]
