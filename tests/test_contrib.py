"""Contributed files: what they run exists, and the programs they are for can read them."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from support.debian import need, tool

from bsmtp_batch.cli.app import COMMANDS, build
from bsmtp_batch.config import load

CONTRIB = Path(__file__).parent.parent / "contrib"
PROGRAM = "/opt/bsmtp-batch/bin/bsmtp-batch"
SERVICES = sorted((CONTRIB / "systemd").glob("*.service"))
STANDING = ["bsmtp-batch-pull-stay@", "bsmtp-batch-serve"]
TIMERS = sorted((CONTRIB / "systemd").glob("*.timer"))


def unit(path):
    """A unit file; systemd's grammar is that of an ini file as long as no key comes twice."""
    found = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    found.optionxform = str
    found.read_string(path.read_text())
    return found


def commands():
    return typer.main.get_command(build(list(COMMANDS))).commands


@pytest.mark.parametrize("path", SERVICES, ids=lambda p: p.name)
def test_a_service_runs_a_command_that_exists_as_the_owner_of_the_spool(path):
    service = unit(path)["Service"]
    program, verb, *arguments = shlex.split(service["ExecStart"])

    assert program == PROGRAM
    assert verb == re.match(r"bsmtp-batch-([a-z]+)", path.name)[1]
    options = {name for parameter in commands()[verb].params for name in parameter.opts}
    assert {a for a in arguments if a.startswith("-")} <= options
    assert ("%i" in arguments) == ("@" in path.name)
    assert service["User"] == "bsmtp-batch"
    assert service["ReadWritePaths"] == "/var/spool/bsmtp-batch"
    assert (service.get("SuccessExitStatus") == "75") == (path.stem not in STANDING)


def test_every_service_has_its_timer_and_they_shut_the_same_doors():
    """But for what runs all the time; and the daemon may have the ports that it is for."""
    own = {"ExecStart", "Type", "Restart", "RestartSec", "SuccessExitStatus", "RuntimeDirectory"}
    capabilities = {"CapabilityBoundingSet", "AmbientCapabilities"}
    assert [p.stem for p in SERVICES if p.stem not in STANDING] == [p.stem for p in TIMERS]
    assert len(SERVICES) == 7
    shut = [{k: v for k, v in unit(p)["Service"].items() if k not in own | capabilities} for p in SERVICES]
    assert all(one == shut[0] for one in shut)
    allowed = {p.stem: unit(p)["Service"]["CapabilityBoundingSet"] for p in SERVICES}
    assert {stem for stem, capability in allowed.items() if capability} == {"bsmtp-batch-serve"}


