"""The way in: no password in the clear or to a stranger, and nothing a hostile server says does more than end it."""

from __future__ import annotations

import ssl
import threading
from base64 import b64decode

import pytest
from support.certificates import certificate
from support.importing import letters
from support.odmr_hub import Hub, Plan

from bsmtp_batch.errors import Setting
from bsmtp_batch.odmr import Access, Provider
from bsmtp_batch.odmr.address import Place, parse
from bsmtp_batch.replay.address import BadUrl

MECHANISMS = (b"ATRN", b"AUTH EXTERNAL LOGIN PLAIN CRAM-MD5")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("good"), "hub.example")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("ours"), "site.example")


def context(pair, ours=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pair)
    if ours:
        made.verify_mode = ssl.CERT_OPTIONAL
        made.load_verify_locations(ours[0])
    return made


def access(pair, mode="starttls", **more):
    return Access(mode, pair[0], user=b"aurora", password=b"secret", **more)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("odmr://aurora@hub.example/", Place("hub.example", 366, "aurora")),
        ("odmr://aurora@Hub.Example:2366", Place("hub.example", 2366, "aurora")),
        ("odmr://hub.example", Place("hub.example")),
        ("odmr://a@b.example@[2001:db8::7]:25/", Place("2001:db8::7", 25, "a@b.example")),
        ("odmr://[2001:db8::7]", Place("2001:db8::7")),
        ("odmr://192.0.2.1:25", Place("192.0.2.1", 25)),
    ],
)
def test_a_url_names_user_host_and_port(url, place):
    assert parse(url) == place
    assert parse(str(place)) == place


@pytest.mark.parametrize(
    "url", ["odmr:", "odmr://", "odmr://@h", "odmr://u:p@h", "odmr://h/x", "smtp://h", "odmr://-x@h"]
)
def test_what_names_no_provider_is_refused(url):
    with pytest.raises(BadUrl):
        parse(url)


@pytest.mark.parametrize("implicit", [False, True])
def test_over_tls_mail_comes_and_the_login_is_inside(site, good, implicit):
    plan = Plan(tls=context(good), implicit=implicit, letters=letters(3), hurried=True)
    with Hub(plan) as hub:
        found = site.collect(hub.port, access(good, "implicit" if implicit else "starttls"), patience=1)

    assert (found.code, found.messages) == (0, 3)
    before = [] if implicit else [b"EHLO site.example", b"STARTTLS"]
    assert plan.asked == [*before, b"EHLO site.example", b"AUTH CRAM-MD5", b"ATRN"]


def test_stripped_starttls_ends_with_later_and_without_another_word(site, good):
    plan = Plan(letters=letters(1))
    with Hub(plan) as hub:
        found = site.collect(hub.port, access(good))

    assert (found.code, "STARTTLS" in found.result) == (75, True)
    assert plan.asked == [b"EHLO site.example"]


@pytest.mark.parametrize("refusal", [b"454 4.7.0 not now", b"502 no", b"220 begin\r\n250 injected", b"220 a\r\n220 b"])
def test_starttls_that_is_refused_or_followed_by_words_ends_it_too(site, good, refusal):
    plan = Plan(tls=context(good), starttls=refusal, letters=letters(1))
    with Hub(plan) as hub:
        found = site.collect(hub.port, access(good))

    assert found.code == 75
    assert plan.asked == [b"EHLO site.example", b"STARTTLS"]


@pytest.mark.parametrize("implicit", [False, True])
def test_a_stranger_with_another_certificate_learns_no_name(site, good, ours, implicit):
    plan = Plan(tls=context(ours), implicit=implicit)
    with Hub(plan) as hub:
        found = site.collect(hub.port, access(good, "implicit" if implicit else "starttls"), patience=1)

    assert (found.code, "certificate" in found.result) == (75, True)
    assert not any(line.startswith(b"AUTH") for line in plan.asked)


def test_a_certificate_for_another_name_is_no_good(site, good):
    with Hub(Plan(tls=context(good))) as hub:
        assert site.collect(hub.port, access(good), host="localhost").code == 75


def test_plain_is_for_tls_when_nothing_better_is_offered(site, good):
    plan = Plan(tls=context(good), offers=(b"ATRN", b"AUTH PLAIN LOGIN"))
    with Hub(plan) as hub:
        assert site.collect(hub.port, access(good), patience=1).code == 0

    (login,) = (line for line in plan.asked if line.startswith(b"AUTH"))
    assert b64decode(login.split()[2]) == b"\0aurora\0secret"


def test_our_certificate_stands_for_us(site, good, ours):
    plan = Plan(tls=context(good, ours), offers=MECHANISMS)
    with Hub(plan) as hub:
        shown = Access("starttls", good[0], ours[0], ours[1], b"aurora")
        assert site.collect(hub.port, shown, patience=1).code == 0

    assert plan.certificates[0]
    assert b"AUTH EXTERNAL YXVyb3Jh" in plan.asked


def test_files_that_are_no_certificates_are_a_setting(tmp_path):
    with pytest.raises(Setting):
        Provider(Place("h"), Access(ca_file=str(tmp_path / "none.pem")), node="n")


@pytest.mark.parametrize(
    "greeting",
    [
        b"220-" + b"x" * 9000,
        b"\r\n".join([b"220-and on"] * 9000),
        b"\0" * 100,
        b"220-a\n221 b",
        b"554 go away",
        b"220 a\r\n250 early",
        b"",
    ],
)
def test_a_hostile_greeting_costs_one_contact(site, greeting):
    with Hub(Plan(greeting=greeting)) as hub:
        found = site.collect(hub.port, patience=0.002)

    assert found.code in (75, 78)
    assert not site.stored()


def test_a_greeting_without_end_ends_in_its_time(site):
    """One octet after the other, each well within the time that may go by between two."""

    gone = threading.Event()

    def drip(wire):
        while not gone.wait(0.02):
            wire.socket.sendall(b"2")

    with Hub(Plan(alone=drip)) as hub:
        found = site.collect(hub.port, patience=0.001)
        gone.set()

    assert (found.code, "within the time" in found.result) == (75, True)
