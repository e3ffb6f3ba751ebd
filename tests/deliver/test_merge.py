"""What a hand-in loads: a module more is a price that every message pays, and merging must not change what is done."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from support.handin import FROM, HandIn
from support.spooldir import PACKAGE

from bsmtp_batch.deliver.merge import ENTRIES, MODULES, NAME, CannotMerge, merge

PYTHON = {"__main__", "sys", "builtins", "posix", "gc", "time", "errno", "marshal", "zipimport", "io", "abc", "codecs",
          "encodings", "encodings.aliases", "encodings.utf_8"}  # fmt: skip
C_MODULES = {"fcntl", "_sha256", "_sha2"}
PACKAGES = {"bsmtp_batch", "bsmtp_batch.wire", "bsmtp_batch.spool", "bsmtp_batch.deliver"}


def loaded(hand_in: HandIn, tmp_path: Path) -> set[str]:
    """The names in ``sys.modules`` at the end of a hand-in."""
    stub = tmp_path / "watched"
    text = Path(hand_in.program[-1]).read_text()
    watch = (
        "class posix_and_list:\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(posix, name) if name != '_exit' else leave\n"
        "def leave(code):\n"
        "    posix.write(2, ' '.join(sys.modules).encode())\n"
        "    posix._exit(code)\n"
    )
    call = "    deliver.run(sys.argv)\n"
    assert text.count(call) == 1
    stub.write_text(
        text.replace("try:\n", watch + "try:\n", 1).replace(call, "    deliver.posix = posix_and_list()\n" + call)
    )
    argv = [*hand_in.program[:-1], str(stub), "--spool", str(hand_in.spool), *FROM]
    done = subprocess.run(argv, input=b"x\n", capture_output=True, env={}, timeout=50)
    assert (done.returncode, done.stdout) == (0, b"")
    return {name for name in done.stderr.decode().split() if not name.startswith("_") or name in C_MODULES}


def test_a_hand_in_loads_one_module_of_ours_and_two_of_c(hand_in: HandIn, tmp_path: Path) -> None:
    assert loaded(hand_in, tmp_path) - PYTHON - C_MODULES == {NAME}


def test_the_modules_load_nothing_of_the_library(
    programs: dict[str, list[str]], hand_in: HandIn, tmp_path: Path
) -> None:
    names = loaded(HandIn(programs["modules"], hand_in.spool, hand_in.home), tmp_path)
    own = {"bsmtp_batch." + module.replace("/", ".") for module in MODULES}
    site = {
        "site",
        "os",
        "os.path",
        "posixpath",
        "genericpath",
        "stat",
        "pwd",
        "sitecustomize",  # Debian has one
    }  # how the stub finds modules that are not merged
    assert names - PYTHON - C_MODULES - site == own | PACKAGES


def test_the_merged_module_has_the_entries_and_nothing_that_is_not_reached() -> None:
    tree = ast.parse(merge(str(PACKAGE)))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(ENTRIES) <= defined
    assert not defined & {"parse_batch_name", "write_file", "parse_mail", "unstuff"}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"sys", "posix", "fcntl", "time", "_signal"}


def package(tmp_path: Path, changed: str, text: str) -> str:
    """A copy of the modules in which one ends in ``text``."""
    for module in MODULES:
        path = tmp_path / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text((PACKAGE / f"{module}.py").read_text() + (text if module == changed else ""))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("module", "text", "reason"),
    [
        ("deliver/main", "\ndef create(): ...\n", "create is defined in spool/durable and in deliver/main"),
        ("spool/names", "\nEND = 1\n", "END is defined in wire/dots and in spool/names"),
        ("wire/dots", "\nfrom bsmtp_batch.deliver.main import run\n", "imports from bsmtp_batch.deliver.main"),
        ("deliver/main", "\nfrom bsmtp_batch.wire.dots import END as STOP\n", "imports from bsmtp_batch.wire.dots"),
        ("deliver/main", "\nfrom bsmtp_batch.errors import Problem\n", "imports from bsmtp_batch.errors"),
    ],
)
def test_modules_that_cannot_share_a_name_space_are_not_merged(
    tmp_path: Path, module: str, text: str, reason: str
) -> None:
    with pytest.raises(CannotMerge, match=reason):
        merge(package(tmp_path, module, text))
