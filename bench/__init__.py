"""What is fast, against what: ``python -m bench`` (see ``__main__.py``)."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the package under test, and the helpers of its tests
