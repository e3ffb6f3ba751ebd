"""The arrows between the layers: an import that points the wrong way is how a design rots."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bsmtp_batch

PACKAGE = Path(bsmtp_batch.__file__).parent

MAY_IMPORT = {
    "wire": {"wire"},
    "batch": {"batch", "wire"},
    "spool": {"spool", "errors"},
    "ledger": {"ledger", "errors"},
    "edge": {"edge", "wire", "errors"},
    "deliver": {"deliver", "wire", "spool"},
    "accounts": {"accounts", "wire", "spool", "errors"},
    "config": {"config", "config_basics", "config_faults", "config_serve", "config_values", "errors", "spool"},
    "config_basics": {"errors", "spool"},
    "config_faults": {"config_place"},
    "config_serve": {"config_values"},
    "config_place": set(),
    "config_values": {"config_basics", "accounts", "spool"},
    "errors": set(),
    "": set(),
    "handover": {"handover", "batch", "spool", "ledger", "edge", "errors"},
    "replay": {"replay", "batch", "wire", "spool", "ledger", "edge", "errors"},
    **{
        stage: {stage, "handover", "replay", "batch", "wire", "spool", "ledger", "edge", "errors"}
        for stage in ("reception", "seal", "receive", "expire", "status", "courier", "importer", "dispatch", "dequeue")
    },
    # It makes fragments as deliver does, many at a time.
    "intake": {"intake", "deliver", "wire", "spool", "edge", "errors"},
    "odmr": {"odmr", "reception", "replay", "wire", "spool", "ledger", "edge", "errors"},
    # The daemon does what timers and people do: it calls stages.
    "server": {"server", "accounts", "reception", "dispatch", "replay", "handover"}
    | {"wire", "spool", "ledger", "edge", "errors"},
}
"""What each part may import."""

ON_TOP = {"cli", "demo", "__main__"}
"""These may import anything."""

DELIVER_REACHES = {"wire.dots", "wire.command", "spool.durable", "spool.names"}

PURE = ("wire", "batch")
IMPURE = {"os", "socket", "time", "logging", "subprocess", "threading", "asyncio", "pathlib", "shutil", "tempfile"}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "stub.py")


def own(path: Path) -> str:
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(relative.parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [p for p in modules() if part_of(own(p)) not in ON_TOP], ids=own)
def test_no_layer_reaches_round_another(path):
    part = part_of(own(path))

    reached = {part_of(name) for name in imports_of(path) if name.startswith("bsmtp_batch.")}

    assert part in MAY_IMPORT, f"{part} is a new part: say in tests/test_layers.py what it may import"
    assert reached <= MAY_IMPORT[part]


@pytest.mark.parametrize("path", [p for p in modules() if part_of(own(p)) in PURE], ids=own)
def test_wire_and_batch_meet_no_operating_system(path):
    assert not {name.split(".")[0] for name in imports_of(path)} & IMPURE


@pytest.mark.parametrize("path", [p for p in modules() if part_of(own(p)) == "deliver"], ids=own)
def test_deliver_reaches_only_what_the_hot_path_pays_for(path):
    foreign = {
        ".".join(name.split(".")[1:3])
        for name in imports_of(path)
        if name.startswith("bsmtp_batch.") and part_of(name) not in {"deliver", ""}
    }

    assert foreign - {"wire", "spool"} <= DELIVER_REACHES


def test_importing_the_package_costs_nothing():
    assert not imports_of(PACKAGE / "__init__.py")


def test_only_the_edge_starts_processes_and_opens_sockets():
    guilty = [
        own(path)
        for path in modules()
        if part_of(own(path)) not in {"edge", "demo", "config_basics"} and imports_of(path) & {"subprocess", "socket"}
    ]

    assert guilty == []
