"""Clients that mean ill, against the program itself: the others are served, memory stays, nobody gets in."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import threading
import time
from collections import Counter

import pytest
from support.desk import plain
from support.fragments import fill
from support.odmr_raw import receive
from support.served import HubProgram, dial

SLOW = 200
EACH = 20
CLEAR = "passwords_in_clear = true"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubProgram(tmp_path_factory.mktemp("hub"), "site", "other", serve=CLEAR) as running:
        yield running
    assert not [line for line in running.log if "fault" in line or "Traceback" in line]


class Drip:
    """Connections from ten addresses on which an octet goes out now and then, never a line end."""

    def __init__(self, port, count):
        self.sockets = [
            socket.create_connection(("127.0.0.1", port), source_address=(f"127.0.1.{n // EACH + 1}", 0))
            for n in range(count)
        ]
        for one in self.sockets:
            assert one.recv(100).startswith(b"220")
        self.octets = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.5):  # a round is ten seconds of theirs
            for one in self.sockets:
                one.send(b"E")
            self.octets += 1

    def wait(self, octets):
        """Wait until so many octets have gone out on each."""
        end = time.monotonic() + 40
        while self.octets < octets:
            assert time.monotonic() < end
            self._stop.wait(0.05)

    def close(self):
        self._stop.set()
        self._thread.join(20)
        for one in self.sockets:
            one.close()


NUMBERS = itertools.count(1)


def handed_in(hub, count):
    """Messages for the customer, never the same twice."""
    for _ in range(count):
        fill(hub.routes["site"], 1, first=next(NUMBERS))


def collected(hub, name="site", source="127.0.0.1"):
    """What a customer gets, and the seconds to its last message."""
    began = time.monotonic()
    wire = hub.enter(name, source=source)
    assert wire.ask(b"ATRN").startswith(b"250")
    found = receive(wire)
    wire.close()
    return found, time.monotonic() - began


def test_two_hundred_that_send_an_octet_now_and_then_do_not_keep_a_customer_waiting(hub):
    handed_in(hub, 5)
    assert len(collected(hub)[0]) == 5  # everything is loaded now
    before = hub.memory
    slow = Drip(hub.port, SLOW)
    try:
        slow.wait(1)
        connected = hub.memory
        times = []
        for _ in range(3):
            handed_in(hub, 5)
            found, seconds = collected(hub)
            assert len(found) == 5
            times.append(seconds)
        assert min(times) < 2, "a bound, not a measurement: the machine may have other things to do"
        slow.wait(15)  # two and a half minutes of theirs
        assert hub.memory - connected < 4 << 10, "it grows with what they send"
        assert connected - before < SLOW * 100, "each costs more than 100 KiB"
    finally:
        slow.close()


def test_a_client_that_reads_nothing_does_not_fill_our_memory(hub):
    """It asks and asks and takes no answer: we stop reading, too."""
    before = hub.memory
    wires = [dial(hub.port, f"127.0.2.{n}") for n in range(1, 21)]
    for wire in wires:
        wire.socket.setblocking(False)
        try:
            while wire.socket.send(b"HELP me\r\n" * 1000):
                pass
        except (BlockingIOError, ConnectionError):
            pass
    handed_in(hub, 2)
    assert len(collected(hub)[0]) == 2
    assert hub.memory - before < 30 << 10
    for wire in wires:
        wire.close()


JUNK = {
    "over the limit": (b"NOOP " + b"x" * 12_300 + b"\r\n", b"500"),
    "9000 octets": (b"x" * 8998 + b"\r\n", b"500"),
    "a megabyte": (b"x" * (1 << 20) + b"\r\n", b"500"),
    "NUL": (b"NO\0OP\r\n", b"500"),
    "bare LF": (b"NOOP\n", b"500"),
    "bare CR": (b"NOOP\rQUIT\r\n", b"500"),
    "empty": (b"\r\n", b"500"),
    "eight bit": (b"EHLO \xff\r\n", b"250"),
    "telnet": (b"\xff\xf4\xff\xfd\x06\r\n", b"500"),
    "http": (b"GET / HTTP/1.1\r\n", b"500"),
    "response out of place": (b"AGFsbAB3cm9uZw==\r\n", b"500"),
    "unknown mechanism": (b"AUTH XYZZY\r\n", b"504"),
    "BDAT": (b"BDAT 5\r\nQUIT\n", b"503"),
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_refused_and_the_next_command_is_the_next_command(hub, kind):
    junk, code = JUNK[kind]
    wire = dial(hub.port)
    wire.reply()
    wire.ask(b"EHLO x")
    for _ in range(3):
        wire.socket.sendall(junk + b"VRFY me\r\n")
        assert wire.reply()[:3] == code
        assert wire.reply().startswith(b"252"), wire.heard
    assert wire.ask(plain("site", hub.secrets["site"]).strip()).startswith(b"235")
    assert wire.ask(b"QUIT").startswith(b"221")
    wire.close()


GUESSES = 10_000


class Guessers:
    """Twenty connections from each of five addresses, each with a hundred guesses in one go, again and again."""

    def __init__(self, port):
        self.port = port
        self.answers = Counter()
        self.enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()

    async def _all(self):
        tasks = [asyncio.create_task(self._one(random.Random(n), f"127.0.3.{n % 5 + 1}")) for n in range(5 * EACH)]
        while self.answers.total() < GUESSES:
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, dice, source):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
            try:
                writer.write(b"EHLO x\r\n" + b"".join(self._guess(dice) for _ in range(100)))
                while line := await reader.readline():
                    if line[:3] in (b"535", b"454", b"235"):
                        self.answers[line[:3]] += 1
            except ConnectionError:
                pass
            finally:
                writer.close()

    @staticmethod
    def _guess(dice):
        name, secret = dice.choice(["site", "other", "admin", "root"]), f"{dice.getrandbits(160):x}"
        return plain(name, secret)

    def close(self):
        self._thread.join(120)
        assert not self._thread.is_alive()


@pytest.mark.timeout(150)
def test_of_ten_thousand_guesses_none_succeeds_and_the_rightful_customer_gets_in_meanwhile(hub):
    handed_in(hub, 1)
    assert len(collected(hub)[0]) == 1
    guessers, times = Guessers(hub.port), []
    try:
        while guessers.answers.total() < GUESSES:
            began = time.monotonic()
            wire = dial(hub.port)
            wire.reply()
            wire.ask(b"EHLO site.example")
            assert wire.ask(plain("site", hub.secrets["site"]).strip()).startswith(b"235")
            assert wire.ask(b"ATRN").startswith(b"453")
            wire.close()
            times.append(time.monotonic() - began)
            time.sleep(0.2)
    finally:
        guessers.close()
    assert guessers.answers[b"235"] == 0
    assert guessers.answers.total() >= GUESSES
    assert guessers.answers[b"535"] < 300, "so many proofs were looked at"
    assert len(times) > 2
    print(f"{guessers.answers}, {len(times)} logins, the slowest {max(times):.2f} s")
