"""One daemon for both sides of a hub: what the mail server hands in by LMTP is at a site with a standing line soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

from support.lmtp import Client, until
from support.served import HubProgram
from support.smtp_sink import RecordingServer


@contextmanager
def standing(home, hub, target):
    """The site's `pull --stay`, which gives all mail to ``target``."""
    (home / "secret").write_text(hub.secrets["site"] + "\n")
    (home / "secret").chmod(0o600)
    (home / "site").mkdir()
    environment = {**os.environ, "BSMTP_BATCH_SPOOL": str(home / "site")}
    words = ["pull", f"odmr://site@127.0.0.1:{hub.port}/", "--stay", "--tls", "none", "--to", target]
    command = [sys.executable, "-m", "bsmtp_batch", *words, "--secret-file", str(home / "secret")]
    pull = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield
    finally:
        pull.send_signal(signal.SIGTERM)
        said = pull.communicate(timeout=30)[1]
    assert pull.returncode == 0, said


def test_mail_taken_by_lmtp_reaches_a_site_that_stays_on_the_line_once(tmp_path):
    path = tmp_path / "lmtp"
    with (
        HubProgram(tmp_path, "site", serve=f'lmtp = ["unix:{path}"]') as hub,
        RecordingServer() as server,
        standing(tmp_path, hub, server.url),
    ):
        mta = Client(str(path))
        mta.reply()
        mta.hello()
        for number in range(30):
            text = b"Subject: number %d\r\n\r\n..dot\r\n" % number
            (said,) = mta.hand_in(text, b"b%d@site.example" % number)
            assert said.startswith(b"250 "), said
            if number % 10 == 0:  # one by one, and then a few at a time
                until(lambda n=number: len(server.messages) > n)
        until(lambda: len(server.messages) >= 30)
        mta.close()
    arrived = Counter(message.content for message in server.messages)
    assert arrived == Counter(b"Subject: number %d\r\n\r\n.dot\r\n" % number for number in range(30))
