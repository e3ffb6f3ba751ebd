"""Merges the modules of a hand-in into one, when the package is built (``hatch_build.py`` calls this; no mail does).

Python finds, reads and checks every module and every package by itself, about 0.12 ms each on the machine where the
hand-in was measured. A dozen small modules cost a quarter of what starting Python costs, once for every message. So a
wheel carries, beside the modules, one file made of them: the same statements in the same order, without docstrings,
annotations, imports among themselves, and functions that a hand-in does not use. ``stub.py`` takes that file, and the
modules where there is none (a working copy). The tests of the hand-in run against both.

``python -m bench --only pipe-cost`` shows what is left.
"""

from __future__ import annotations

import ast
import os

MODULES = (
    "wire/dots",
    "wire/command",
    "spool/durable",
    "spool/names",
    "deliver/answers",
    "deliver/arguments",
    "deliver/fragment",
    "deliver/intake",
    "deliver/main",
)
"""The modules, each after those that it imports."""

ENTRIES = ("run", "main", "bsmtp")
"""What the stub, and ``python -m bsmtp_batch deliver``, call."""

NAME = "bsmtp_batch_deliver"
DIRECTORY = "bsmtp_batch/deliver/merged"
"""Where the merged module is installed: alone in a directory, which the stub puts first on the path."""


class CannotMerge(Exception):
    """The modules cannot be put into one name space; says which name or statement is in the way."""


def merge(package: str) -> str:
    """The source of the merged module, from the modules in the directory ``package``. Raises :class:`CannotMerge`."""
    origin: dict[str, str] = {}
    body: list[ast.stmt] = []
    for module in MODULES:
        with open(os.path.join(package, *module.split("/")) + ".py", encoding="utf-8") as file:
            tree = ast.parse(file.read())
        for statement in _Stripper(module).visit(tree).body:
            for name in _defined(statement):
                if origin.setdefault(name, module) != module:
                    raise CannotMerge(f"{name} is defined in {origin[name]} and in {module}")
            body.append(statement)
    return ast.unparse(ast.fix_missing_locations(ast.Module(_called(_used(body)), []))) + "\n"


def _used(body: list[ast.stmt]) -> list[ast.stmt]:
    """``body`` without the definitions that nothing leads to from :data:`ENTRIES`."""
    defined = [set(_defined(statement)) for statement in body]
    wanted = set(ENTRIES)
    kept: set[int] = set()
    while found := {n for n in range(len(body)) if n not in kept and (not defined[n] or defined[n] & wanted)}:
        kept |= found
        for n in found:
            wanted |= _mentioned(body[n])
    return [body[n] for n in sorted(kept)]


def _called(body: list[ast.stmt]) -> list[ast.stmt]:
    """``body`` without the methods that nobody calls by name: a hand-in neither compares nor shows an object."""
    classes = [statement for statement in body if isinstance(statement, ast.ClassDef)]
    idle: list[ast.stmt] = [ast.Pass()]
    while idle:
        names = {node.attr for statement in body for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        idle = []
        for owner in classes:
            idle += [m for m in owner.body if isinstance(m, ast.FunctionDef) and m.name not in names | {"__init__"}]
            owner.body = [part for part in owner.body if part not in idle] or [ast.Pass()]
    return body


def _mentioned(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module gives a meaning of its own."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return []


class _Stripper(ast.NodeTransformer):
    """Leaves out of ``module`` what only readers and type checkers need, and the imports that merging answers."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._before = MODULES[: MODULES.index(module)]

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        return None if [getattr(target, "id", "") for target in node.targets] == ["TYPE_CHECKING"] else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | None:
        return ast.Assign([node.target], node.value) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._never_empty(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._never_empty(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        module = node.module or ""
        if module == "__future__":
            return None
        if not module.startswith("bsmtp_batch"):
            return node
        if module.partition(".")[2].replace(".", "/") not in self._before or any(name.asname for name in node.names):
            raise CannotMerge(f"{self._module} imports from {module} in a way that merging does not know")
        return None

    def _never_empty(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node
