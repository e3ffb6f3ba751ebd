"""A reply is a verdict about the mail only where it is about the mail: a wrong setting must not bounce anything."""

from __future__ import annotations

import pytest

from bsmtp_batch.replay.contract import Kind
from bsmtp_batch.replay.replies import judge
from bsmtp_batch.wire.events import Reply, Verb


@pytest.mark.parametrize(
    ("code", "status", "asked", "kind"),
    [
        (250, b"", Verb.END, Kind.DELIVERED),
        (251, b"2.1.5", Verb.RCPT, Kind.DELIVERED),
        (450, b"4.2.0", Verb.RCPT, Kind.DEFERRED),
        (421, b"", Verb.END, Kind.DEFERRED),
        (550, b"5.1.1", Verb.RCPT, Kind.REJECTED),
        (554, b"", Verb.END, Kind.REJECTED),
        (552, b"5.2.2", Verb.RCPT, Kind.REJECTED),
        (552, b"5.3.4", Verb.MAIL, Kind.REJECTED),
        (552, b"", Verb.END, Kind.REJECTED),
        (452, b"4.5.3", Verb.RCPT, Kind.CROWDED),
        (452, b"", Verb.RCPT, Kind.CROWDED),
        (552, b"", Verb.RCPT, Kind.CROWDED),
        (452, b"4.3.1", Verb.RCPT, Kind.DEFERRED),
        (452, b"", Verb.MAIL, Kind.DEFERRED),
        (530, b"5.7.0", Verb.MAIL, Kind.DEFERRED),
        (503, b"5.5.1", Verb.RCPT, Kind.DEFERRED),
        (502, b"", Verb.DATA, Kind.DEFERRED),
        (500, b"", Verb.MAIL, Kind.DEFERRED),
        (535, b"", Verb.MAIL, Kind.DEFERRED),
    ],
)
def test_each_reply_comes_to_what_it_means(code, status, asked, kind):
    assert judge(Reply(code, status, b"x"), asked).kind is kind


def test_a_reply_is_told_on_one_printable_line():
    assert judge(Reply(550, b"5.1.1", b"no\nsuch \x1b[31muser"), Verb.RCPT).reply == r"550 5.1.1 no such \x1b[31muser"


def test_a_reply_of_64_kib_is_not_kept_for_each_of_a_thousand_recipients():
    reply = judge(Reply(550, b"5.1.1", b"\x1b" * 60_000), Verb.RCPT).reply

    assert len(reply) == 1000
    assert reply.startswith("550 5.1.1 ")
    assert reply.endswith("...")
