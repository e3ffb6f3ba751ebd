"""fetchmail collects from the daemon: every octet, with TLS and without, and also when it is killed on the way."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support.box import ENVIRONMENT, SPOOL
from support.boxed_hub import CLEAR, SECURE, BoxedHub
from support.corpus import DOMAIN, Mail
from support.fetchmail import Fetchmail
from support.mailcheck import assert_arrived, assert_content, read_batch
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("fetchmail")]


@pytest.fixture(scope="module")
def fetchmail() -> Iterator[Fetchmail]:
    """fetchmail with a recorder as its mail server."""
    yield from running(Fetchmail)


@pytest.fixture(scope="module")
def hub(fetchmail: Fetchmail, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoxedHub]:
    """The daemon; fetchmail knows its account there."""
    started = BoxedHub(fetchmail.box, tmp_path_factory.mktemp("hub"))
    fetchmail.secret = started.secret
    yield started
    started.close()
    assert "fault of ours" not in started.log()


@pytest.mark.parametrize(("tls", "some"), [(False, slice(0, 100)), (True, slice(100, 200))])
def test_it_collects_every_octet_and_nothing_twice(
    fetchmail: Fetchmail, hub: BoxedHub, mails: list[Mail], tls: bool, some: slice
) -> None:
    wanted = mails[some]
    fetchmail.recorder.clear()
    hub.hand_in(wanted)

    fetchmail.odmr([DOMAIN], port=SECURE if tls else CLEAR, tls=tls)

    assert_arrived(wanted, fetchmail.recorder.all(), traces=0)
    done = fetchmail.odmr([DOMAIN], port=SECURE if tls else CLEAR, tls=tls)  # 453 is no error
    assert b"453" in done.stdout


def test_what_it_makes_of_our_refusals(fetchmail: Fetchmail, hub: BoxedHub) -> None:
    fetchmail.odmr(["foreign.example"], port=CLEAR, code=4)
    secret, fetchmail.secret = fetchmail.secret, "wrong"
    try:
        fetchmail.odmr([DOMAIN], port=CLEAR, code=128)
    finally:
        fetchmail.secret = secret


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("tls", "some"), [(False, slice(0, 200, 2)), (True, slice(1, 200, 2))])
def test_killed_ten_times_it_still_gets_everything_and_what_it_gets_twice_was_named(
    fetchmail: Fetchmail, hub: BoxedHub, mails: list[Mail], tls: bool, some: slice
) -> None:
    rig, wanted = fetchmail, mails[some]
    rig.recorder.clear()
    hub.hand_in(wanted)
    port, ended, named = SECURE if tls else CLEAR, hub.contacts(), set[tuple[str, int]]()
    command = rig.box.command(*rig.prepare([DOMAIN], port=port, tls=tls))
    kills = 0
    while kills < 10:
        started = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        killed = kill_when(rig, started, len(recorded(rig)) + 1 + kills % 5)
        started.wait(50)
        ended += 1
        hub.wait_contacts(ended)
        named |= hub.in_doubt()
        kills += killed
        assert killed, "it was done before it could be killed"
    rig.odmr([DOMAIN], port=port, tls=tls)
    (batch,) = sorted(hub.box.path(f"{SPOOL}/out/{DOMAIN}/kept").glob("*.bsmtp"))[-1:]
    order = [parcel.rcpts[0] for parcel in read_batch(batch.read_bytes())]

    got = rig.recorder.all()
    for parcel in got:
        (mail,) = [mail for mail in wanted if mail.rcpts[0] == parcel.rcpts[0]]
        assert_content(mail, parcel.content, 0)
    times = Counter(parcel.rcpts[0] for parcel in got)
    assert times.keys() == {mail.rcpts[0] for mail in wanted}
    doubled = {rcpt for rcpt, count in times.items() if count > 1}
    assert doubled <= {order[number - 1] for _, number in named}
    assert sum(times.values()) - len(times) <= kills
    assert hub.in_doubt() == set()


def recorded(rig: Fetchmail) -> list[str]:
    return [name for name in os.listdir(rig.box.path(rig.recorder.directory)) if name.endswith(".json")]


def kill_when(rig: Fetchmail, started: subprocess.Popen[bytes], count: int) -> bool:
    """Kill fetchmail as soon as its mail server has ``count`` messages; whether it came to that."""
    while len(recorded(rig)) < count:
        if started.poll() is not None:
            return False
        time.sleep(0.001)
    try:
        pid = int(rig.box.path("/run/fetchmail.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    return rig.box.run("kill", "-9", str(pid), code=None).returncode == 0
