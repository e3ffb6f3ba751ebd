"""pull odmr://, run as an operator or a timer runs it: what is collected, what goes up, what the exit code says."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.dispatching import Hub as Node
from support.importing import letters
from support.odmr_hub import Hub, Plan
from support.sink import EndOfData, Sink

from bsmtp_batch.cli.app import run
from bsmtp_batch.wire.events import Reply

STAYS = (b"ATRN", b"XSTAY", b"AUTH CRAM-MD5")


@pytest.fixture
def node(tmp_path):
    """A site with a route whose mail goes up."""
    return Node(tmp_path / "spool", "out.example")


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("password\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "site.example"\nreserve = 0\n')
    return path


@pytest.fixture
def cli(node, config, capsys):
    def call(*arguments, code=0):
        found = run([*arguments, "--config", str(config), "--spool", str(node.spool)])
        said = capsys.readouterr()
        assert found == code, said
        return said

    return call


def peer(config, hub, secret, more="", **settings):
    """Settings with the peer ``provider``, and ``more`` sections."""
    found = {"url": f"odmr://aurora@127.0.0.1:{hub.port}/", "tls": "none", "secret_file": secret, **settings}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in found.items())
    config.write_text(config.read_text() + f"[peer.provider]\n{lines}{more}")


def stored(node, origin="provider"):
    return sorted(Path(f"{node.spool}/in/{origin}/new").glob("*.bsmtp"))


def test_a_timer_collects_what_waits_and_then_nothing(node, cli, config, secret):
    with Hub(Plan(letters=letters(2)), Plan(atrn=b"453 nothing")) as hub:
        peer(config, hub, secret)
        first, second = cli("pull"), cli("pull", "provider")

    assert len(stored(node)) == 2
    assert "2 messages (" in first.out
    assert "taken" in first.out
    assert "nothing waits" in second.out


def test_a_url_is_enough_and_its_host_names_the_origin(node, cli, secret):
    plan = Plan(letters=letters(1))
    with Hub(plan) as hub:
        url = f"odmr://aurora@127.0.0.1:{hub.port}/"
        cli("pull", url, "a.example", "b.example", "--tls", "none", "--secret-file", secret)

    assert plan.asked[-1] == b"ATRN a.example,b.example"
    assert len(stored(node, "127.0.0.1")) == 1


def test_without_tls_in_sight_nothing_is_said_unless_that_was_asked_for(node, cli, secret):
    plan = Plan(letters=letters(1))
    with Hub(plan) as hub:
        said = cli("pull", f"odmr://aurora@127.0.0.1:{hub.port}/", "--secret-file", secret, code=75)

    assert plan.asked == [b"EHLO site.example"]
    assert "STARTTLS" in said.err


def test_the_mail_of_the_peers_routes_goes_up_in_the_same_contact(node, cli, config, secret):
    [name] = node.seal(letters(2))
    plan = Plan(letters=letters(1))
    with Hub(plan) as hub:
        peer(config, hub, secret, routes=["out.example"], domains=["a.example"])
        said = cli("pull")

    assert hub.connections == 1
    assert len(plan.up) == 2
    assert plan.asked[-1] == b"ATRN a.example"
    assert f"batch {name} sent" in said.out
    assert node.kept() == [name]
    assert len(stored(node)) == 1


def test_receive_only_leaves_ours_here(node, cli, config, secret):
    [name] = node.seal(letters(2))
    plan = Plan(letters=letters(1))
    with Hub(plan) as hub:
        peer(config, hub, secret, routes=["out.example"])
        cli("pull", "provider", "--receive-only")

    assert plan.up == []
    assert node.ready() == [name]


def test_a_wrong_setting_stands_out_in_status_until_it_is_mended(node, cli, config, secret, monkeypatch):
    with Hub(Plan(auth=b"535 5.7.8 no"), Plan(atrn=b"453 nothing")) as hub:
        peer(config, hub, secret)
        said = cli("pull", code=78)
        assert "settings to be changed" in said.err
        shown = cli("status")
        (row,) = (row for row in map(json.loads, cli("status", "--json").out.splitlines()) if "peer" in row)
        assert "settings, see below" in shown.out
        assert row["code"] == 78
        assert "535" in row["result"]
        cli("pull")
        assert "settings" not in cli("status").out


def test_direct_mail_is_answered_by_the_server_here(node, cli, config, secret):
    refused = Plan(letters=letters(1))
    with (
        Hub(refused) as hub,
        Sink(lambda a: Reply(554, b"5.6.0", b"no") if isinstance(a.request, EndOfData) else None) as mta,
    ):
        peer(config, hub, secret, f'[import]\nto = "{mta.url}"\n')
        cli("pull", "--direct", code=75)
    with Hub(Plan(letters=letters(3))) as hub, Sink() as mta:
        url = f"odmr://aurora@127.0.0.1:{hub.port}/"
        cli("pull", url, "--direct", "--to", mta.url, "--tls", "none", "--secret-file", secret)

    assert refused.verdicts[0].startswith(b"554 5.6.0 no")
    assert len(mta.taken) == 3
    assert stored(node) == []


def test_a_dry_run_reaches_nobody(node, cli, config, secret):
    node.seal(letters(1))
    with Hub() as hub:
        peer(config, hub, secret, routes=["out.example"])
        said = cli("pull", "--dry-run")
        rows = cli("pull", "--dry-run", "--json").out

    assert hub.connections == 0
    assert "would hand in out.example: 1 batch" in said.out
    assert "would collect from odmr://aurora@127.0.0.1" in said.out
    assert len(rows.splitlines()) == 2


def test_programs_read_a_row_for_each_message_and_one_for_the_contact(node, cli, config, secret):
    with Hub(Plan(letters=letters(2))) as hub:
        peer(config, hub, secret)
        rows = [json.loads(line) for line in cli("pull", "--json").out.splitlines()]

    assert [row["kind"] for row in rows] == ["message", "message", "taken"]
    assert rows[-1]["messages"] == 2


def test_push_says_how_mail_goes_up(cli, config, secret):
    with Hub() as hub:
        peer(config, hub, secret)
        assert "pull from it" in cli("push", "provider", code=64).err
        assert cli("push").out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pull", "--stay"], "is for one peer"),
        (["pull", "dir:/x", "--stay"], "provider that sends messages"),
        (["pull", "dir:/x", "--secret-file", "/x"], "it is for odmr:// only"),
        (["pull", "odmr://u:p@h/"], "no name of an account"),
        (["pull", "odmr://u@h/"], "no password"),
        (["pull", "odmr://h/", "nodot"], "cannot be asked for"),
        (["pull", "odmr://h/", "--tls", "perhaps"], "write one of"),
        (["pull", "odmr://h/", "--identity", "/x"], "without ssh"),
        (["pull", "odmr://h/", "--stay", "--max-bytes", "1k"], "a standing pull does not"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(cli, arguments, said):
    assert said in cli(*arguments, code=64).err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls": "opportunistic"}, "peer.provider.tls"),
        ({"user": "x"}, "not in both"),
        ({"key_file": "/k"}, "set cert_file too"),
        ({"url": "odmr://h/x"}, "odmr://user@host:366/"),
        ({"url": "dir:/x", "tls": "opportunistic", "domains": ["a.example"]}, "odmr:// one"),
    ],
)
def test_settings_that_contradict_each_other_are_named(cli, config, settings, said):
    with Hub() as hub:
        peer(config, hub, "/etc/secret", **settings)
    assert said in cli("status", code=78).err


def test_a_standing_pull_imports_each_message_as_it_comes_and_ends_on_sigterm(node, config, secret):
    plan = Plan(offers=STAYS, more=queue.Queue())
    with Hub(plan) as hub, Sink() as mta:
        peer(config, hub, secret, f'[import]\nto = "{mta.url}"\nlocal_domains = ["site.example"]\n')
        command = [sys.executable, "-m", "bsmtp_batch", "pull", "provider", "--stay", "--config", str(config)]
        process = subprocess.Popen([*command, "--spool", str(node.spool)], stdout=subprocess.PIPE, text=True)
        try:
            for number, letter in enumerate(letters(5), 1):
                plan.more.put(letter)
                until = time.monotonic() + 30
                while len(mta.taken) < number:
                    assert time.monotonic() < until
                    time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=40)
        finally:
            process.kill()
            process.wait()

    assert process.returncode == 0
    assert plan.letters == []
    assert out.count("a message of") == 5
    assert not stored(node)
