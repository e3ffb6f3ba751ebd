"""push smtp://, run as an operator or a timer runs it: whose mail goes where, and what the exit code says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from support.dispatching import Hub, boxed
from support.importing import Letter, letters
from support.sink import EndOfData, Hold, RcptTo, Sink

from bsmtp_batch.cli.app import run
from bsmtp_batch.wire.events import Auth, Reply


@pytest.fixture
def hub(tmp_path):
    return Hub(tmp_path / "spool")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "hub.example"\nreserve = 0\n')
    return path


@pytest.fixture
def cli(hub, config, capsys):
    def call(*arguments, code=0):
        found = run([*arguments, "--config", str(config), "--spool", str(hub.spool)])
        said = capsys.readouterr()
        assert found == code, said
        return said

    return call


def peer(config, url, **more):
    """Settings with a peer for the mail server at ``url``."""
    settings = {"url": url, "routes": ["site.example"], **more}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    config.write_text(config.read_text() + f"[peer.site]\n{lines}")


def not_now(asked):
    gone = isinstance(asked.request, RcptTo) and asked.request.rcpt.path.startswith(b"busy")
    return Reply(450, b"4.2.1", b"come again") if gone else None


def test_the_mail_of_the_named_route_goes_to_the_named_server(hub, cli):
    [name] = hub.seal(letters(2))
    with Sink() as sink:
        said = cli("push", boxed(sink.url), "site.example")

    assert len(sink.taken) == 2
    assert f"push site.example: batch {name} sent (2 messages, " in said.out
    assert "2 delivered" in said.out


def test_without_a_route_nobody_gets_the_mail_of_everybody(hub, cli):
    hub.seal(letters(1))
    with Sink() as sink:
        said = cli("push", boxed(sink.url), code=64)

    assert sink.connections == 0
    assert "whose mail" in said.err


def test_a_peer_of_the_settings_brings_its_routes_along(hub, cli, config, capsys):
    hub.seal(letters(1))
    with Sink() as sink:
        peer(config, boxed(sink.url))
        cli("push", "site")
        hub.seal(letters(3)[2:])
        cli("push")

    assert len(sink.taken) == 2


def test_programs_read_a_row_for_each_recipient_and_each_batch(hub, cli):
    [name] = hub.seal([Letter(to=(b"c@site.example", b"busy@site.example"))])
    with Sink(not_now) as sink:
        said = cli("push", "--json", boxed(sink.url), "site.example", code=75)
    *recipients, batch = map(json.loads, said.out.splitlines())

    assert [(row["rcpt_to"], row["outcome"]) for row in recipients] == [
        ("c@site.example", "delivered"),
        ("busy@site.example", "deferred"),
    ]
    assert {row["kind"] for row in recipients} == {"recipient"}
    assert (batch["kind"], batch["name"], batch["party"]) == ("later", name, "site.example")


def test_a_dry_run_reaches_nobody(hub, cli):
    [name] = hub.seal(letters(1))
    with Sink() as sink:
        said = cli("push", "--dry-run", boxed(sink.url), "site.example")

    assert sink.connections == 0
    assert f"would push site.example: batch {name}" in said.out
    assert hub.ready() == [name]


def test_a_refusal_is_reported_through_the_hubs_own_server(hub, cli, config):
    hub.seal([Letter(to=(b"c@site.example", b"gone@site.example"))])

    def refusing(asked):
        gone = isinstance(asked.request, RcptTo) and asked.request.rcpt.path.startswith(b"gone")
        return Reply(550, b"5.1.1", b"no") if gone else None

    with Sink(refusing) as sink, Sink() as own:
        config.write_text(config.read_text() + f'[import]\nto = "{own.url}"\n')
        said = cli("push", boxed(sink.url), "site.example")

    assert "1 delivered, 1 bounced" in said.out
    assert [one.to for one in own.taken] == [[b"a@hub.example"]]


def test_quarantine_instead_of_a_bounce_keeps_the_refused_message(hub, cli, config):
    hub.seal(letters(1))

    def refusing(asked):
        return Reply(554, b"5.7.1", b"no") if isinstance(asked.request, EndOfData) else None

    with Sink(refusing) as sink, Sink() as own:
        config.write_text(config.read_text() + f'[import]\nto = "{own.url}"\non_reject = "quarantine"\n')
        cli("push", boxed(sink.url), "site.example", code=65)

    assert own.connections == 0
    assert len(hub.dead()) == 2


def test_status_shows_what_was_sent_of_a_batch_and_what_is_in_doubt(hub, cli):
    [name] = hub.seal([Letter(to=(b"c@site.example", b"busy@site.example")), *letters(2)])
    from support.sink import DROP

    def answer(asked):
        if isinstance(asked.request, EndOfData) and asked.messages == 2:
            return DROP
        return not_now(asked)

    with Sink(answer) as sink:
        cli("push", boxed(sink.url), "site.example", code=75)
        shown = boxed(sink.url)
    said = cli("status").out
    [row] = [row for row in map(json.loads, cli("status", "--json").out.splitlines()) if "route" in row]

    assert f"sent in part: site.example: batch {name}: of 4 recipients" in said
    assert "2 deferred, 2 delivered; in doubt: message 2: 450 4.2.1 come again" in said
    assert f"push {shown}: 2 of 4 recipients are left" in said
    [part] = row["sent_in_part"]
    assert (part["name"], part["counts"], part["doubtful"]) == (name, {"delivered": 2, "deferred": 2}, [2])


def test_outside_its_window_a_peer_is_left_alone(hub, cli, config):
    import time

    hub.seal(letters(1))
    hour = (time.localtime().tm_hour + 3) % 24
    with Sink() as sink:
        peer(config, boxed(sink.url), window=f"{hour:02d}:00-{hour:02d}:30")
        said = cli("push", "site")

    assert sink.connections == 0
    assert "outside its window" in said.out


def test_max_bytes_bounds_the_mail_of_one_contact(hub, cli):
    hub.seal(letters(3))
    size = len(letters(1)[0].content)
    with Sink() as sink:
        said = cli("push", "--max-bytes", str(2 * size), boxed(sink.url), "site.example", code=75)

    assert len(sink.taken) == 2
    assert "more than max_bytes" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push", "smtp://u@h", "site.example"], "holds a user name"),
        (["push", "--tls", "perhaps", "smtp://[h]", "site.example"], "write one of: none, opportunistic"),
        (["push", "--identity", "/k", "smtp://[h]", "site.example"], "a mail server is reached without ssh"),
        (["push", "--tls", "none", "dir:/x", "site.example"], "it is for smtp:// and odmr:// only"),
        (["pull", "smtp://[h]"], "an SMTP server sends mail and is not asked for it"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(hub, cli, arguments, said):
    assert said in cli(*arguments, code=64).err


def test_pulling_from_every_peer_leaves_mail_servers_out(hub, cli, config, tmp_path):
    (tmp_path / "medium").mkdir()
    peer(config, "smtp://[127.0.0.1]:1")
    config.write_text(config.read_text() + f'[peer.stick]\nurl = "dir:{tmp_path}/medium"\n')

    assert cli("pull").err == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"routes": []}, "name the routes whose mail this server takes"),
        ({"url": "smtp://site.example/path"}, 'write "smtp://domain"'),
        ({"url": "smtp://[host]:0"}, 'write "smtp://domain"'),
        ({"user": "hub"}, "set both user and secret_file"),
        ({"secret_file": "/etc/secret"}, "set both user and secret_file"),
        ({"tls": "yes"}, "peer.site.tls"),
        ({"url": "dir:/x", "tls": "starttls"}, "set url to an smtp:// or odmr:// one"),
        ({"identity": "/etc/key"}, "set url to an scp:// or rsync:// one"),
    ],
)
def test_settings_that_contradict_each_other_are_named(hub, cli, config, settings, said):
    peer(config, settings.pop("url", "smtp://site.example"), **settings)

    assert said in cli("push", "site", code=78).err


@pytest.mark.parametrize(("content", "mode"), [("s3cret\n", 0o644), ("\n", 0o600), (None, 0)])
def test_a_secret_that_others_may_read_or_that_is_none_is_not_used(hub, cli, config, tmp_path, content, mode):
    hub.seal(letters(1))
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
        secret.chmod(mode)
    with Sink() as sink:
        peer(config, boxed(sink.url), user="hub", secret_file=str(secret), tls="starttls")
        said = cli("push", "site", code=78)

    assert sink.connections == 0
    assert "secret_file" in said.err
    assert "s3cret" not in said.err


def test_the_password_goes_through_tls_to_the_server_of_the_settings(hub, cli, config, tmp_path):
    import ssl

    from support.certificates import certificate

    certificate_file, key = certificate(tmp_path, "mail.site.example")
    secret = tmp_path / "secret"
    secret.write_text("s3cret\nnot this\n")
    secret.chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key)
    hub.seal(letters(1))
    seen = []

    def answer(asked):
        if isinstance(asked.request, Auth):
            seen.append((asked.request.mechanism, asked.request.initial))
            return Reply(235, b"2.7.0", b"in")
        return None

    with Sink(answer, offers=b"STARTTLS\nAUTH PLAIN", tls=context) as sink:
        peer(config, boxed(sink.url), user="hub", secret_file=str(secret), tls="starttls", ca_file=certificate_file)
        cli("push", "site")

    assert (seen, len(sink.taken)) == ([(b"PLAIN", b"AGh1YgBzM2NyZXQ=")], 1)


def test_killed_between_the_dot_and_its_reply(hub, config):
    hold = Hold()
    hub.seal(letters(4))
    with Sink(lambda asked: hold if isinstance(asked.request, EndOfData) and asked.messages == 3 else None) as sink:
        command = [sys.executable, "-m", "bsmtp_batch", "push", "--config", str(config), "--spool", str(hub.spool)]
        child = subprocess.Popen([*command, boxed(sink.url), "site.example"], stdout=subprocess.DEVNULL)
        assert hold.reached.wait(30)
        child.send_signal(signal.SIGKILL)
        child.wait()
        hold.go_on.set()
        with hub.ledger() as ledger:
            assert [message for _, message in ledger.in_doubt()] == [3]
        sink.answer = lambda asked: None
        after = subprocess.run([*command, boxed(sink.url), "site.example"], capture_output=True, text=True, check=True)

    assert "message 3 was in doubt" in after.stdout
    texts = [one.content for one in sink.taken]
    assert [texts.count(one.content) for one in letters(4)] == [1, 1, 2, 1]
    assert len(hub.kept()) == 1


def test_two_pushes_at_once_deliver_once(hub, config):
    hub.seal(letters(3))
    with Sink() as sink:
        command = [sys.executable, "-m", "bsmtp_batch", "push", "--config", str(config), "--spool", str(hub.spool)]
        children = [
            subprocess.Popen([*command, boxed(sink.url), "site.example"], stdout=-3, stderr=-3) for _ in range(3)
        ]
        codes = [child.wait() for child in children]

    assert set(codes) <= {0, 75}
    assert len(sink.taken) == 3
