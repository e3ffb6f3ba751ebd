"""Guessing: it costs the guesser, and nobody else."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.accounts import SECRET, CountedChecks, account, outcome, seeded, server_login, verifier, walk, written

from bsmtp_batch.accounts.backoff import FORGET, FREE, LONGEST, LONGEST_ADDRESS, PATIENCE, Backoff, network
from bsmtp_batch.accounts.gate import Gate
from bsmtp_batch.accounts.work import Busy, Work
from bsmtp_batch.wire.sasl.values import Accepted, Claim, Refused

THERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class Clock:
    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def guess(backoff, address=THERE, account="aurora", right=False):
    with backoff.attempt(address, account) as attempt:
        if right:
            attempt.right()
        return attempt.wait


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def backoff(clock):
    return Backoff(clock)


def test_each_wrong_proof_doubles_the_time_to_the_next_look(backoff, clock):
    waits = []
    for _ in range(FREE + 9):
        wait = guess(backoff)
        while wait is None:
            clock.now += 1
            waits[-1] += 1
            wait = guess(backoff)
        clock.now += wait
        waits.append(wait)

    assert waits[:FREE] == [0] * FREE
    assert waits[FREE:-1] == sorted(waits[FREE:-1])
    assert sum(waits) > 5 * LONGEST_ADDRESS
    assert backoff._pairs["aurora", THERE].wrong == FREE + 9


def test_a_stranger_elsewhere_does_not_delay_the_customer(backoff):
    for _ in range(1000):
        guess(backoff)

    assert guess(backoff) is None
    assert guess(backoff, ELSEWHERE) == 0


def test_the_customer_behind_the_guessers_address_waits_a_minute_at_most_and_once(backoff, clock):
    for number in range(1000):
        guess(backoff, account=f"name{number}")
        clock.now += 0.1
    assert guess(backoff, account="boreas") is None

    clock.now += LONGEST_ADDRESS
    assert guess(backoff, account="boreas", right=True) == 0
    for number in range(100):
        guess(backoff, account=f"name{number}")
    assert guess(backoff, account="boreas", right=True) == 0, "known from there"


def test_one_own_account_is_no_key_to_the_others(backoff, clock):
    """A success in between does not make the guesses at other accounts free."""
    looked = 0
    for number in range(500):
        looked += guess(backoff, account=f"name{number}") is not None
        guess(backoff, account="own", right=True)

    assert looked < 20


def test_many_connections_at_once_are_not_many_free_tries(backoff):
    attempts = [backoff.attempt(THERE, "aurora") for _ in range(200)]

    assert sum(attempt.wait == 0 for attempt in attempts) == FREE
    assert sum(attempt.wait is not None for attempt in attempts) <= FREE + 2
    assert len([a for a in (backoff.attempt(THERE, f"n{n}") for n in range(200)) if a.wait is not None]) < 12


def test_a_success_is_forgiving_and_time_is(backoff, clock):
    for _ in range(FREE - 1):
        guess(backoff)
    guess(backoff, right=True)
    assert [guess(backoff) for _ in range(FREE)] == [0] * FREE
    for _ in range(20):
        guess(backoff)
        clock.now += 10

    clock.now += FORGET + LONGEST

    assert [guess(backoff) for _ in range(FREE)] == [0] * FREE


def test_what_nobody_looked_at_does_not_count(backoff):
    for _ in range(50):
        with backoff.attempt(THERE, "aurora") as attempt:
            attempt.unseen()

    assert guess(backoff) == 0


def test_a_connection_that_goes_away_has_guessed_wrong(backoff):
    for _ in range(50):
        with pytest.raises(ConnectionError), backoff.attempt(THERE, "aurora"):
            raise ConnectionError

    assert guess(backoff) is None


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.booleans(), st.floats(0, 100)), max_size=300))
def test_memory_is_bounded_and_no_wait_is_beyond_patience(tries):
    clock = Clock()
    backoff = Backoff(clock, capacity=16)
    for address, name, right, seconds in tries:
        wait = guess(backoff, f"192.0.2.{address}", f"name{name}", right)
        assert wait is None or 0 <= wait <= PATIENCE
        clock.now += seconds
        assert len(backoff) <= 3 * 16


def test_a_flood_of_addresses_keeps_the_bound():
    backoff = Backoff(Clock(), capacity=100)
    for number in range(10_000):
        guess(backoff, f"2001:db8:0:{number:x}::1", f"name{number}")

    assert len(backoff) <= 200


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_place(address, place):
    assert network(address) == place


# --- the bound on work --------------------------------------------------------------------------------------------


def test_work_is_bounded_and_those_who_are_known_go_first():
    async def main():
        work = Work(at_once=1, waiting=2)
        go, order = threading.Event(), []
        first = asyncio.ensure_future(work.run(go.wait, known=False))
        await asyncio.sleep(0)
        strangers = [asyncio.ensure_future(work.run(lambda n=n: order.append(n), known=False)) for n in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await work.run(lambda: order.append("no"), known=False)
        known = asyncio.ensure_future(work.run(lambda: order.append("known"), known=True))
        await asyncio.sleep(0)
        strangers[0].cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, strangers[1], known)
        assert await work.run(lambda: 7, known=False) == 7
        work.close()
        return order

    assert asyncio.run(main()) == ["known", "b"]


def test_no_more_threads_work_than_there_may_and_a_cancelled_login_keeps_its_thread_to_the_end():
    async def main():
        work = Work(at_once=2, waiting=100)
        lock, now, most = threading.Lock(), [0], [0]
        begun, go = threading.Semaphore(0), threading.Event()

        def job():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            begun.release()
            go.wait()
            with lock:
                now[0] -= 1

        jobs = [asyncio.ensure_future(work.run(job, known=number % 2 == 0)) for number in range(40)]
        await asyncio.sleep(0)
        begun.acquire()
        begun.acquire()
        for one in jobs[:5]:
            one.cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*jobs, return_exceptions=True)
        work.close()
        return most[0], now[0]

    assert asyncio.run(main()) == (2, 0)


# --- all together -------------------------------------------------------------------------------------------------


class Hub:
    """Logins as a server carries them out, with a clock of its own."""

    def __init__(self, path, checks):
        self.clock = Clock()
        self.verifier = verifier(path, check=checks)
        self.work = Work(at_once=1, waiting=4)
        self.gate = Gate(Backoff(self.clock), self.work, sleep=self.clock.sleep)
        self.chance = seeded(3)

    async def login(self, mechanism, name, secret, address):
        there = server_login(self.verifier, self.chance)
        steps = walk(there, mechanism, name, secret, self.chance)
        step = next(steps)
        while True:
            if isinstance(step, Claim):
                step = await self.gate.settle(there, step, address)
            try:
                step = steps.send(step)
            except StopIteration:
                return step


def test_ten_thousand_guesses_and_the_customer_gets_in_meanwhile(tmp_path):
    """From fifty addresses, at the account and at others, by every mechanism; the customer comes every 250 guesses."""
    kept = account(hashed=False)
    written(tmp_path / "secrets", kept)
    checks = CountedChecks(right=kept.argon2)
    mechanisms = [b"PLAIN", b"CRAM-MD5", b"LOGIN"] * 6 + [b"SCRAM-SHA-256"]  # whose work is the guesser's, 4096 rounds
    codes, served = [], []

    async def main():
        hub = Hub(tmp_path / "secrets", checks)
        for number in range(10_000):
            name = "aurora" if number % 2 else f"nobody{number % 100}"
            address = f"203.0.113.{number % 50}"
            step = await hub.login(mechanisms[number % 19], name, f"guess number {number}", address)
            assert isinstance(step, Refused)
            codes.append(step.reply.code)
            hub.clock.now += 0.1
            if number % 250 == 0:
                before = len(hub.clock.slept)
                for mechanism in (b"PLAIN", b"SCRAM-SHA-256", b"CRAM-MD5"):
                    served.append(await hub.login(mechanism, "aurora", SECRET, ELSEWHERE))
                assert len(hub.clock.slept) == before, "the customer waited"
        hub.work.close()

    asyncio.run(main())

    assert served == [Accepted("aurora")] * 120
    assert set(codes) == {535, 454}
    assert codes.count(535) < 2500, "most were not even looked at"
    assert len(checks.work) < codes.count(535) + 40


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"LOGIN", b"CRAM-MD5", b"SCRAM-SHA-256"])
def test_ten_guesses_at_an_account_and_at_no_account_are_answered_alike(tmp_path, mechanism):
    """The answers, the waits and the hashes, one by one."""
    kept = account(hashed=False)
    written(tmp_path / "secrets", kept)
    seen = {}
    for name in ("aurora", "nobody"):
        checks = CountedChecks(right=kept.argon2)

        async def main(name=name, checks=checks):
            hub = Hub(tmp_path / "secrets", checks)
            steps = [await hub.login(mechanism, name, f"guess number {n}", THERE) for n in range(10)]
            hub.work.close()
            return [step.reply for step in steps], hub.clock.slept, checks.work

        seen[name] = asyncio.run(main())

    assert seen["aurora"] == seen["nobody"]


def test_the_real_hash_is_used_where_nothing_is_put_in_its_place(tmp_path):
    written(tmp_path / "secrets", account())
    chance = seeded(1)

    found = outcome(server_login(verifier(tmp_path / "secrets"), chance), b"PLAIN", "aurora", SECRET, chance)

    assert found == Accepted("aurora")
