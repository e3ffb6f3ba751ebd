"""Target URLs: a slip of the pen gets a sentence, not mail in the wrong place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.replay.address import BadUrl, Maildir, Program, Server, Socket, parse


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("smtp://mail.example", Server("mail.example", 25)),
        ("smtp://mail.example/", Server("mail.example", 25)),
        ("smtp://mail.example:2525", Server("mail.example", 2525)),
        ("smtp://[mail.example]:2525", Server("mail.example", 2525)),
        ("smtp://127.0.0.1:25", Server("127.0.0.1", 25)),
        ("smtp://[::1]", Server("::1", 25)),
        ("smtp://[::1]:2525", Server("::1", 2525)),
        ("smtp://[fe80::1%eth0]:25", Server("fe80::1%eth0", 25)),
        ("lmtp://127.0.0.1:24", Server("127.0.0.1", 24, lmtp=True)),
        ("lmtp:///run/dovecot/lmtp", Socket("/run/dovecot/lmtp")),
        ("sendmail:/usr/sbin/sendmail", Program("/usr/sbin/sendmail")),
        ("sendmail:///usr/sbin/sendmail", Program("/usr/sbin/sendmail")),
        ("maildir:/home/me/Maildir/", Maildir("/home/me/Maildir")),
    ],
)
def test_each_form_names_its_place(url, place):
    assert parse(url) == place


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("", "no target"),
        ("mail.example", "no target"),
        ("mail.example:25", "no target"),
        ("http://mail.example", "there is no target 'http'"),
        ("smtps://mail.example", "there is no target"),
        ("smtp:mail.example", "two slashes"),
        ("smtp:/mail.example", "two slashes"),
        ("smtp://", "no host"),
        ("smtp://:25", "no host"),
        ("smtp://mail.example:", "no port behind"),
        ("smtp://[::1]:", "no port behind"),
        ("smtp://mail.example:smtp", "1 to 65535"),
        ("smtp://mail.example:0", "1 to 65535"),
        ("smtp://mail.example:65536", "1 to 65535"),
        ("smtp://mail.example:\uff11\uff12", "1 to 65535"),
        ("smtp://::1", "without brackets"),
        ("smtp://[::1", "does not close"),
        ("smtp://[::1]25", "does not close"),
        ("smtp://-oProxyCommand=x", "not the name"),
        ("smtp://mail..example", "not the name"),
        (f"smtp://{'a' * 64}.example", "not the name"),
        (f"smtp://{'a.' * 127}ab", "not the name"),
        ("smtp://user@mail.example", "no login"),
        ("smtp://mail.example/inbox", "path behind its host"),
        ("smtp://mail example", "blank"),
        ("smtp://mail\n.example", "control"),
        ("lmtp://127.0.0.1", "names no port"),
        ("lmtp://127.0.0.1:25", "RFC 2033"),
        ("lmtp:///", "no file or directory"),
        ("sendmail:sendmail", "begins with a slash"),
        ("sendmail:", "begins with a slash"),
        ("maildir:Maildir", "begins with a slash"),
        ("maildir:/", "no file or directory"),
        ("maildir:/home/me/../other", "steps out"),
    ],
)
def test_each_mistake_has_its_sentence(url, because):
    with pytest.raises(BadUrl, match=because):
        parse(url)


@given(
    st.text(max_size=60) | st.from_regex(r"(smtp|lmtp|maildir|sendmail):/{0,3}[\[\]:@/.a-z0-9%-]{0,30}", fullmatch=True)
)
def test_nothing_else_is_ever_raised(url):
    try:
        parse(url)
    except BadUrl as bad:
        assert str(bad)
