"""The fixtures of ``support/handin.py``."""

from support.handin import either, hand_in, programs, spool

__all__ = ["either", "hand_in", "programs", "spool"]
