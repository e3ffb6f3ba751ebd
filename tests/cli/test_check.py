"""check: everything that is wrong at once, and no promise that does not hold left unsaid."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from bsmtp_batch.cli.app import run
from bsmtp_batch.cli.findings import RSYNC
from bsmtp_batch.spool.groups import Entry, GroupWriter, drain
from bsmtp_batch.spool.names import fragment_name, key_of


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    """Programs as they should be; a test takes one away or makes it old."""
    path = tmp_path / "programs"
    path.mkdir()
    for name in ("ssh", "scp", "ssh-keygen", "zstd", "rsync"):
        (path / name).write_text(f"#!/bin/sh\necho 'rsync  version {'.'.join(map(str, RSYNC))}  protocol version 32'\n")
        (path / name).chmod(0o755)
    monkeypatch.setenv("BSMTP_BATCH_PATH", str(path))
    return path


@pytest.fixture
def spool(tmp_path):
    path = tmp_path / "spool"
    assert run(["route", "add", "a.example", "--spool", str(path)]) == 0
    os.chown(path, *(65534, 65534) if os.geteuid() == 0 else (-1, -1))
    path.chmod(0o700)
    return path


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.mkdir()
    (path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    (path / "id").chmod(0o600)
    for name in ("id.pub", "known", "signers"):
        (path / name).write_text("x")
        (path / name).chmod(0o644)
    return path


@pytest.fixture
def check(tmp_path, capsys, spool, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.cli.common.become_owner", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(spool).st_uid)

    def call(text, *flags, code=0):
        config = tmp_path / "node.toml"
        config.write_text(text)
        capsys.readouterr()
        found = run(["check", "--config", str(config), "--spool", str(spool), *flags])
        said = capsys.readouterr()
        assert found == code, said
        assert said.err == ""
        return said.out.replace(f"{config}:", "").splitlines()

    return call


def test_good_settings_get_one_line(check, keys):
    text = (
        f'[node]\nsigning_key = "{keys}/id"\nallowed_signers = "{keys}/signers"\n[route."a.example"]\nkeep = "1w"\n'
        f'[peer.hub]\nurl = "rsync://u@h/"\nidentity = "{keys}/id"\nknown_hosts = "{keys}/known"\n'
        'compression = "zstd"\nsignature = "required"\nroutes = ["a.example"]\n'
    )

    (line,) = check(text)

    assert line.startswith("check: nothing to complain about in /")
    assert check(text, "--json") == []


def test_every_fault_of_the_file_stands_on_its_own_line(check, tmp_path):
    text = '[node]\nnamee = "x"\n[peer.hub]\nurl = "scp://-x/"\nwindow = "now"\n'

    lines = check(text, code=78)

    assert [line.split(" ")[1] for line in lines] == ["2:1:", "4:1:", "5:1:"]
    assert all(line.startswith("error: ") for line in lines)
    rows = [json.loads(line) for line in check(text, "--json", code=78)]
    assert [(row["level"], row["place"]) for row in rows] == [("error", p) for p in ("2:1", "4:1", "5:1")]


def test_faults_stand_on_lines_of_their_own_for_every_command(tmp_path, capsys):
    config = tmp_path / "node.toml"
    config.write_text('[node]\nnamee = "x"\n[peer."a\\n\\u001b[2J"]\nurl = "ftp:x"\n')

    assert run(["status", "--config", str(config)]) == 78

    told = capsys.readouterr().err.splitlines()
    assert len(told) == 5
    assert told[0] == "bsmtp-batch: the settings cannot be used:"
    assert [line for line in told if line.startswith(f"  {config}:2:1: node.namee")]
    assert all(line.isprintable() for line in told)


@pytest.mark.parametrize(
    ("text", "place", "told", "remedy"),
    [
        ('[peer.x]\nurl = "dir:/m"\nreceipt = "copied"', "3:1", "nobody has said is safe", "bsmtp-batch receive"),
        ('[peer.x]\nurl = "rsync://u@h/d"\nfar = "directory"', "3:1", "nobody there checks", "forced command"),
        ('[peer.x]\nallowed_signers = "{keys}/signers"', "1:1", "without one is taken", 'signature = "required"'),
        ('[node]\nallowed_signers = "{keys}/signers"\n[peer.x]\nurl = "dir:/m"', "3:1", "without one is taken", "set"),
        ('[route."b.example"]\nkeep = 1', "1:1", "no such route", "bsmtp-batch route add b.example"),
        ('[serve]\nlmtp_route = "b.example"', "2:1", "stays with the MTA", "bsmtp-batch route add b.example"),
        ('[serve]\nlmtp = ["unix:/nowhere/lmtp"]', "2:1", "no directory /nowhere now", "install -d -o bsmtp-batch"),
        ('[peer.x]\nurl = "dir:/m"\nroutes = ["b.example"]', "3:1", "b.example is no route here", "route add"),
    ],
)
def test_what_is_not_promised_is_a_warning_where_it_is_set(check, keys, text, place, told, remedy):
    (line,) = check(text.format(keys=keys))

    assert line.startswith(f"warning: {place}: ")
    assert told in line
    assert remedy in line.partition(" Next: ")[2]


@pytest.mark.parametrize("setting", ["identity", "known_hosts", "allowed_signers"])
def test_a_file_that_a_peer_needs_and_that_is_not_there_is_an_error(check, setting):
    (*_, line) = sorted(check(f'[peer.x]\nurl = "scp://u@h/"\n{setting} = "/nowhere"\n', code=78), reverse=True)

    assert line.startswith(f"error: 3:1: peer.x.{setting}: /nowhere cannot be read by ")


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ('[serve]\nodmr = ["*:1366"]\ncertificate = "/nowhere"\n', "serve.certificate"),
        ('[serve]\nodmr = ["*:1366"]\ncertificate = "{keys}/known"\nkey = "/nowhere"\n', "serve.key"),
        ('[peer.x]\nurl = "odmr://u@h/"\nsecret_file = "/nowhere"\n', "peer.x.secret_file"),
    ],
)
def test_a_file_that_odmr_needs_and_that_is_not_there_is_an_error(check, keys, text, setting):
    (line,) = check(text.format(keys=keys), code=78)

    assert line.startswith("error: ")
    assert f"{setting}: " in line
    assert "No such file" in line


def test_a_password_that_everybody_can_read_is_an_error_since_pull_takes_none_like_that(check, keys):
    (line,) = check(f'[peer.x]\nurl = "odmr://u@h/"\nsecret_file = "{keys}/known"\n', code=78)

    assert "everybody on this machine may read it" in line


def test_an_account_that_cannot_log_in_or_whose_refusals_nobody_hears_of_is_told(check, tmp_path):
    text = f'[node]\nsecrets = "{tmp_path}/secrets"\n[account.aurora]\nroutes = ["a.example"]\n'

    assert [line.partition(" Next: ")[2].split()[0] for line in check(text)] == ["bsmtp-batch", "name"]
    (line,) = check(text + '[import]\nto = "smtp://127.0.0.1:25"\n')
    assert "account.aurora: there is no secret for it" in line


def test_errors_come_first_and_warnings_are_told_all_the_same(check):
    lines = check('[peer.a]\nurl = "dir:/m"\nreceipt = "copied"\n[node]\nsigning_key = "/nowhere"\n', code=78)

    assert [line.split(":")[0] for line in lines] == ["error", "warning"]


def test_a_directory_in_the_place_of_a_key_is_an_error(check, keys):
    (line,) = check(f'[node]\nsigning_key = "{keys}"\n', code=78)

    assert "error: 2:1: node.signing_key" in line


@pytest.mark.parametrize(
    ("file", "mode", "setting", "told"),
    [
        ("id", 0o640, "identity", "chmod 600"),
        ("id", 0o604, "identity", "chmod 600"),
        ("id.pub", 0o644, "identity", ""),
        ("known", 0o664, "known_hosts", "chmod go-w"),
        ("known", 0o646, "known_hosts", "chmod go-w"),
        ("known", 0o644, "known_hosts", ""),
    ],
)
def test_a_key_that_others_can_read_or_a_list_that_they_can_write_is_told(check, keys, file, mode, setting, told):
    (keys / file).chmod(mode)

    (line,) = check(f'[peer.x]\nurl = "scp://u@h/"\n{setting} = "{keys}/{file}"\n')

    assert line.startswith(f"warning: 3:1: peer.x.{setting}: " if told else "check: nothing")
    assert told in line


@pytest.mark.parametrize(
    ("program", "text", "setting"),
    [
        ("rsync", '[peer.x]\nurl = "rsync://u@h/"\n', "peer.x.url"),
        ("scp", '[peer.x]\nurl = "scp://u@h/"\n', "peer.x.url"),
        ("ssh", '[peer.x]\nurl = "scp://u@h/"\n', "peer.x.url"),
        ("ssh", '[peer.x]\nurl = "rsync://u@h/"\n', "peer.x.url"),
        ("ssh-keygen", '[node]\nsigning_key = "{keys}/id"\n', "node.signing_key"),
        (
            "ssh-keygen",
            '[peer.x]\nurl = "dir:/m"\nsignature = "required"\nallowed_signers = "{keys}/signers"\n',
            "peer.x.allowed_signers",
        ),
    ],
)
def test_a_program_that_is_needed_and_missing_is_an_error(check, programs, keys, program, text, setting):
    (programs / program).unlink()

    (line,) = check(text.format(keys=keys), code=78)

    assert f": {setting}: the program {program} is needed" in line
    assert line.startswith("error: ")


def test_programs_that_nobody_needs_are_not_missed(check, programs):
    for path in programs.iterdir():
        path.unlink()

    assert "nothing to complain about" in check('[peer.x]\nurl = "dir:/m"\n')[0]


def test_zstd_needs_a_library_or_a_program(check, programs, monkeypatch):
    text = '[peer.x]\nurl = "scp://u@h/"\ncompression = "zstd"\n'
    monkeypatch.setattr("bsmtp_batch.edge.inflate.zstd_library", lambda: None)
    assert "nothing" in check(text)[0]

    (programs / "zstd").unlink()

    (line,) = check(text, code=78)
    assert line.startswith("error: 3:1: peer.x.compression: zstd")


@pytest.mark.parametrize(
    ("version", "told"),
    [("3.4.9", "rsync 3.4.9 is old"), ("2.9.10", "rsync 2.9.10 is old"), ("3.10.0", ""), ("odd", "cannot be told")],
)
def test_an_old_rsync_is_a_warning(check, programs, version, told):
    (programs / "rsync").write_text(f"#!/bin/sh\necho 'rsync  version {version}  protocol version 31'\n")

    (line,) = check('[peer.x]\nurl = "rsync://u@h/"\n')

    assert line.startswith("warning: 2:1: peer.x.url: " if told else "check: nothing")
    assert told in line


def test_an_old_rsync_is_a_warning_where_customers_come_for_it_too(check, programs):
    (programs / "rsync").write_text("#!/bin/sh\necho 'rsync  version 3.2.7  protocol version 31'\n")

    (line,) = check('[peer."site.example"]\nsignature = "optional"\n')

    assert line.startswith("warning: 1:1: peer.site.example: rsync 3.2.7 is old")


def test_a_spool_that_others_own_or_write_is_a_warning(check, spool, monkeypatch):
    spool.chmod(0o770)
    (line,) = check("[node]\n")
    assert "others can write in" in line
    assert line.startswith("warning: 1:1: node.spool")
    spool.chmod(0o700)
    owner = os.stat(spool).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    (line,) = check("")
    assert "belongs to somebody else" in line


def test_a_spool_that_is_missing_is_a_warning_with_the_way_to_make_one(check, spool):
    (line,) = check("", "--spool", f"{spool}/nowhere")

    assert f"there is no spool at {spool}/nowhere" in line
    assert "route add" in line


def test_it_changes_nothing_and_makes_no_spool(check, spool):
    before = sorted(p.name for p in spool.rglob("*"))

    check('[peer.x]\nurl = "scp://u@h/"\n')

    assert sorted(p.name for p in spool.rglob("*")) == before


def test_without_a_settings_file_the_defaults_are_looked_at(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bsmtp_batch.config_basics.DEFAULT_FILE", str(tmp_path / "none.toml"))

    assert run(["check", "--spool", str(tmp_path / "none")]) == 0

    assert capsys.readouterr().out.startswith("warning: no settings file: node.spool: there is no spool")


def test_a_directory_of_groups_that_cannot_be_used_is_an_error(check, spool):
    (spool / "groups").write_text("")
    (line,) = [one for one in check("", code=78) if "groups" in one]
    assert line.startswith("error: ") and "LMTP takes nothing" in line


def test_mail_that_is_stuck_in_a_group_is_told(check, spool):
    data = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n"
    digest = hashlib.sha256(data)
    name = fragment_name(key_of(b"Q1", digest.digest()), digest.hexdigest())
    writer = GroupWriter(str(spool))
    writer.commit([Entry("gone.example", name, data)])
    writer.close()
    assert [line for line in check("") if "gone.example" in line] == []
    drain(str(spool))
    (spool / "groups" / ("0" * 24 + ".odd")).write_text("x")

    told = check("")

    assert len([line for line in told if "route add gone.example" in line]) == 1
    assert len([line for line in told if ".odd" in line and "damaged spool" in line]) == 1
