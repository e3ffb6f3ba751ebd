"""The rigs around Exim's ATRN are what they are taken for: each is held against a script of RFC 2645, line by line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.certificates import server_context, trusting
from support.corpus import Mail
from support.exim_odmr import ODMR, SECRET, USER, OdmrCustomer, OdmrProvider
from support.mailcheck import Parcel, assert_arrived
from support.odmr_raw import Script, Wire, log_in, provide, receive
from support.servers import made, running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("exim-odmr")]
FIRST, SECOND = (
    Mail(900 + n, "", "a@world.example", (f"b@{domain}",), b"Subject: short\n\nhere\n")
    for n, domain in enumerate(("aurora.example", "second.example"))
)


@pytest.fixture
def provider() -> Iterator[OdmrProvider]:
    """A provider with an empty queue."""
    yield from running(OdmrProvider)


@pytest.fixture(scope="module")
def customer() -> Iterator[OdmrCustomer]:
    """A customer."""
    yield from running(OdmrCustomer)


@pytest.fixture
def some(mails: list[Mail]) -> list[Mail]:
    """A few dozen messages, without what Exim is known to change."""
    return [m for m in mails[:40] if not m.utf8 and m.kind != "headers only"]


def dial(provider: OdmrProvider, *, tls: bool = False) -> Wire:
    wire = Wire(provider.box.connect(ODMR))
    log_in(wire, USER, SECRET, trusting() if tls else None)
    return wire


def collect(provider: OdmrProvider, asked: bytes = b"ATRN", *, tls: bool = False) -> list[Parcel]:
    """Ask until there is nothing left; a message that was broken off is held back by its retry rule for a second."""
    parcels: list[Parcel] = []
    end = time.monotonic() + 40
    while time.monotonic() < end:
        wire = dial(provider, tls=tls)
        said = wire.ask(asked)
        if said.startswith(b"250"):
            parcels += receive(wire, rude=tls)
        wire.close()
        if said.startswith(b"453"):
            return parcels
        assert said == b"250 ODMR provider turning line around"
    raise AssertionError(f"there is no end to it: {provider.log()[-2000:]}")


def test_the_provider_turns_round_and_hands_over_all_it_has(provider: OdmrProvider, some: list[Mail]) -> None:
    provider.inject(some)

    assert_arrived(some, collect(provider))
    provider.wait_empty()


def test_the_provider_keeps_tls_over_the_turn(some: list[Mail]) -> None:
    rig = made(lambda: OdmrProvider(tls=True))
    try:
        rig.inject(some[:3])
        assert_arrived(some[:3], collect(rig, tls=True))
    finally:
        rig.close()


def test_the_provider_refuses_as_the_standard_says(provider: OdmrProvider) -> None:
    provider.inject([FIRST])
    wire = Wire(provider.box.connect(ODMR))
    wire.reply()
    assert b"ATRN" in wire.ask(b"EHLO customer.example")
    assert wire.ask(b"ATRN").startswith(b"530")
    wire.close()

    wire = dial(provider)
    assert wire.ask(b"ATRN aurora.example,foreign.example").startswith(b"450")
    assert wire.ask(b"ATRN second.example").startswith(b"453")
    wire.close()


def test_the_provider_gives_only_the_domain_that_was_asked_for(provider: OdmrProvider) -> None:
    provider.inject([FIRST, SECOND])

    assert_arrived([SECOND], collect(provider, b"ATRN second.example"))
    assert provider.queued() == 1


def test_the_provider_keeps_what_was_not_answered(provider: OdmrProvider) -> None:
    provider.inject([FIRST])
    wire = dial(provider)
    assert wire.ask(b"ATRN").startswith(b"250")
    wire.say(b"220 customer.example")
    while not wire.line().startswith(b"DATA"):
        wire.say(b"250 ok")
    wire.say(b"354 go on")
    wire.content()
    wire.close()

    provider.wait_log("in response to end of data(?s:.*)End queue run")
    assert provider.queued() == 1


def test_the_customer_asks_turns_round_and_takes_everything(customer: OdmrCustomer, mails: list[Mail]) -> None:
    some = [m for m in mails[:60] if m.kind != "headers only"]
    customer.clear()
    script = Script(USER, SECRET)
    with ThreadPoolExecutor(1) as thread:
        replies = thread.submit(provide, customer.box.listen(ODMR), script, some)
        customer.pull("aurora.example,second.example")

    assert script.asked == [b"EHLO customer.example", b"AUTH CRAM-MD5", b"ATRN aurora.example,second.example"]
    assert {reply[:3] for reply in replies.result()} == {b"250"}
    assert_arrived(some, customer.received())


def test_the_customer_keeps_tls_over_the_turn(tmp_path: Path, some: list[Mail]) -> None:
    rig = made(lambda: OdmrCustomer(tls=True))
    offers = (b"AUTH CRAM-MD5", b"ATRN", b"STARTTLS")
    script = Script(USER, SECRET, offers=offers, tls=server_context(tmp_path, "provider.example"))
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(provide, rig.box.listen(ODMR), script, some[:8])
            rig.pull("aurora.example")
        assert_arrived(some[:8], rig.received())
    finally:
        rig.close()
    assert b"STARTTLS" in script.asked


@pytest.mark.parametrize(
    ("said", "code"), [(b"450 no", 0), (b"451 not now", 0), (b"453 no mail", 0), (b"502 no", 1), (b"530 no", 1)]
)
def test_what_the_customer_makes_of_a_refusal(customer: OdmrCustomer, said: bytes, code: int) -> None:
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(provide, customer.box.listen(ODMR), Script(USER, SECRET, atrn=said))
        customer.pull(code=code)

    assert ended.result() == []
