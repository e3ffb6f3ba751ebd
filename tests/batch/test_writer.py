"""The writer refuses to write what no reader would give back."""

from __future__ import annotations

import pytest

from bsmtp_batch.batch.writer import greeting, transaction
from bsmtp_batch.wire.command import BadAddress, BadCommand, Mail, Rcpt


def test_the_greeting_says_whether_parameters_follow():
    assert greeting("hub.example", True) == b"EHLO hub.example\r\n"
    assert greeting("hub", False) == b"HELO hub\r\n"


@pytest.mark.parametrize("node", ["", "-x", "x-", "a b", "a\r\nQUIT", "Hub", "a..b", ".a", "a.", "ä", "x" * 254])
def test_a_name_that_is_no_node_is_refused(node):
    with pytest.raises(ValueError, match="not the name of a node"):
        greeting(node, False)


def test_an_envelope_ends_in_data():
    rcpts = [Rcpt(b"c@d", ((b"NOTIFY", b"NEVER"),)), Rcpt(b"e@f")]

    assert transaction(Mail(b""), rcpts) == b"MAIL FROM:<>\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\nRCPT TO:<e@f>\r\nDATA\r\n"


@pytest.mark.parametrize("count", [0, 1001])
def test_no_recipient_and_too_many_are_refused(count):
    with pytest.raises(BadCommand):
        transaction(Mail(b"a@b"), [Rcpt(b"c@d")] * count)


@pytest.mark.parametrize("path", [b"a@b>\r\nRCPT TO:<x@y", b"a b@c", b"a\0@b", b"<a@b>"])
def test_a_path_that_would_forge_the_envelope_is_refused(path):
    with pytest.raises((BadAddress, BadCommand)):
        transaction(Mail(b""), [Rcpt(path)])
