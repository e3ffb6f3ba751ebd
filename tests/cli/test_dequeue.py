"""The command ``dequeue``: what people and programs are told, and the exit codes they rely on."""

from __future__ import annotations

import json

import pytest
from support.sink import DROP, Connect, Sink

from bsmtp_batch.cli.app import run
from bsmtp_batch.wire.events import Etrn, Reply

ANSWERS = {b"good.example": Reply(250, b"2.0.0", b"begun"), b"bad.example": Reply(459, b"4.7.1", b"who are you?")}


def by_name(asked):
    return ANSWERS.get(asked.request.node) if isinstance(asked.request, Etrn) else None


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "site.example"\nreserve = 0\n')
    return path


@pytest.fixture
def dequeue(config, tmp_path, capsys):
    """Runs the command against a sink: exit code, standard output, standard error."""

    def call(sink, *arguments, host="127.0.0.1", port=None, spool=tmp_path / "none"):
        words = ["-p", port or sink.url.rpartition(":")[2], *arguments]
        code = run(["dequeue", host, *words, "--config", str(config), "--spool", str(spool)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_what_was_begun_and_what_was_refused_go_different_ways(dequeue):
    with Sink(by_name, offers=b"ETRN") as sink:
        at = f"dequeue {sink.url[7:]}:"
        code, out, err = dequeue(sink, "-d", "bad.example", "-d", "good.example", "-d", "bad.example")

    assert (code, out) == (0, f"{at} good.example: it begins to send what waits there (250 2.0.0 begun)\n")
    assert err == f"{at} bad.example: it does not do this for that name (459 4.7.1 who are you?)\n"


def test_programs_get_one_object_per_domain(dequeue):
    with Sink(by_name, offers=b"ETRN") as sink:
        code, out, err = dequeue(sink, "-d", "bad.example", "-d", "good.example", "--json")

    assert [json.loads(line) for line in out.splitlines()] == [
        {"domain": "bad.example", "outcome": "refused", "reply": "459 4.7.1 who are you?"},
        {"domain": "good.example", "outcome": "started", "reply": "250 2.0.0 begun"},
    ]
    assert (code, err) == (0, "")


def test_without_a_domain_the_local_ones_are_asked_for_and_without_those_our_name(dequeue, config):
    with Sink(offers=b"ETRN") as sink:
        dequeue(sink)
        config.write_text(config.read_text() + '[import]\nlocal_domains = ["a.example", "b_c.example"]\n')
        dequeue(sink)

    asked = [request.node for request in sink.requests if isinstance(request, Etrn)]
    assert asked == [b"site.example", b"a.example", b"b_c.example"]


def test_a_node_without_a_domain_in_its_name_has_to_say_whose_mail(dequeue, config):
    config.write_text('[node]\nname = "laptop"\n')
    with Sink() as sink:
        code, _, err = dequeue(sink)

    assert (code, sink.requests) == (64, [])
    assert "add -d DOMAIN" in err


@pytest.mark.parametrize("arguments", [["-d", "a b"], ["-d", ""], ["-d", "-x"]])
def test_what_is_no_domain_is_a_usage_error(dequeue, arguments):
    with Sink() as sink:
        code, _, err = dequeue(sink, *arguments)

    assert (code, sink.requests) == (64, [])
    assert "Nobody was asked" in err


@pytest.mark.parametrize("host", ["", "two words", "user@host", "host:25", "smtp://host", "[::1", "a/b"])
def test_what_is_no_host_is_a_usage_error(dequeue, host):
    with Sink() as sink:
        assert dequeue(sink, "-d", "good.example", host=host)[0] == 64


def test_brackets_round_an_address_are_taken(dequeue):
    with Sink(offers=b"ETRN") as sink:
        assert dequeue(sink, "-d", "good.example", host="[127.0.0.1]")[0] == 0


def test_nobody_there_is_for_later(dequeue):
    with Sink() as sink:
        port = sink.url.rpartition(":")[2]
    code, out, err = dequeue(None, "-d", "good.example", port=port)

    assert (code, out) == (75, "")
    assert err.count("\n") == 1
    assert "no connection: Connection refused" in err


def test_a_dry_run_says_what_would_be_asked_and_asks_nobody(dequeue):
    with Sink() as sink:
        at = sink.url[7:]
        assert dequeue(sink, "-d", "@a.example", "--dry-run")[:2] == (0, f"would ask {at} for the mail of @a.example\n")
        _, out, _ = dequeue(sink, "-d", "@a.example", "--dry-run", "--json")

    assert json.loads(out) == {"domain": "@a.example", "server": at}
    assert sink.connections == 0


def test_status_shows_the_contact_where_there_is_a_spool(dequeue, config, tmp_path, capsys):
    spool = tmp_path / "spool"
    spool.mkdir()
    with Sink(lambda asked: DROP if isinstance(asked.request, Connect) else None) as sink:
        peer = sink.url[7:]
        assert dequeue(sink, "-d", "good.example", spool=spool)[0] == 75

    run(["status", "--json", "--config", str(config), "--spool", str(spool)])
    [contact] = [row for row in map(json.loads, capsys.readouterr().out.splitlines()) if "direction" in row]
    assert (contact["peer"], contact["direction"]) == (peer, "dequeue")
    assert "closed while receiving the greeting" in contact["result"]


def test_a_ledger_that_cannot_be_used_does_not_keep_us_from_asking(dequeue, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "ledger.db").write_text("no ledger")
    with Sink(offers=b"ETRN") as sink:
        code, out, err = dequeue(sink, "-d", "good.example", spool=spool)

    assert (code, out.count("good.example")) == (0, 1)
    assert "will not be in `status`" in err
