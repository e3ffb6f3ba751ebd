"""What is started when mail travels over ssh, seen by the kernel: no shell on our side, and no word out of a message.

The far side's login shell is sshd's own doing; what stands below it is looked at, too.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from support import strace
from support.fragments import put, text
from support.pair import SITE, Pair, seal
from support.sshd import RECEIVE, Sshd

pytestmark = pytest.mark.real

EVIL = "evil-from-mail"
SENDER = f"-oProxyCommand={EVIL}@x.example"
RECIPIENTS = (
    f'"; touch {EVIL}; "@y.example',
    f'"$(touch${{IFS}}{EVIL})"@y.example',
    f"$IFS${{HOME}}{EVIL}@y.example",
    f"`{EVIL}`@y.example",
    f"|{EVIL}@y.example",
    f"--rsh={EVIL}@y.example",
    f"../../{EVIL}@y.example",
    f'"{EVIL} > /tmp/{EVIL} & {EVIL}"@y.example',
    f'"*?[a]{{{EVIL},b}}"@y.example',
    f"*?{{{EVIL}}}@y.example",
)
BODY = (
    f"Subject: `{EVIL}` $({EVIL})\r\nFrom: '{EVIL}'; {EVIL} <{EVIL}@x>\r\n\r\n~{EVIL} && {EVIL}\r\n"
    f"ACK {EVIL}\r\nquit\r\n"
).encode()
SHELLS = re.compile(r"/(?:ba|da|z|k|c|tc|fi|a)?sh$|/busybox$")
"""Interpreters of command lines by the last part of their path."""


def hand_in(pair: Pair) -> None:
    """One message each way that holds, wherever it can, what a shell or a program would make something of."""
    for route, node in ((pair.up, "site"), (pair.down, "hub")):
        put(route, text(SENDER, *RECIPIENTS, body=BODY))
        seal(route, node=node)


def executions(log: Path) -> list[tuple[str, list[str]]]:
    """Path and arguments of every successful execve in a log."""
    found = []
    for call in strace.parse(log):
        if call.name == "execve" and not call.failed:
            told = re.match(r'"(.*?)", \[(.*?)\], 0x', call.text)
            assert told, call.text
            found.append((told[1], re.findall(r'"((?:[^"\\]|\\.)*)"', told[2])))
    return found


def tracing(log: Path) -> list[str]:
    """strace for all that is started, with words of any length."""
    return [strace.binary(), "-f", "-s", "100000", "-e", "trace=execve,execveat", "-o", str(log)]


def program(path: str) -> str:
    """The name of a program without its version."""
    return re.sub(r"[0-9.]+$", "", os.path.basename(path))


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("verb", ["push", "pull"])
@pytest.mark.parametrize("scheme", ["scp", "rsync"])
def test_no_shell_is_started_and_no_word_comes_from_mail(
    sshd: Sshd, tmp_path: Path, scheme: str, verb: str, compression: str
) -> None:
    pair = Pair(sshd, tmp_path / "pair", scheme)
    hand_in(pair)
    near, far = tmp_path / "near", tmp_path / "far"
    # One log per session: the forced command is started for the conversation, and again for each file.
    script = f'exec {shlex.join(tracing(far)[:-1])} "$0.$$" "$@"'
    receive = ["env", f"BSMTP_BATCH_PATH={sshd.path}", *RECEIVE, SITE, "--spool", pair.hub.path]
    pair.key = sshd.authorize(f"trace.{verb}", "/bin/sh", "-c", script, far, *receive)
    config = f'[peer.hub]\nurl = "{pair.url}"\ncompression = "{compression}"\n'

    pair.run(verb, before=tracing(near), config=config, to="hub")

    inbox = Path(pair.hub.path, f"in/{SITE}/new") if verb == "push" else Path(pair.site.path, "in/hub/new")
    (arrived,) = inbox.glob("*.bsmtp")
    assert EVIL.encode() in arrived.read_bytes()
    ours = executions(near)
    theirs = [found for log in tmp_path.glob("far.*") for found in executions(log)]
    assert {program(path) for path, _ in ours} == {"python", "ssh", scheme}
    assert {program(path) for path, _ in theirs} == {"env", "python", scheme}
    for path, words in [*ours, *theirs]:
        assert not SHELLS.search(path) and program(path) not in ("sh", "bash", "dash"), path
        assert not any(EVIL in word or "@x.example" in word or "Subject" in word for word in words), words
    for log in [near, *tmp_path.glob("far.*")]:
        assert EVIL not in log.read_text()
    operands = {word for path, words in ours if program(path) == scheme for word in words[words.index("--") + 1 :]}
    assert {re.sub(r"^.*[:/]|\.(?:part|gz)", "", word) for word in operands} == {arrived.name}
    assert not [p for p in [*tmp_path.rglob("*"), *sshd.account_home.iterdir()] if EVIL in p.name]
