"""Which server is reached, and over what: mail must not go round in circles, to a stranger, or in the clear."""

from __future__ import annotations

import ssl
from base64 import b64decode, b64encode

import pytest
from support.certificates import certificate
from support.dispatching import Hub, Zone, server
from support.importing import letters
from support.sink import OFFERS, Asked, Connect, Helo, Sink, StartTls

from bsmtp_batch.dispatch import CustomerServer, Security
from bsmtp_batch.dispatch.address import Place, parse
from bsmtp_batch.dispatch.server import Misconfigured
from bsmtp_batch.edge.mx import NoExchanger, exchangers
from bsmtp_batch.errors import Setting
from bsmtp_batch.replay.address import BadUrl
from bsmtp_batch.replay.contract import Unreachable
from bsmtp_batch.wire.events import Auth, AuthResponse, Reply

TLS = OFFERS + b"\nSTARTTLS"
LOGIN = TLS + b"\nAUTH PLAIN LOGIN"


def unshuffled(_):
    """Leaves the order as it is."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A certificate for mail.site.example and for 127.0.0.1, and its key."""
    return certificate(tmp_path_factory.mktemp("good"), "mail.site.example")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("stranger"), "stranger.example")


def context(pair):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pair)
    return made


def connected(target):
    """Whether ``target`` gives a connection; it is closed again."""
    target.connect().close()
    return True


# -- the URL ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("smtp://site.example", Place("site.example", 0, True)),
        ("smtp://Site.Example:2525/", Place("site.example", 2525, True)),
        ("smtp://[mail.site.example]", Place("mail.site.example", 0, False)),
        ("smtp://[mail.site.example]:25", Place("mail.site.example", 25, False)),
        ("smtp://192.0.2.7", Place("192.0.2.7", 0, False)),
        ("smtp://[2001:db8::7]:26", Place("2001:db8::7", 26, False)),
    ],
)
def test_brackets_and_addresses_ask_no_dns_and_everything_else_does(url, place):
    assert parse(url) == place
    assert parse(str(place)) == place


@pytest.mark.parametrize(
    "url", ["lmtp://h:26", "smtp://u@h", "smtp://", "smtp:/h", "maildir:/x", "smtp://h/x", "smtp://-h"]
)
def test_what_names_no_server_is_refused(url):
    with pytest.raises(BadUrl):
        parse(url)


# -- MX records ---------------------------------------------------------------------------------------------------


def order(zone, shuffle=unshuffled):
    return [one.name for one in exchangers("site.example", zone, node="hub.example", shuffle=shuffle)]


HOSTS = {name: ["192.0.2.1"] for name in ("a.example", "b.example", "c.example", "site.example")}


def test_servers_are_tried_by_preference():
    zone = Zone({"site.example": [(20, "c.example"), (5, "b.example"), (10, "a.example")]}, HOSTS)

    assert order(zone) == ["b.example", "a.example", "c.example"]


def test_equals_share_the_load_and_never_pass_a_better_one():
    zone = Zone({"site.example": [(10, "a.example"), (10, "b.example"), (5, "c.example")]}, HOSTS)

    assert order(zone) == ["c.example", "a.example", "b.example"]
    assert order(zone, shuffle=list.reverse) == ["c.example", "b.example", "a.example"]


def test_a_domain_without_mx_records_is_its_own_server():
    assert order(Zone({}, HOSTS)) == ["site.example"]


def test_a_null_mx_is_told_as_the_domains_own_word():
    with pytest.raises(NoExchanger, match="takes no mail"):
        order(Zone({"site.example": [(0, "")]}, HOSTS))


def test_names_that_are_no_host_names_are_not_looked_up():
    zone = Zone({"site.example": [(1, r"a\032b.example"), (2, "-x"), (3, "a" * 64), (4, "a.example")]}, HOSTS)

    assert order(zone) == ["a.example"]


def test_a_hub_that_is_the_backup_mx_does_not_send_to_itself_or_to_worse_ones():
    """Its own MTA would take the mail and hand it in again, for ever."""
    records = [(10, "a.example"), (20, "hub.example"), (20, "b.example"), (30, "c.example")]

    assert order(Zone({"site.example": records}, HOSTS)) == ["a.example"]


