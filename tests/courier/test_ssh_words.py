"""What ssh, scp and rsync are called with: pure text, so every word of it is compared."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

from bsmtp_batch.courier.address import address_of
from bsmtp_batch.courier.carriers import Rsync, Scp
from bsmtp_batch.courier.far import unreached
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.overssh import telling
from bsmtp_batch.courier.schemes import courier_for
from bsmtp_batch.courier.ssh import SshFiles, config_text
from bsmtp_batch.edge.process import Child
from bsmtp_batch.errors import Usage

SIX = address_of("scp://bsmtp@[2001:db8::1]:2222/")
NAME = "site.example.00000001.20261122T053300Z.hub.bsmtp"


def settings(text: str) -> list[tuple[str, str]]:
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines()]


def test_an_operator_s_own_settings_come_after_ours_and_so_cannot_undo_them():
    found = settings(config_text(SIX, Options(identity="/etc/key one", known_hosts="/etc/known")))

    keys = [key for key, _ in found]
    assert keys.index("Include") > max(i for i, key in enumerate(keys) if key != "Include")
    values = dict(found[:-2])
    assert values["BatchMode"] == values["StrictHostKeyChecking"] == "yes"
    assert values["IdentityFile"] == '"/etc/key one"'
    assert values["UserKnownHostsFile"] == '"/etc/known"'
    assert (values["User"], values["Port"]) == ("bsmtp", "2222")


def test_without_options_ssh_takes_the_keys_it_takes_by_hand():
    keys = {key for key, _ in settings(config_text(address_of("scp://hub/"), Options()))}

    assert not keys & {"IdentityFile", "IdentitiesOnly", "UserKnownHostsFile", "User", "Port"}


@pytest.mark.parametrize(
    "path", ["relative", "/a\nProxyCommand x", '/a"b', "/a%h", "/a$HOME", "/~x", "/a\\b", "/a\x7f"]
)
def test_a_path_that_could_end_its_line_or_be_expanded_is_refused(path):
    for options in (Options(identity=path), Options(known_hosts=path)):
        with pytest.raises(Usage, match="cannot be told to ssh"):
            config_text(SIX, options)


def test_the_files_of_a_contact_are_nobody_else_s_and_are_gone_after_it():
    with SshFiles(SIX, Options()) as files:
        assert stat.S_IMODE(os.stat(files.directory).st_mode) == 0o700
        assert files.ssh("receive") == [
            "ssh", "-F", files.config, "-o", "ControlMaster=yes", "-T", "--", "2001:db8::1", "receive",
        ]  # fmt: skip
        assert os.path.exists(files.config)
    assert not os.path.exists(files.directory)


def test_a_temporary_directory_that_would_have_to_be_quoted_is_not_used(monkeypatch, tmp_path):
    odd = tmp_path / "with blank"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))

    with SshFiles(SIX, Options()) as files:
        assert " " not in files.shell().removeprefix("ssh -F ")


def test_no_word_of_a_program_can_be_taken_for_an_option_or_a_host():
    with SshFiles(SIX, Options()) as files:
        for carrier in (Scp(), Rsync()):
            for argv in (carrier.send(files, "/a/b", NAME), carrier.fetch(files, NAME, "/a/b")):
                operands = argv[argv.index("--") + 1 :]
                assert set(operands) == {"/a/b", f"[2001:db8::1]:{NAME}"}
                assert all(word.startswith(("-", "/", carrier.program, "ssh -F /")) for word in argv[: -len(operands)])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://hub/", "scheme of this version"),
        ("scp", "scheme of this version"),
        ("scp://hub/path", "names a path"),
        ("rsync://hub/path/", "names a path"),
        ("dir:relative", "absolute path"),
    ],
)
def test_a_url_that_means_nothing_here_says_what_to_write(url, said):
    with pytest.raises(Usage, match=said):
        courier_for(url)


def test_what_a_killed_contact_left_is_removed_by_the_next_and_what_another_uses_is_not(monkeypatch, tmp_path):
    short = tempfile.mkdtemp(prefix="t", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", short)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = f"{short}/bsmtp-batch-{ended.stdout.decode().strip()}-x"
    used = f"{short}/bsmtp-batch-{os.getppid()}-y"
    for directory in (left, used, f"{short}/other-1-z"):
        os.mkdir(directory)

    with SshFiles(SIX, Options()) as files:
        assert sorted(os.listdir(short)) == sorted(map(os.path.basename, (used, files.directory, "other-1-z")))
    shutil.rmtree(short)


@pytest.mark.parametrize(
    ("status", "said", "code", "words"),
    [
        (255, "ssh: connect to host h port 22: Connection refused", 75, "h cannot be reached: ssh: connect"),
        (255, "bsmtp@h: Permission denied (publickey).", 78, "h does not let us in: bsmtp@h"),
        (255, "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nbsmtp@h: Permission denied (publickey).", 78, "chmod 600"),
        (255, "Host key verification failed.", 78, "no host key of h is known"),
        (127, "sh: 1: /opt/x: not found", 78, "is not `bsmtp-batch receive`: sh: 1: /opt/x: not found. Nothing"),
        (1, "/usr/bin/rrsync error: this is not rsync", 78, 'set far = "directory"'),
        (1, "", 78, "is not `bsmtp-batch receive`. Nothing was moved"),
        (78, "bsmtp-batch: no spool: Permission denied. Nothing was moved. Next: make one", 78, "see to it (make one)"),
        (75, "bsmtp-batch: the disk is full. Nothing was moved. Next: wait", 75, "cannot work: the disk is full. Noth"),
    ],
)
def test_who_could_not_be_reached_says_whether_it_was_ssh_or_what_it_started(status, said, code, words):
    script = 'printf \'%s\\n\' "$1" >&2; exit "$2"'
    child = Child(["/bin/sh", "-c", script, "ssh", said, str(status)])
    try:
        problem = unreached(child, address_of("scp://h/"))
    finally:
        child.close()

    assert problem.code == code
    assert words in str(problem)


def test_of_what_a_transfer_said_the_line_is_told_that_names_the_cause():
    end = [
        "rsync: connection unexpectedly closed (0 bytes received so far) [sender]",
        "rsync error: unexplained (code 1)",
    ]
    refusal = "receive s.example: refused: there is no rsync on this machine. Nothing was moved. Next: install it"
    traceback = ["Traceback (most recent call last):", "File x, line 1", "FileNotFoundError: '/usr/bin/rsync'"]

    assert telling([refusal, *end]) == "receive s.example: refused: there is no rsync on this machine"
    assert telling([*traceback, *end]) == "FileNotFoundError: '/usr/bin/rsync'"
    assert telling(["rsync: write failed: No space left on device (28)", refusal, *end]).endswith("device (28)")
    assert telling(end) == end[0]
    assert telling([]) == ""
