"""The servers, each started once per test worker and stopped with it; without them the tests skip, or fail under CI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.box import SPOOL
from support.corpus import DOMAIN, Mail, corpus
from support.exim import Exim
from support.postfix import Hub
from support.sendmail import Sendmail
from support.servers import running


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """Postfix as provider and as customer."""
    yield from running(Hub)


@pytest.fixture(scope="session")
def mails() -> list[Mail]:
    """The corpus."""
    return corpus()


@pytest.fixture(scope="session")
def batch(hub: Hub, mails: list[Mail]) -> str:
    """The corpus, gone through the provider and its pipe into one sealed batch; the batch's path in the box."""
    hub.box.batch("route", "add", DOMAIN)
    hub.provider.wait(hub.provider.inject(mails))
    assert len(hub.waiting(DOMAIN)) == len(mails)
    hub.box.batch("seal", DOMAIN)
    assert hub.waiting(DOMAIN) == []
    (found,) = hub.box.path(f"{SPOOL}/out/{DOMAIN}/ready").glob("*.bsmtp")
    hub.box.run("cp", "-a", f"{SPOOL}/out/{DOMAIN}/ready", "/var/tmp/ready")  # a courier may take the original away
    return f"/var/tmp/ready/{found.name}"


@pytest.fixture(scope="session")
def sendmail() -> Iterator[Sendmail]:
    """Sendmail as provider."""
    yield from running(Sendmail)


@pytest.fixture(scope="session")
def exim() -> Iterator[Exim]:
    """Exim as provider, as writer and as reader of batches."""
    yield from running(Exim)