def test_a_hub_knows_itself_by_its_address_too():
    records = [(10, "a.example"), (20, "other-name.example"), (30, "c.example")]
    zone = Zone({"site.example": records}, HOSTS | {"other-name.example": ["192.0.2.9"]}, mine=("192.0.2.9",))

    assert order(zone) == ["a.example"]


def test_a_hub_that_is_the_best_mx_says_so():
    zone = Zone({"site.example": [(10, "HUB.example"), (20, "a.example")]}, HOSTS)

    with pytest.raises(NoExchanger, match="is this machine"):
        order(zone)


def test_a_null_mx_leaves_the_mail_where_it_is_and_bounces_nothing(tmp_path):
    hub = Hub(tmp_path / "spool")
    [name] = hub.seal(letters(2))
    with Sink() as own:
        told = hub.send("smtp://site.example", names=Zone({"site.example": [(0, "")]}), notices=own.url)

    assert (told.code, own.taken, hub.ready()) == (75, [], [name])
    assert told.said("takes no mail (a null MX, RFC 7505)")


def test_the_next_server_is_tried_after_one_that_is_away_and_one_that_is_busy(tmp_path):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))
    records = [(10, "away.example"), (20, "busy.example"), (30, "unknown.example"), (40, "well.example")]
    hosts = {"away.example": ["127.0.0.9"], "busy.example": ["127.0.0.2"], "well.example": ["127.0.0.9", "127.0.0.3"]}
    busy = lambda asked: Reply(421, b"4.3.2", b"busy") if isinstance(asked.request, Connect) else None  # noqa: E731
    with Sink(host="127.0.0.3") as well, Sink(busy, host="127.0.0.2", port=well.port) as other:
        told = hub.send(f"smtp://site.example:{well.port}", names=Zone({"site.example": records}, hosts))

    assert (told.code, len(well.taken), other.connections) == (0, 1, 1)


def test_when_no_server_takes_mail_each_ones_reason_is_told():
    zone = Zone({"site.example": [(1, "a.example"), (2, "b.example")]}, {"a.example": ["127.0.0.9"]})
    with Sink(lambda asked: Reply(554, b"5.3.2", b"closed") if isinstance(asked.request, Connect) else None) as sink:
        zone.hosts["b.example"] = ["127.0.0.1"]
        with pytest.raises(Unreachable) as caught:
            server(f"smtp://site.example:{sink.port}", names=zone).connect()

    assert "a.example[127.0.0.9]: Connection refused" in str(caught.value)
    assert "b.example[127.0.0.1]: it greets with 554 5.3.2 closed" in str(caught.value)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
@pytest.mark.parametrize("url", ["smtp://{}", "smtp://[{}]"])
def test_a_name_that_no_host_can_have_is_told_and_no_bug(host, url):
    with pytest.raises(BadUrl, match="is not the name or address of a host"):
        server(url.format(host), names=Zone({}, {}))


def test_a_name_in_brackets_asks_for_no_mx():
    zone = Zone({"mail.site.example": [(0, "")]}, {"mail.site.example": ["127.0.0.1"]})
    with Sink() as sink:
        assert connected(server(f"smtp://[mail.site.example]:{sink.port}", names=zone))

    assert zone.asked == []


# -- TLS ----------------------------------------------------------------------------------------------------------


def strict(pair, mode="starttls", **more):
    return Security(mode, pair[0], **more)


ZONE = Zone({}, {"mail.site.example": ["127.0.0.1"]})


def at(sink, security, host="mail.site.example"):
    return server(f"smtp://[{host}]:{sink.port}", names=ZONE, security=security)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_mail_goes_through_tls_with_a_good_certificate(tmp_path, good, mode):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(3))
    with Sink(offers=TLS, tls=context(good), implicit=mode == "implicit") as sink:
        told = hub.send(at(sink, strict(good, mode)))

    assert (told.code, len(sink.taken), sink.handshakes) == (0, 3, 1)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("fault", ["issuer", "name"])
