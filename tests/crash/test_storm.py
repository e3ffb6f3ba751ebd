"""Everything at once on two nodes, a third of it killed: the small form of ``bench/storm.py``, which says more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from storm import Storm


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["pipe", "LMTP"])
def test_a_small_storm_loses_doubles_and_tears_nothing_and_tells_no_lie(tmp_path, way):
    messages = 16 if way == "pipe" else 10  # the server has to come up again and again, and the rest is the same
    figures = Storm(tmp_path, messages=messages, routes=2, writers=4, seed=7, lmtp=way == "LMTP").run()

    assert figures.good, figures
    killed = "deliver -9" if way == "pipe" else "serve -9"
    assert figures.ends[killed], "nothing was killed: this was no storm"
