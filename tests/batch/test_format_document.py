"""The examples in docs/FORMAT.md are what the program reads and writes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from support.wirefiles import faults, messages, read

from bsmtp_batch.batch.events import Severity
from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.cli.app import run

PAGE = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BATCH = next(block for block in BLOCKS if block.startswith("EHLO")).replace("\n", "\r\n").encode()
MANIFEST = next(block for block in BLOCKS if block.startswith('{"bytes"')).encode()
SHOWN = next(block for block in BLOCKS if block.startswith('{"message"'))


def test_the_batch_is_one_and_its_manifest_agrees():
    events, summary = read(BATCH, Severity.STRICT)

    assert not faults(events)
    assert len(messages(events)) == 2
    digest = hashlib.sha256(BATCH).hexdigest()
    assert Manifest.from_bytes(MANIFEST).matches(len(BATCH), digest, summary.messages, summary.recipients) is None


def test_show_prints_what_the_page_says(tmp_path, capsys):
    (tmp_path / "batch").write_bytes(BATCH)

    assert run(["show", str(tmp_path / "batch"), "--json"]) == 0

    assert capsys.readouterr().out.splitlines()[0] == SHOWN.strip()
    assert json.loads(SHOWN)["message"] == 1
