"""The hub delivers to the mail servers that customers run: Postfix, Sendmail and Exim, as they speak SMTP."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from support.box import OWNER, SPOOL, Box
from support.certificates import certificate
from support.corpus import DOMAIN, Mail
from support.exim import MAIN, ROUTERS, TRANSPORTS, Exim
from support.exim import PORT as EXIM
from support.mailcheck import Parcel, assert_arrived
from support.postfix import Hub, Recorder
from support.sendmail import PORT as SENDMAIL
from support.sendmail import Sendmail

pytestmark = pytest.mark.real
TEXT = b"Subject: one\n\nline\n.\n..dots\nlast\n"


class Server(Protocol):
    box: Box
    recorder: Recorder


def sealed(server: Server, name: str, mails: Sequence[Mail]) -> str:
    """A spool in which ``mails`` are sealed into one batch of route ``name``."""
    box, spool = server.box, f"/var/spool/push-{name}"
    box.run("rm", "-rf", spool)
    box.run("install", "-d", "-o", OWNER, spool)
    box.batch("route", "add", name, spool=spool)
    for mail in mails:
        box.batch("deliver", "-f", mail.sender, "--", name, *mail.rcpts, spool=spool, input=mail.content)
    box.batch("seal", spool=spool)
    return spool


def pushed(server: Server, spool: str, url: str, name: str, *more: str, code: int = 0) -> list[dict[str, Any]]:
    done = server.box.batch("push", "--json", *more, url, name, spool=spool, code=code)
    return [json.loads(line) for line in done.stdout.splitlines()]


def recorded(server: Server, count: int, known: int) -> list[Parcel]:
    """The ``count`` messages that the recorder gets beyond the first ``known``."""
    end = time.monotonic() + 45
    while len(got := server.recorder.all()[known:]) < count:
        assert time.monotonic() < end, f"{len(got)} of {count} came"
        time.sleep(0.05)
    return got


def outcomes(rows: list[dict[str, Any]]) -> list[str]:
    return [row["outcome"] for row in rows if row["kind"] == "recipient"]


def kept(server: Server, spool: str, name: str) -> list[str]:
    return [path.name for path in server.box.path(f"{spool}/out/{name}/kept").glob("*.bsmtp")]


HEADERS = b"Date: Sun, 22 Nov 2026 05:33:00 +0000\nFrom: asker@hub.example\nTo: users:;\nMessage-ID: <%d@hub.example>\n"


def some(domain: str, count: int = 20) -> list[Mail]:
    """Messages with all the headers that a server might add."""
    return [
        Mail(n, "", f"asker{n}@hub.example", (f"user.u{n}@{domain}",), HEADERS % n + b"\n.\n..\ntext \xc3\xa4\n")
        for n in range(1, count + 1)
    ]


@pytest.mark.xdist_group("postfix")
def test_postfix_as_customer_gets_every_message_unchanged_and_once(hub: Hub, mails: list[Mail], batch: str) -> None:
    spool = "/var/spool/push-corpus"
    hub.box.run("cp", "-a", SPOOL, spool)
    ready, held = f"{spool}/out/{DOMAIN}/ready", f"{spool}/out/{DOMAIN}/kept"
    hub.box.run("sh", "-c", f"mv {held}/* {ready}/ 2>/dev/null; true")  # another test may have handed it over already
    assert hub.box.path(f"{ready}/{Path(batch).name}").exists()
    known = len(hub.recorder.all())
    rows = pushed(hub, spool, f"smtp://[127.0.0.1]:{hub.customer.port}", DOMAIN)
    assert set(outcomes(rows)) == {"delivered"}
    assert len(outcomes(rows)) == sum(len(m.rcpts) for m in mails)
    assert_arrived(mails, recorded(hub, len(mails), known), traces=2)
    assert kept(hub, spool, DOMAIN) == [Path(batch).name]
    assert pushed(hub, spool, f"smtp://[127.0.0.1]:{hub.customer.port}", DOMAIN) == []


@pytest.mark.xdist_group("postfix")
def test_what_postfix_refuses_comes_back_from_the_hub_and_what_it_puts_off_stays(hub: Hub) -> None:
    rcpts = (f"nobody.here@{DOMAIN}", f"later.u1@{DOMAIN}", f"somebody.u2@{DOMAIN}")
    spool = sealed(hub, "refuse.example", [Mail(1, "", "asker@world.example", rcpts, TEXT)])
    hub.box.write("/etc/push-refuse.toml", f'[import]\nto = "smtp://127.0.0.1:{hub.provider.port}"\n')
    known = len(hub.recorder.all())
    url, config = f"smtp://[127.0.0.1]:{hub.customer.port}", ["--config", "/etc/push-refuse.toml"]
    rows = pushed(hub, spool, url, "refuse.example", *config, code=75)
    assert sorted(outcomes(rows)) == ["bounced", "deferred", "delivered"]

    report, message = sorted(recorded(hub, 2, known), key=lambda one: one.sender)
    assert (report.sender, report.rcpts) == ("", ("asker@world.example",))
    assert b"Action: failed" in report.content and b"nobody.here" in report.content
    assert b"later.u1" not in report.content
    assert message.rcpts == (f"somebody.u2@{DOMAIN}",)

    again = pushed(hub, spool, url, "refuse.example", *config, code=75)
    assert outcomes(again) == ["deferred"]
    assert "1 of 3 recipients are left: 450 4.2.1" in again[-1]["note"]
    assert kept(hub, spool, "refuse.example") == []
    assert len(hub.recorder.all()) == known + 2, "the report or the message went twice"


@pytest.mark.xdist_group("postfix")
def test_postfix_that_wants_tls_gets_it_and_its_certificate_is_looked_at(hub: Hub, tmp_path: Path) -> None:
    good, key = certificate(tmp_path, "customer.example")
    other, _ = certificate(tmp_path, "other.example")
    for source, name in ((good, "good.pem"), (key, "good.key"), (other, "other.pem")):
        hub.box.write(f"/etc/push/{name}", Path(source).read_text())
    files = {"smtpd_tls_cert_file": "/etc/push/good.pem", "smtpd_tls_key_file": "/etc/push/good.key"}
    hub.customer.add_service("tlsmgr unix - - n 1000? 1 tlsmgr\n")
    hub.customer.reconfigure(smtpd_tls_security_level="encrypt", **files)
    spool = sealed(hub, "tls.example", some(DOMAIN, 3))
    known, url = len(hub.recorder.all()), f"smtp://[customer.example]:{hub.customer.port}"
    try:
        clear = pushed(hub, spool, url, "tls.example", "--tls", "none", code=75)
        assert set(outcomes(clear)) == {"deferred"}, "a server that wants TLS made a bounce"
        stranger = pushed(
            hub, spool, url, "tls.example", "--tls", "starttls", "--ca-file", "/etc/push/other.pem", code=75
        )
        assert "certificate is not to be believed" in stranger[-1]["note"]
        hub.customer.reconfigure(smtpd_tls_security_level="none")
        stripped = pushed(
            hub, spool, url, "tls.example", "--tls", "starttls", "--ca-file", "/etc/push/good.pem", code=75
        )
        assert "does not offer STARTTLS" in stripped[-1]["note"]
        assert len(hub.recorder.all()) == known
        hub.customer.reconfigure(smtpd_tls_security_level="encrypt")
        pushed(hub, spool, url, "tls.example", "--tls", "starttls", "--ca-file", "/etc/push/good.pem")
    finally:
        hub.customer.reconfigure(smtpd_tls_security_level="none")
    assert len(recorded(hub, 3, known)) == 3


@pytest.mark.xdist_group("sendmail")
def test_sendmail_as_customer_gets_every_message_unchanged_and_once(sendmail: Sendmail) -> None:
    mails, known = some("world.example"), len(sendmail.recorder.all())
    spool = sealed(sendmail, "world.example", mails)
    rows = pushed(sendmail, spool, f"smtp://[127.0.0.1]:{SENDMAIL}", "world.example")
    assert outcomes(rows) == ["delivered"] * len(mails)
    assert_arrived(mails, recorded(sendmail, len(mails), known))


@pytest.mark.xdist_group("exim")
def test_exim_as_customer_gets_every_message_unchanged_and_once(exim: Exim) -> None:
    mails, known = some("world.example"), len(exim.recorder.all())
    spool = sealed(exim, "world.example", mails)
    rows = pushed(exim, spool, f"smtp://[127.0.0.1]:{EXIM}", "world.example")
    assert outcomes(rows) == ["delivered"] * len(mails)
    assert_arrived(mails, recorded(exim, len(mails), known))


SMARTHOST = 2587
AUTHENTICATED = """\
tls_advertise_hosts = *
tls_certificate = /etc/push/smarthost.pem
tls_privatekey = /etc/push/smarthost.key
auth_advertise_hosts = ${if def:tls_in_cipher{*}}
acl_smtp_rcpt = known
begin acl
known:
  accept authenticated = *
  deny message = log in first
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{hub}}{eq{$auth3}{s3cret word}}}}
  server_set_id = $auth2
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${if eq{$auth1}{hub}{s3cret word}fail}
  server_set_id = $auth1
