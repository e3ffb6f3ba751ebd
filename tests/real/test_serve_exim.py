"""Exim as the customer of the daemon: `exim -atrn` logs in, has the line turned round and takes all that waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.boxed_hub import CLEAR, BoxedHub
from support.corpus import DOMAIN, Mail
from support.exim_odmr import OdmrCustomer
from support.mailcheck import assert_arrived
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("exim-odmr")]


@pytest.fixture(scope="module", params=[False, True], ids=["clear", "tls"])
def customer(request: pytest.FixtureRequest) -> Iterator[OdmrCustomer]:
    """Exim; with TLS it insists on STARTTLS."""
    yield from running(lambda: OdmrCustomer(tls=request.param))


@pytest.fixture(scope="module")
def hub(customer: OdmrCustomer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoxedHub]:
    """The daemon; Exim knows its account there."""
    started = BoxedHub(customer.box, tmp_path_factory.mktemp("hub"))
    customer.secret = started.secret
    yield started
    started.close()
    assert "fault of ours" not in started.log()


def test_it_takes_everything_that_waits(customer: OdmrCustomer, hub: BoxedHub, mails: list[Mail]) -> None:
    some = [m for m in mails[:80] if m.kind != "headers only"]
    customer.clear()
    hub.hand_in(some)

    customer.pull(DOMAIN, port=CLEAR)

    assert_arrived(some, customer.received())
    assert "delivered" in hub.log()
    ended = hub.contacts()
    customer.pull(DOMAIN, port=CLEAR)  # 453: it ends with 0
    assert hub.contacts() == ended


def test_without_a_list_it_gets_what_is_its_own(customer: OdmrCustomer, hub: BoxedHub, mails: list[Mail]) -> None:
    some = [m for m in mails[100:105] if m.kind != "headers only"]
    customer.clear()
    hub.hand_in(some)

    customer.pull(port=CLEAR)

    assert_arrived(some, customer.received())


def test_a_foreign_domain_gets_nothing_and_costs_nothing(
    customer: OdmrCustomer, hub: BoxedHub, mails: list[Mail]
) -> None:
    some = [m for m in mails[110:113] if m.kind != "headers only"]
    customer.clear()
    hub.hand_in(some)

    customer.pull(f"{DOMAIN},foreign.example", port=CLEAR)
    assert customer.received() == []

    customer.pull(DOMAIN, port=CLEAR)
    assert_arrived(some, customer.received())
