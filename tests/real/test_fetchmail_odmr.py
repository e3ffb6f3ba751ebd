"""The rig around fetchmail's ATRN, held against a script of RFC 2645, line by line; and what fetchmail makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.certificates import server_context
from support.corpus import Mail
from support.fetchmail import ODMR, SECRET, USER, Fetchmail
from support.mailcheck import assert_arrived
from support.odmr_raw import Script, provide
from support.servers import running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("fetchmail")]
GOOD = Script(USER, SECRET)


@pytest.fixture(scope="module")
def fetchmail() -> Iterator[Fetchmail]:
    """fetchmail with a recorder as its mail server."""
    yield from running(Fetchmail)


def poll(fetchmail: Fetchmail, script: Script, mails: list[Mail], code: int) -> list[bytes]:
    """What ``script`` heard from a poll that ended with ``code``."""
    script = replace(script, asked=[])
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(provide, fetchmail.box.listen(ODMR), script, mails)
        fetchmail.odmr(["aurora.example", "second.example"], tls=script.tls is not None, code=code)
    done.result()
    return script.asked


@pytest.mark.parametrize("said", [b"250 OK now reversing the connection", b"250 2.0.0 OK"])
def test_it_hands_through_every_octet(fetchmail: Fetchmail, mails: list[Mail], said: bytes) -> None:
    fetchmail.recorder.clear()

    asked = poll(fetchmail, replace(GOOD, atrn=said), mails[:60], 0)

    assert asked == [b"EHLO customer.example", b"AUTH CRAM-MD5", b"ATRN aurora.example,second.example"]
    assert_arrived(mails[:60], fetchmail.recorder.all(), traces=0)


def test_it_hands_through_every_octet_under_tls_where_each_line_is_a_record(
    fetchmail: Fetchmail, mails: list[Mail], tmp_path: Path
) -> None:
    fetchmail.recorder.clear()

    poll(fetchmail, replace(GOOD, tls=server_context(tmp_path, "provider.example")), mails[:60], 0)

    assert_arrived(mails[:60], fetchmail.recorder.all(), traces=0)


@pytest.mark.parametrize(
    ("said", "code"),
    [(b"450 no", 4), (b"451 not now", 8), (b"453 You have no mail", 0), (b"502 no", 4), (b"530 no", 3)],
)
def test_what_it_makes_of_a_refusal(fetchmail: Fetchmail, said: bytes, code: int) -> None:
    assert poll(fetchmail, replace(GOOD, atrn=said), [], code)[-1] == b"QUIT"


def test_what_it_makes_of_a_failed_login(fetchmail: Fetchmail) -> None:
    asked = poll(fetchmail, replace(GOOD, secret="another"), [], 128)

    assert not any(line.startswith(b"ATRN") for line in asked)


def test_it_wants_the_keyword_before_it_has_logged_in(fetchmail: Fetchmail) -> None:
    asked = poll(fetchmail, replace(GOOD, offers=(b"AUTH CRAM-MD5",)), [], 4)

    assert not any(line.startswith((b"AUTH", b"ATRN")) for line in asked)


@pytest.mark.parametrize(
    ("said", "code", "asked"),
    [(b"250 begun", 0, 2), (b"252 begun", 0, 2), (b"253 7 begun", 0, 2), (b"251 none", 0, 1), (b"459 no", 3, 1)],
)
def test_what_it_makes_of_the_replies_to_etrn(fetchmail: Fetchmail, said: bytes, code: int, asked: int) -> None:
    script = replace(GOOD, etrn=said, offers=(b"ETRN",), asked=[])
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(provide, fetchmail.box.listen(ODMR), script)
        fetchmail.etrn(["aurora.example", "second.example"], port=ODMR, code=code)
    done.result()

    assert sum(line.startswith(b"ETRN ") for line in script.asked) == asked