"""


def smarthost(exim: Exim, tmp_path: Path) -> None:
    """A second Exim in the box, which relays for whoever logs in over TLS."""
    for source, name in zip(certificate(tmp_path, "smarthost.example"), ("pem", "key"), strict=True):
        exim.box.write(f"/etc/push/smarthost.{name}", Path(source).read_text())
    main = MAIN.replace(f"daemon_smtp_ports = {EXIM}", f"daemon_smtp_ports = {SMARTHOST}").replace(
        "acl_smtp_rcpt = accept\n", ""
    )
    routers, transports = f"begin routers\n{ROUTERS}", f"begin transports\n{TRANSPORTS}"
    exim.box.write("/etc/push/exim.conf", "\n".join([main + AUTHENTICATED, routers, transports, "begin retry\n"]))
    exim.box.run("exim4", "-C", "/etc/push/exim.conf", "-bd")
    exim.box.wait_port(SMARTHOST)


@pytest.mark.xdist_group("exim")
def test_exim_as_smarthost_takes_mail_after_a_login_and_a_wrong_password_bounces_nothing(
    exim: Exim, tmp_path: Path
) -> None:
    smarthost(exim, tmp_path)
    mails, known = some("world.example", 3), len(exim.recorder.all())
    spool = sealed(exim, "world.example", mails)
    exim.box.write("/etc/push/secret", "s3cret word\n", 0o600)
    exim.box.run("chown", OWNER, "/etc/push/secret")
    section = (
        f'[peer.NAME]\nurl = "smtp://[127.0.0.1]:{SMARTHOST}"\nroutes = ["world.example"]\ntls = "starttls"\n'
        'ca_file = "/etc/push/smarthost.pem"\n'
    )
    login = 'user = "USER"\nsecret_file = "/etc/push/secret"\n'
    peers = section.replace("NAME", "hub") + login.replace("USER", "hub")
    exim.box.write("/etc/push/hub.toml", peers + section.replace("NAME", "wrong") + login.replace("USER", "other"))
    config = ["--config", "/etc/push/hub.toml"]

    wrong = pushed(exim, spool, "wrong", "world.example", *config, code=78)
    assert "does not let us log in" in wrong[-1]["note"]
    assert outcomes(wrong) == []
    assert len(exim.recorder.all()) == known

    pushed(exim, spool, "hub", "world.example", *config)
    assert_arrived(mails, recorded(exim, len(mails), known))
