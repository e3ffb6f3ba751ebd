"""A line that is cut at any octet: nothing is lost, and what arrives twice was named beforehand."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from support.dispatching import Hub
from support.importing import Letter, letters
from support.relay import CLOSE, DOWN, RESET, UP, Relay
from support.smtp_sink import RecordingServer

CUTS = 60
MAIL = [*letters(4), Letter(content=b"Subject: large\r\n\r\n" + b"..dots\r\n" * 9000), Letter(to=(b"a@s.e", b"b@s.e"))]


def contents(server):
    return Counter(message.content for message in server.messages)


@pytest.mark.parametrize("how", [RESET, CLOSE])
@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_cut_loses_nothing_and_doubles_only_what_is_named(tmp_path, how, direction):
    generator = random.Random(f"{how}{direction}")
    octets = sum(len(one.content) for one in MAIL) if direction == UP else 600
    doubled_in_all = 0
    for number in range(CUTS // 4):
        hub = Hub(tmp_path / f"spool{number}")
        hub.seal(MAIL)
        with RecordingServer() as server:
            relay = Relay(int(server.url.rpartition(":")[2]))
            named = []
            try:
                relay.cut(generator.randrange(1, octets), how, direction=direction)
                for _ in range(6):
                    told = hub.send(f"smtp://[127.0.0.1]:{relay.port}")
                    named += [event.note for event in told.events if "was in doubt" in event.note]
                    if told.code == 0:
                        break
            finally:
                relay.close()
        assert told.code == 0
        wanted = Counter(one.content for one in MAIL)
        assert wanted - contents(server) == Counter(), number
        doubled = contents(server) - wanted
        assert doubled.total() <= min(1, len(named)), number
        doubled_in_all += doubled.total()
        assert len(hub.kept()) == 1
    if direction == DOWN:
        assert doubled_in_all  # otherwise the cuts fell where nothing was at stake