def test_systemd_takes_the_units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    for path in [*SERVICES, *TIMERS]:
        text = path.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / path.name.replace("@", "@hub")).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"},
    )  # fmt: skip

    said = [line for line in done.stderr.splitlines() if "bsmtp-batch" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize(
    "path", [p for d in ("cron", "ssh", "systemd") for p in sorted((CONTRIB / d).iterdir())], ids=lambda p: p.name
)
def test_commands_in_the_comments_and_examples_exist(path):
    """Cron lines, forced commands, hints: whatever stands behind the program's name."""
    for verb in re.findall(r"(?:/|\s`?)bsmtp-batch ([a-z]+)\b", path.read_text()):
        assert verb in commands(), f"bsmtp-batch {verb}"


def test_the_example_of_authorized_keys_has_the_form_that_route_key_prints(tmp_path):
    key = "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    (tmp_path / "key.pub").write_text(f"ssh-ed25519 {key} aurora\n")
    command = [sys.executable, "-m", "bsmtp_batch", "route", "key", "aurora.example", tmp_path / "key.pub"]
    printed = subprocess.run([*command, "--spool", tmp_path], capture_output=True, text=True, check=False)
    line = re.search(r"^restrict,.*$", printed.stdout, re.MULTILINE)
    shown = re.search(r"^#k (.*) aurora$", (CONTRIB / "ssh/authorized_keys.example").read_text(), re.MULTILINE)

    assert line, printed.stderr
    made = line[0].replace(f" --spool {tmp_path}", "")
    assert re.sub(r'"\S*/bsmtp-batch ', f'"{PROGRAM} ', made) == shown[1].replace("AAAA...", key) + " aurora"


@pytest.mark.parametrize("name", ["postfix-master.cf", "sendmail.mc", "exim.conf"])
def test_the_settings_for_lmtp_are_settings_and_the_mail_server_looks_where_they_listen(tmp_path, name):
    text = (CONTRIB / name).read_text()
    lines = re.findall(r"^(?:#|dnl )c +(.*)$", text, re.MULTILINE)
    (tmp_path / "settings").write_text("\n".join(lines) + "\n")
    (where,) = load(str(tmp_path / "settings"), spool=str(tmp_path)).serve.lmtp
    kind, _, path = where.partition(":")
    if kind == "unix":
        assert re.search(rf"=bsmtp-lmtp:{re.escape(where)} |A=FILE {re.escape(path)}\n", text)
        directory = unit(CONTRIB / "systemd/bsmtp-batch-serve.service")["Service"]["RuntimeDirectory"]
        assert path.startswith(f"/run/{directory}/")
    else:
        assert f"  hosts = {kind}\n  port = {path}\n" in text


@pytest.mark.real
def test_ssh_keygen_takes_the_example_of_allowed_signers(tmp_path):
    keygen = tool("ssh-keygen")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    public = (tmp_path / "key.pub").read_text().split()[1]
    lines = re.findall(r"^#n (.*)$", (CONTRIB / "ssh/allowed_signers.example").read_text(), re.MULTILINE)
    (tmp_path / "manifest").write_text("{}\n")
    sign = [keygen, "-Y", "sign", "-q", "-f", str(tmp_path / "key"), "-n", "bsmtp-batch", str(tmp_path / "manifest")]
    subprocess.run(sign, check=True, capture_output=True)
    assert len(lines) == 2
    for line in lines:
        (tmp_path / "allowed").write_text(line.replace("AAAA...", public) + "\n")
        verify = [keygen, "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "hub.example"]
        verify += ["-n", "bsmtp-batch", "-s", str(tmp_path / "manifest.sig")]
        done = subprocess.run(verify, input=b"{}\n", capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.real
def test_sshd_takes_the_snippet_and_it_holds_for_the_account(tmp_path):
    """In a namespace with an account file of its own: sshd -T tells what a connection of that user would get."""
    if os.geteuid() != 0:
        need("only root can show sshd another account file")
    sshd, keygen = tool("sshd"), tool("ssh-keygen")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    (tmp_path / "config").write_text(f"HostKey {tmp_path}/host\n" + (CONTRIB / "ssh/sshd_config").read_text())
    (tmp_path / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nsshd:x:65500:65534::/run/sshd:/usr/sbin/nologin\n"
        "bsmtp-batch:x:65501:65534::/var/spool/bsmtp-batch:/bin/sh\n"
    )
    script = (
        'mount --bind "$1/passwd" /etc/passwd && mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/sshd &&'
        ' exec "$2" -T -f "$1/config" -C "user=$3,host=x,addr=127.0.0.1"'
    )

    def settings(user):
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            script,
            "sh",
            tmp_path,
            sshd,
            user,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "unshare" in done.stderr:
            need(f"no namespaces: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    account, other = settings("bsmtp-batch"), settings("root")

    assert account["authorizedkeysfile"] == "/etc/ssh/bsmtp-batch.keys"
    assert account["authenticationmethods"] == "publickey"
    assert (account["disableforwarding"], account["permittty"], account["passwordauthentication"]) == (
        "yes",
        "no",
        "no",
    )
    assert (account["clientaliveinterval"], account["clientalivecountmax"]) == ("15", "4")
    assert int(account["maxsessions"]) >= 3
    assert other["authorizedkeysfile"] != account["authorizedkeysfile"]
    assert other["clientaliveinterval"] == "0"
