"""Exim as the provider of our customer: ``bsmtp-batch pull odmr://`` collects what waits, in the clear and with TLS.

What is known of this provider (see the rig) is not ours to mend and yet ours to live with: not everything comes in the
first turn, and under TLS a turn brings one message and ends in the middle of the next one's envelope.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support.box import OWNER, SPOOL
from support.corpus import Mail
from support.exim_odmr import CERTIFICATE, DOMAINS, ODMR, SECRET, USER, OdmrProvider
from support.mailcheck import Parcel, assert_arrived, read_batch
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("exim-odmr")]
PEER = f"odmr://{USER}@127.0.0.1:{ODMR}/"
SECRET_FILE = "/etc/bsmtp-batch.secret"
SECONDS = 100
"""For all contacts of a test together."""


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> Iterator[OdmrProvider]:
    """A provider with an empty queue, and beside it a customer who knows the password."""
    for rig in running(lambda: OdmrProvider(tls=request.param)):
        rig.box.write(SECRET_FILE, SECRET + "\n", 0o600)
        rig.box.run("chown", OWNER, SECRET_FILE)
        yield rig


def kept_as_they_are(mails: list[Mail]) -> list[Mail]:
    """Those that Exim does not rewrite."""
    return [m for m in mails if not m.utf8 and m.kind != "headers only"]


def pull(provider: OdmrProvider, *options: str) -> tuple[int, list[dict[str, object]], str]:
    """One contact: its exit code, what it told, and its complaints."""
    done = provider.box.batch("pull", PEER, *options, "--secret-file", SECRET_FILE, "--json", code=None)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, told, done.stderr.decode()


def pull_until_453(provider: OdmrProvider, *options: str) -> Counter[int]:
    """Contact after contact until the provider has nothing: how often which exit code came."""
    codes: Counter[int] = Counter()
    end = time.monotonic() + SECONDS
    while True:
        code, told, said = pull(provider, *options)
        codes[code] += 1
        assert code in (0, 75), (code, told, said)
        if told[-1]["kind"] == "empty" and not provider.queued():
            return codes
        assert time.monotonic() < end, f"there is no end to it: {codes} {provider.log()[-2000:]}"


def stored(provider: OdmrProvider) -> list[Parcel]:
    """What lies in the inbox, each message in a batch of its own."""
    found = []
    for path in sorted(provider.box.path(f"{SPOOL}/in").glob("*/new/*.bsmtp")):
        found += read_batch(path.read_bytes())
    return found


@pytest.mark.timeout(150)
@pytest.mark.parametrize("provider", [False], indirect=True, ids=["clear"])
def test_it_collects_everything_and_nothing_twice(provider: OdmrProvider, mails: list[Mail]) -> None:
    some = kept_as_they_are(mails[:40])
    assert len(some) >= 30
    provider.inject(some)

    codes = pull_until_453(provider, "--tls", "none")

    assert_arrived(some, stored(provider))
    assert codes.keys() == {0}, "in the clear every contact comes to its end"
    assert provider.queued() == 0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("provider", [True], indirect=True, ids=["tls"])
def test_a_turn_that_is_broken_off_keeps_what_came_and_asks_to_be_run_again(
    provider: OdmrProvider, mails: list[Mail]
) -> None:
    some = kept_as_they_are(mails[40:50])[:5]
    provider.inject(some)

    code, told, said = pull(provider, "--ca-file", CERTIFICATE)
    assert (code, len(stored(provider))) == (75, 1), (told, said)
    assert told[-1]["kind"] == "later"
    pull_until_453(provider, "--ca-file", CERTIFICATE)

    assert_arrived(some, stored(provider))


@pytest.mark.parametrize("provider", [True], indirect=True, ids=["tls"])
def test_nothing_is_collected_from_a_provider_whose_certificate_nobody_vouches_for(
    provider: OdmrProvider, mails: list[Mail]
) -> None:
    provider.inject(kept_as_they_are(mails[:4])[:1])

    code, told, said = pull(provider)

    assert code == 75, (told, said)
    assert "certificate" in said + json.dumps(told)
    assert "ATRN" not in provider.log()
    assert (provider.queued(), stored(provider)) == (1, [])


@pytest.mark.parametrize("provider", [False], indirect=True, ids=["clear"])
def test_each_refusal_has_its_exit_code(provider: OdmrProvider, mails: list[Mail]) -> None:
    provider.inject(kept_as_they_are(mails[:4])[:1])

    assert pull(provider, DOMAINS[1], "--tls", "none")[0] == 0  # 453
    assert pull(provider, "foreign.example", "--tls", "none")[0] == 78  # 450
    provider.box.write(SECRET_FILE, "wrong\n", 0o600)
    assert pull(provider, "--tls", "none")[0] == 78  # 535
    assert (provider.queued(), stored(provider)) == (1, [])
