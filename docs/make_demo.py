"""Write the output of the demonstration into README.md, so that what is shown there has been seen.

``python docs/make_demo.py`` runs the demo and replaces the marked block; tests/test_docs.py runs it too and fails when
the block differs in more than times, folders and what depends on them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- begin demo -->\n", "<!-- end demo -->\n"
SHOWN_FOLDER = "/tmp/bsmtp-batch-demo"  # noqa: S108 - a name on paper; nothing is made there
SHOWN_COMMAND = "bsmtp-batch"

_CHANGING = [
    (re.compile(r"\d{8}T\d{6}Z"), "<time>"),
    (re.compile(r"\b\d+\.\d seconds"), "<seconds>"),
    (re.compile(r"\b[0-9a-f]{8,}\b"), "<sum>"),
    (re.compile(r"\w{3}, \d\d? \w{3} \d{4} [\d:]{8} [+-]\d{4}"), "<date>"),
]


def pages() -> dict[Path, str]:
    """README.md with a block that was made just now."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return {README: f"{before}{BEGIN}{block()}{END}{after}"}


def block() -> str:
    """What ``./run demo`` prints into a pipe, as a block of Markdown, with short names for the folder and command."""
    with tempfile.TemporaryDirectory() as parent:
        folder = str(Path(parent) / "demo")
        done = subprocess.run(
            [sys.executable, "-m", "bsmtp_batch", "demo", "--dir", folder], capture_output=True, text=True, check=True
        )
    shown = done.stdout.replace(folder, SHOWN_FOLDER).replace(f"{sys.executable} -m bsmtp_batch", SHOWN_COMMAND)
    lines = [line.rstrip() for line in shown.strip().splitlines()]
    return "\n".join(["```", "$ ./run demo", *lines, "```", ""])


def settled(text: str) -> str:
    """``text`` without what differs from run to run."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text


def main() -> None:
    """Write the page."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