def test_a_certificate_that_is_not_to_be_believed_gets_no_mail(tmp_path, good, stranger, mode, fault):
    hub = Hub(tmp_path / "spool")
    [name] = hub.seal(letters(1))
    trusted, shown = (good, stranger) if fault == "issuer" else (stranger, stranger)
    with Sink(offers=TLS, tls=context(shown), implicit=mode == "implicit") as sink:
        told = hub.send(at(sink, strict(trusted, mode)))

    assert (told.code, sink.taken, hub.ready()) == (75, [], [name])
    assert told.said("certificate is not to be believed")


def test_starttls_stripped_from_the_offer_sends_nothing(tmp_path, good):
    hub = Hub(tmp_path / "spool")
    [name] = hub.seal(letters(1))
    with Sink() as sink:
        told = hub.send(at(sink, strict(good)))
        said = [type(request).__name__ for request in sink.requests]

    assert (told.code, sink.taken, hub.ready()) == (75, [], [name])
    assert told.said("does not offer STARTTLS")
    assert set(said) <= {"Connect", "Helo", "Quit"}


def test_starttls_refused_sends_nothing_where_it_is_wanted(good):
    def answer(asked):
        return Reply(454, b"4.7.0", b"not now") if isinstance(asked.request, StartTls) else None

    with Sink(answer, offers=TLS) as sink, pytest.raises(Unreachable, match="does not begin TLS: 454"):
        at(sink, strict(good)).connect()


def test_words_behind_the_220_are_not_read_as_the_servers(good):
    """Whoever is in the middle could add an offer, or an answer, to what TLS protects (CVE-2021-38371)."""

    def answer(asked):
        if isinstance(asked.request, StartTls):
            from support.sink import Say

            return Say(b"220 ready\r\n250 you are in\r\n")
        return None

    with Sink(answer, offers=TLS) as sink, pytest.raises(Unreachable, match="spoke between its 220 and TLS"):
        at(sink, strict(good)).connect()


def test_what_was_offered_before_tls_is_forgotten(good):
    greetings = iter([TLS + b"\nXCLEAR", OFFERS])

    def answer(asked):
        return Reply(250, b"", b"sink\n" + next(greetings)) if isinstance(asked.request, Helo) else None

    with Sink(answer, tls=context(good)) as sink:
        connection = at(sink, strict(good)).connect()
        assert b"XCLEAR" not in connection.extensions
        connection.close()


def test_any_certificate_is_better_than_none_where_tls_is_not_demanded(tmp_path, stranger):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))
    with Sink(offers=TLS, tls=context(stranger)) as sink:
        assert hub.send(at(sink, Security())).code == 0

    assert (len(sink.taken), sink.handshakes) == (1, 1)


def test_tls_that_fails_is_left_out_where_it_is_not_demanded(tmp_path):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))

    def answer(asked: Asked):
        from support.sink import Say

        return Say(b"220 ready\r\n") if isinstance(asked.request, StartTls) else None

    with Sink(answer, offers=TLS) as sink:
        assert hub.send(at(sink, Security())).code == 0

    assert (len(sink.taken), sink.connections) == (1, 2)


def test_tls_refused_for_now_goes_on_in_the_clear_where_it_is_not_demanded(tmp_path):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))
    refuse = lambda asked: Reply(454, b"4.7.0", b"no") if isinstance(asked.request, StartTls) else None  # noqa: E731
    with Sink(refuse, offers=TLS) as sink:
        assert hub.send(at(sink, Security())).code == 0

    assert (len(sink.taken), sink.connections) == (1, 1)


def test_none_means_that_no_tls_is_asked_for():
    with Sink(offers=TLS) as sink:
        assert connected(at(sink, Security("none")))
        assert sink.count(StartTls) == 0


