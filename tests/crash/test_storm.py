"""Everything at once on two nodes, a third of it killed: the small form of ``bench/storm.py``, which says more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from storm import Storm


@pytest.mark.timeout(240)
def test_a_small_storm_loses_doubles_and_tears_nothing_and_tells_no_lie(tmp_path):
    figures = Storm(tmp_path, messages=16, routes=2, writers=4, seed=7).run()

    assert figures.good, figures
    assert figures.ends["deliver -9"], "nothing was killed: this was no storm"
