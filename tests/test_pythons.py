"""What one Python refuses, another must not take: Debian 12 has 3.11.2, whose ``re`` has a fault of its own."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bsmtp_batch
from bsmtp_batch.batch.events import Fault, Message, Severity
from bsmtp_batch.batch.reader import Reader

READ = """
import json, sys
from bsmtp_batch.batch.events import Message, Severity
from bsmtp_batch.batch.reader import Reader
found = []
for data in json.load(sys.stdin):
    reader = Reader(Severity.STRICT)
    events = reader.feed(data.encode()) + reader.close()
    found.append([type(event).__name__ for event in events])
print(json.dumps(found))
"""
ODD = [
    *("<a@b.>", "<a@>", "<a@b..c>", "<@b>", "<> ", "<a@b> ", "<a@b>  X", "<a@b", "<a@b>>"),
    *("<a@b> NOTIFY=NEVER,", "<a@b> ORCPT=rfc822;", "<a@b> SIZE=", "<a@b> BODY=8BITMIMEX", "<a@b.> SIZE=1"),
]


def batch(reverse: str, forward: str, text: str = "Subject: x\r\n\r\nhi\r\n") -> str:
    """One message with paths, and what follows them, as they are given."""
    return f"EHLO hub.example\r\nMAIL FROM:{reverse}\r\nRCPT TO:{forward}\r\nDATA\r\n{text}.\r\nQUIT\r\n"


def sound_and_odd() -> list[str]:
    """Batches that end in every way a command can be wrong in, and sound ones."""
    sound = [batch("<>", "<a@b>"), batch("<a@b.c> SIZE=3", "<d@e> NOTIFY=NEVER"), batch("<a@b>", "<c@d>", "..x\r\n")]
    texts = [batch("<a@b>", "<c@d>", text) for text in ("x\r\n.y\r\n", "x\ny\r\n", "x\ry\r\n", "x\0\r\n", "x" * 2000)]
    odd_one = batch("<a@b.>", "<c@d>").removeprefix("EHLO hub.example\r\n")
    twice = [one.removesuffix("QUIT\r\n") + odd_one for one in sound]
    return [*sound, *texts, *twice, *(batch(odd, "<c@d>") for odd in ODD), *(batch("<c@d>", odd) for odd in ODD)]


def others() -> Iterator[str]:
    """Other Pythons of this machine that can run us."""
    names = ["/usr/bin/python3", *(f"python3.{minor}" for minor in range(11, 20))]
    seen = {sys.version}
    for path in filter(None, map(shutil.which, names)):
        asked = [path, "-c", "import sys; print(sys.version)"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        version = told.stdout.removesuffix("\n")
        if told.returncode == 0 and version not in seen and int(version.split(".")[1]) >= 11:
            seen.add(version)
            yield path


def read_by(python: str) -> list[list[str]]:
    """What the Python at that path finds in each of the batches."""
    done = subprocess.run(
        [python, "-S", "-P", "-c", READ],
        input=json.dumps(sound_and_odd()),
        env={"PYTHONPATH": str(Path(bsmtp_batch.__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_what_one_python_refuses_another_does_not_take() -> None:
    found = read_by(sys.executable)
    assert [Message.__name__] in found
    assert [Fault.__name__] in found

    pythons = list(others())
    for path in pythons:
        assert read_by(path) == found, path
    if not pythons:
        pytest.skip("there is no second Python 3.11 or newer on this machine")


@pytest.mark.parametrize("odd", ODD)
def test_a_path_that_is_none_is_refused_in_every_place(odd: str) -> None:
    for data in (batch(odd, "<c@d>"), batch("<c@d>", odd)):
        reader = Reader(Severity.STRICT)
        assert not any(isinstance(event, Message) for event in reader.feed(data.encode()) + reader.close())


def test_no_pattern_repeats_possessively() -> None:
    """Before 3.11.5 such a pattern matches what it must not (python/cpython#106052)."""
    found = set(patterns())
    assert len(found) > 20
    parser = importlib.import_module("re._parser")
    for pattern in found:
        said = repr(parser.parse(pattern.pattern, pattern.flags))
        assert "POSSESSIVE" not in said, pattern
        assert "ATOMIC" not in said, pattern


def patterns() -> Iterator[re.Pattern[bytes] | re.Pattern[str]]:
    """The patterns of all modules of the package."""
    for module in pkgutil.walk_packages(bsmtp_batch.__path__, "bsmtp_batch."):
        if module.name.endswith(("__main__", "deliver.stub")):
            continue  # programs
        for value in vars(importlib.import_module(module.name)).values():
            owner = getattr(value, "__self__", value)
            if isinstance(owner, re.Pattern):
                yield owner