def test_a_forged_mx_record_does_not_lead_verified_mail_elsewhere(good):
    """The forger has a good certificate, for a name of his own."""
    zone = Zone({"site.example": [(10, "mx.stranger.example")]}, {"mx.stranger.example": ["127.0.0.1"]})
    with Sink(offers=TLS, tls=context(good)) as sink:
        with pytest.raises(Misconfigured, match=r"write smtp://\[mx.stranger.example\]"):
            server(f"smtp://site.example:{sink.port}", names=zone, security=strict(good)).connect()
        zone.mx["site.example"] = [(10, "mail.site.example")]
        zone.hosts["mail.site.example"] = ["127.0.0.1"]
        assert connected(server(f"smtp://site.example:{sink.port}", names=zone, security=strict(good)))


def test_a_file_without_certificates_is_a_fault_of_the_settings(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(Setting, match="ca_file"):
        CustomerServer(parse("smtp://h"), Security("starttls", str(tmp_path / "empty.pem")), node="hub.example")


def test_implicit_tls_has_a_port_of_its_own():
    assert CustomerServer(parse("smtp://h"), Security("implicit"), node="n")._port == 465
    assert CustomerServer(parse("smtp://h:25"), Security("implicit"), node="n")._port == 25


# -- the login ----------------------------------------------------------------------------------------------------


def knowing(user, password, refusal=Reply(535, b"5.7.8", b"no")):  # noqa: B008 - a value that nobody changes
    """A server that lets one user in, by PLAIN and LOGIN."""
    seen = []

    def answer(asked):
        if isinstance(asked.request, Auth) and asked.request.mechanism == b"PLAIN":
            good = b64decode(asked.request.initial) == b"\0" + user + b"\0" + password
            return Reply(235, b"2.7.0", b"in") if good else refusal
        if isinstance(asked.request, Auth):
            return Reply(334, b"", b64encode(b"Username:"))
        if isinstance(asked.request, AuthResponse):
            seen.append(b64decode(asked.request.data))
            if len(seen) == 1:
                return Reply(334, b"", b64encode(b"Password:"))
            return Reply(235, b"2.7.0", b"in") if seen == [user, password] else refusal
        return None

    return answer


@pytest.mark.parametrize("offered", [b"PLAIN LOGIN", b"LOGIN"])
def test_a_smarthost_that_wants_a_login_gets_it(tmp_path, good, offered):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))
    with Sink(knowing(b"hub", b"s3cret"), offers=TLS + b"\nAUTH " + offered, tls=context(good)) as sink:
        told = hub.send(at(sink, strict(good, user=b"hub", password=b"s3cret")))

    assert (told.code, len(sink.taken)) == (0, 1)


def test_a_password_that_is_wrong_is_a_fault_of_the_settings_and_tried_once(tmp_path, good):
    hub = Hub(tmp_path / "spool")
    names = hub.seal(letters(2), count=1)
    with Sink(knowing(b"hub", b"s3cret"), offers=LOGIN, tls=context(good)) as sink:
        told = hub.send(at(sink, strict(good, user=b"hub", password=b"guess")))

    assert (told.code, sink.taken, hub.ready(), sink.connections) == (78, [], names, 1)
    assert told.said("does not let us log in")
    assert "guess" not in repr(told.events)


def test_a_login_that_cannot_be_checked_now_is_for_later(tmp_path, good):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))
    answer = knowing(b"hub", b"s3cret", Reply(454, b"4.7.0", b"the directory is away"))
    with Sink(answer, offers=LOGIN, tls=context(good)) as sink:
        assert hub.send(at(sink, strict(good, user=b"hub", password=b"guess"))).code == 75


@pytest.mark.parametrize("mode", ["none", "opportunistic"])
def test_no_password_is_shown_to_a_server_that_may_be_anybody(tmp_path, stranger, mode):
    hub = Hub(tmp_path / "spool")
    hub.seal(letters(1))
    with Sink(knowing(b"hub", b"s3cret"), offers=LOGIN, tls=context(stranger)) as sink:
        told = hub.send(at(sink, Security(mode, user=b"hub", password=b"s3cret")))

    assert (told.code, sink.taken, sink.count(Auth)) == (78, [], 0)
    assert told.said("without showing the password")


def test_a_secret_is_in_no_repr():
    assert "s3cret" not in repr(Security("starttls", user=b"hub", password=b"s3cret"))
