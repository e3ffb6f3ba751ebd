"""A line that stays open: how long a message takes from the hub's yes to the site's mail server.

    python bench/standing.py [--messages 300] [--every 0.15] [--drop 4] [--seed 1]

A hub (`serve`) and a site behind it (`pull --stay`), with a relay between them that resets the line every few seconds.
Messages are handed in one after the other with `deliver`, at random moments; the clock of each starts when deliver has
ended with 0 and stops when the site's mail server has the message. Ends with 1 unless every message arrived, none was
doubled without a cut beside it, and 95 % of them took less than a second.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.relay import Relay
from support.served import HubProgram
from support.smtp_sink import RecordingServer

WITHIN = 1.0
SHARE = 0.95


class Clocked(list[Any]):
    """What the site's mail server has, and since when."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[int, list[float]] = {}

    def append(self, message: Any) -> None:
        """Note the moment."""
        now = time.monotonic()
        super().append(message)
        found = re.search(rb"Subject: number (\d+)", message.content)
        assert found
        self.times.setdefault(int(found[1]), []).append(now)


def hand_in(hub: HubProgram, number: int) -> float:
    """Hand one in; the moment of the yes."""
    message = b"From: a@world.example\nSubject: number %d\n\nhello\n" % number
    environment = {**os.environ, "BSMTP_BATCH_SPOOL": str(hub.spool)}
    command = hub.command("deliver", "-f", "a@world.example", "--", "site.example", f"b{number}@site.example")
    subprocess.run(command, input=message, env=environment, check=True, timeout=60)
    return time.monotonic()


def site(home: Path, port: int, target: str, secret: str) -> subprocess.Popen[bytes]:
    """The standing pull of the site."""
    (home / "secret").write_text(secret + "\n")
    (home / "secret").chmod(0o600)
    (home / "site").mkdir()
    environment = {**os.environ, "BSMTP_BATCH_SPOOL": str(home / "site")}
    environment.pop("BSMTP_BATCH_CONFIG", None)
    words = ["pull", f"odmr://site@127.0.0.1:{port}/", "--stay", "--tls", "none", "--to", target]
    command = [sys.executable, "-m", "bsmtp_batch", *words, "--secret-file", str(home / "secret")]
    with (home / "site.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def drops(relay: Relay, every: float, dice: random.Random, stop: threading.Event) -> int:
    """Reset the line every few seconds; how often."""
    count = 0
    while not stop.wait(every * dice.uniform(0.5, 1.5)):
        relay.drop()
        count += 1
    return count


def run(home: Path, options: argparse.Namespace) -> bool:
    """The whole; whether it was good."""
    dice, arrived, counted, stop = random.Random(options.seed), Clocked(), list[int](), threading.Event()
    with HubProgram(home, "site") as hub, RecordingServer() as server:
        server.messages = arrived
        relay = Relay(hub.port)
        pull = site(home, relay.port, server.url, hub.secrets["site"])
        cutter = threading.Thread(target=lambda: counted.append(drops(relay, options.drop, dice, stop)))
        try:
            hand_in(hub, 0)
            wait(arrived, 1, 60)
            cutter.start()
            begun = {}
            for number in range(1, options.messages + 1):
                time.sleep(options.every * dice.uniform(0.0, 2.0))
                begun[number] = hand_in(hub, number)
            wait(arrived, options.messages + 1, 60)
        finally:
            stop.set()
            if cutter.ident:
                cutter.join()
            pull.terminate()
            pull.wait(30)
            relay.close()
    return told(begun, arrived, counted[0])


def wait(arrived: Clocked, count: int, seconds: float) -> None:
    """Wait until so many different messages are there, or for so long."""
    end = time.monotonic() + seconds
    while len(arrived.times) < count and time.monotonic() < end:
        time.sleep(0.02)


def told(begun: dict[int, float], arrived: Clocked, cuts: int) -> bool:
    """Say what was measured; whether it is good."""
    lost = sorted(begun.keys() - arrived.times.keys())
    doubled = sum(len(times) - 1 for times in arrived.times.values())
    took = sorted(max(0.0, arrived.times[n][0] - began) for n, began in begun.items() if n in arrived.times)
    share = sum(seconds < WITHIN for seconds in took) / len(begun)
    at = {p: took[min(len(took) - 1, len(took) * p // 100)] for p in (50, 95, 99)}
    print(
        f"{len(begun)} messages, the line reset {cuts} times: {share:.1%} at the site's mail server within"
        f" {WITHIN:.0f} s (half {at[50]:.2f} s, 95 % {at[95]:.2f} s, 99 % {at[99]:.2f} s, longest {took[-1]:.2f} s);"
        f" {len(lost)} lost, {doubled} doubled"
    )
    return not lost and doubled <= cuts and share >= SHARE


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--every", type=float, default=0.15, help="mean seconds between two messages")
    parser.add_argument("--drop", type=float, default=4.0, help="mean seconds between two resets of the line")
    parser.add_argument("--seed", type=int, default=1)
    with tempfile.TemporaryDirectory() as home:
        good = run(Path(home), parser.parse_args())
        if not good:
            print((Path(home) / "site.log").read_text()[-3000:], file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
