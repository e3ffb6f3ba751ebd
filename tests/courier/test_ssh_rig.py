"""The test rig of the ssh couriers itself: a relay that cut in the wrong place would test something else."""

from __future__ import annotations

import pytest
from support import relay
from support.relay import Relay
from support.sshd import Sshd

pytestmark = pytest.mark.real
HOWS = (relay.RESET, relay.CLOSE, relay.SILENCE)


@pytest.fixture
def through(sshd: Sshd, monkeypatch: pytest.MonkeyPatch):
    """A relay that everything goes by."""
    between = Relay(sshd.port)
    monkeypatch.setattr(sshd, "port", between.port)
    yield between
    between.close()


@pytest.mark.parametrize("direction", [None, relay.UP, relay.DOWN])
@pytest.mark.parametrize("how", HOWS)
def test_the_relay_ends_a_connection_at_the_octet(sshd: Sshd, through: Relay, how: str, direction: str | None) -> None:
    seen = []

    def act() -> None:
        seen.append((through.up, through.down))
        if how == relay.SILENCE:
            through.drop()

    through.cut(200_000, how, direction=direction, action=act)

    done = sshd.ssh(sshd.authorize("cat", "cat"), "", input=bytes(300_000))

    assert done.returncode == 255
    (counted,) = seen
    assert {relay.UP: counted[0], relay.DOWN: counted[1], None: sum(counted)}[direction] == 200_000


def test_the_relay_counts_and_changes_nothing_otherwise(sshd: Sshd, through: Relay) -> None:
    data = b"0123456789abcdef" * 200_000
    through.cut(10_000, relay.NOTHING)

    done = sshd.ssh(sshd.authorize("cat", "cat"), "", input=data)

    assert (done.returncode, done.stdout) == (0, data)
    assert through.fired.is_set()
    assert len(data) < through.up < 1.02 * len(data)
    assert len(data) < through.down < 1.02 * len(data)


def test_a_key_starts_its_command_and_no_other(sshd: Sshd) -> None:
    key = sshd.authorize("asked", "/bin/sh", "-c", 'echo "it is [$SSH_ORIGINAL_COMMAND]"')

    assert sshd.ssh(key, "id; x").stdout == b"it is [id; x]\n"
    assert sshd.ssh(key).stdout == b"it is []\n"
