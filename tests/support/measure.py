"""Runs a program and notes the memory it took: ``python measure.py LOG PROGRAM [ARGUMENT]...``.

A line of LOG is the largest resident set, in KiB, of the program or of any process it has waited for.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

if __name__ == "__main__":
    status = subprocess.call(sys.argv[2:])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open(sys.argv[1], "a", encoding="ascii") as log:
        log.write(f"{peak} {status} {os.environ.get('SSH_ORIGINAL_COMMAND', '')}\n")
    sys.exit(status if status >= 0 else 128 - status)
