"""A spool and a hand-in for tests: a route's directories, and the program laid out as an installation has it."""

from __future__ import annotations

import compileall
import os
import shutil
import sys
from pathlib import Path

import bsmtp_batch
from bsmtp_batch.deliver.merge import DIRECTORY, NAME, merge
from bsmtp_batch.spool import names

PACKAGE = Path(bsmtp_batch.__file__).parent


def make_route(spool: Path, route: str, limits: bytes | None = b"min_free 0\nmin_inodes 0\n") -> Path:
    """Make the directories of ``route`` and return the one of the route."""
    home = spool / names.OUT / route
    for directory in names.OUT_DIRECTORIES:
        (home / directory).mkdir(parents=True, mode=0o700)
    for lock in (names.INDEX_LOCK, names.SEAL_LOCK, names.CONTACT_LOCK):
        (home / lock).touch(0o600)
    if limits is not None:
        (home / names.LIMITS).write_bytes(limits)
    return home


def make_installation(prefix: Path, *, merged: bool = True) -> list[str]:
    """Lay the hand-in out under ``prefix`` as pip does and return the command that an MTA is told to run.

    With ``merged`` the module that a wheel carries is there, without it only the modules of the working copy.
    """
    packages = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    (prefix / "bin").mkdir()
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    (prefix / "bin" / "python").symlink_to(interpreter)
    (prefix / "pyvenv.cfg").write_text(f"home = {os.path.dirname(interpreter)}\ninclude-system-site-packages = false\n")
    if merged:
        (packages / DIRECTORY).mkdir(parents=True)
        (packages / DIRECTORY / f"{NAME}.py").write_text(merge(str(PACKAGE)), encoding="utf-8")
    else:
        shutil.copytree(PACKAGE, packages / "bsmtp_batch", ignore=shutil.ignore_patterns("__pycache__", "merged"))
    compileall.compile_dir(packages, quiet=1)
    stub = prefix / "bin" / "bsmtp-batch-deliver"
    shutil.copy(PACKAGE / "deliver" / "stub.py", stub)
    return [str(prefix / "bin" / "python"), "-I", "-S", str(stub)]
