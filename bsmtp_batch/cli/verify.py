"""``bsmtp-batch verify``: whether batch files are whole, are what their manifests say, and are signed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from collections.abc import Callable

    from bsmtp_batch.batch.events import Fault
    from bsmtp_batch.batch.file import BatchFile
    from bsmtp_batch.batch.manifest import Manifest
    from bsmtp_batch.errors import Problem

MAX_FAULTS = 100
"""Faults told of one file."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    codes = {
        0: "every file is whole (and is what its manifest says, where there is one, and the signature is not wrong)",
        64: "a file cannot be opened; the others are sound",
        65: "a file is not whole, or is not what its manifest says, or its signature is wrong",
        75: "a file could not be read just now; the others are sound",
    }
    app.command(
        "verify",
        help="Check batch files from end to end, against manifest NAME.json and signature NAME.sig, compressed or not.",
        epilog=common.epilog("bsmtp-batch verify /media/stick/*/*.bsmtp", codes),
    )(command)


@dataclass
class Report:
    """What is known of one file."""

    file: str
    ok: bool = False
    dialect: str | None = None
    """``strict``: written the way we write; ``foreign``: whole, by somebody else; None: not whole."""
    compression: str | None = None
    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    sha256: str = ""
    manifest: bool = False
    """There is one beside it."""
    signature: str = "none"
    """``good``, ``bad``, ``unchecked`` (nobody said whose are good) or ``none``."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """``{"message", "line", "offset", "reason", "scope"}``, or ``{"reason"}`` for the file as a whole."""
    warnings: list[str] = field(default_factory=list)
    code: int = 0


def command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Batch files; '-' is standard input.")],
    *,
    allowed_signers: Annotated[
        str,
        typer.Option(
            "--allowed-signers",
            metavar="FILE",
            help="Whose signatures are good: lines as in ssh-keygen(1); default: [node] allowed_signers.",
        ),
    ] = "",
    json: common.Json = False,
    config: common.Config = None,
) -> int:
    """Verify each file; the exit code is that of the worst (65, then 78, then 75, then 64)."""
    from bsmtp_batch.errors import Problem

    def signers() -> str:
        return os.path.abspath(allowed_signers) if allowed_signers else _configured(config)

    codes = set()
    for name in files:
        report = Report(file=name)
        try:
            _verify(report, signers)
        except Problem as problem:
            _note_problem(report, problem)
        report.ok = report.code == 0
        codes.add(report.code)
        _print(report, json)
    return next((code for code in (65, 78, 75, 64) if code in codes), 0)


def _configured(config: str | None) -> str:
    """The allowed signers of the settings; none where nobody named a file of settings and ours may not be read."""
    from bsmtp_batch.errors import Setting

    try:
        return common.settings(config, None).node.allowed_signers
    except Setting:
        if config:
            raise
        return ""


def _verify(report: Report, signers: Callable[[], str]) -> None:
    from bsmtp_batch.batch.file import BatchFile
    from bsmtp_batch.edge.opening import DEFAULT_CAP, open_plain

    manifest = _manifest(report)
    if report.code:
        return
    _check_signature(report, manifest, signers)
    cap = manifest.bytes if manifest else DEFAULT_CAP
    opened, report.compression = open_plain(None if report.file == "-" else report.file, cap=cap)
    with opened:
        _scan(report, BatchFile(opened), manifest)


def _scan(report: Report, batch: BatchFile, manifest: Manifest | None) -> None:
    """Strict first; what is not ours, and has no manifest that says it is, gets a second, tolerant reading."""
    from bsmtp_batch.batch.events import Severity

    faults = _faults(batch, Severity.STRICT)
    report.dialect = None if faults else "strict"
    if faults and not manifest:
        ours = faults[0]
        faults = _faults(batch, Severity.TOLERANT)
        report.dialect = None if faults else "foreign"
        if not faults:
            report.warnings.append(f"not written by this program ({ours})")
    report.faults += [_fault_row(fault) for fault in faults]
    summary = batch.summary
    report.messages, report.recipients = summary.messages, summary.recipients
    report.bytes, report.sha256 = batch.size, batch.sha256
    report.warnings += summary.warnings
    difference = manifest and manifest.matches(batch.size, batch.sha256, summary.messages, summary.recipients)
    if difference:
        report.faults.append({"reason": difference})
    if report.faults:
        report.code = 65


def _faults(batch: BatchFile, severity: Any) -> list[Fault]:
    from bsmtp_batch.batch.events import Fault

    faults: list[Fault] = []
    for event in batch.scan(severity):
        if isinstance(event, Fault) and len(faults) < MAX_FAULTS:
            faults.append(event)
    return faults


def _manifest(report: Report) -> Manifest | None:
    """The manifest beside the file, under its own name or under that without the suffix of a compression."""
    from bsmtp_batch.batch.manifest import MAX_BYTES, Manifest
    from bsmtp_batch.spool.store import MANIFEST

    for name in _papers(report.file, MANIFEST):
        try:
            data = _read_paper(name, MAX_BYTES)
            report.manifest = data is not None
            if data is not None:
                return Manifest.from_bytes(data)
        except ValueError as error:
            report.manifest = True
            report.faults.append({"reason": f"{name}: {error}"})
            report.code = 65
    return None


def _check_signature(report: Report, manifest: Manifest | None, signers: Callable[[], str]) -> None:
    from bsmtp_batch.edge.signing import verifier
    from bsmtp_batch.spool.store import SIGNATURE, SIGNATURE_CAP

    for name in _papers(report.file, SIGNATURE):
        try:
            data = _read_paper(name, SIGNATURE_CAP)
        except ValueError as error:
            report.signature = "bad"
            report.faults.append({"reason": f"{name}: {error}"})
            return
        if data is None:
            continue
        report.signature = "unchecked"
        if manifest is None:
            report.warnings.append("there is a signature, and the manifest that it is over is missing")
        elif file := signers():
            wrong = verifier(file)(manifest.to_bytes(), data, manifest.origin)
            report.signature = "bad" if wrong else "good"
            report.faults += [{"reason": wrong}] if wrong else []
        return
    if report.file != "-" and signers():
        report.warnings.append("it is not signed")


def _papers(file: str, suffix: str) -> list[str]:
    """Where manifest or signature of ``file`` may be: beside its own name, or that without what compression added."""
    if file == "-":
        return []
    plain = [file.removesuffix(end) for end in (".gz", ".xz", ".zst", ".Z") if file.endswith(end)]
    return [name + suffix for name in (file, *plain)]


def _read_paper(name: str, cap: int) -> bytes | None:
    """The file ``name``, which may hold ``cap`` octets (``ValueError``); None when there is none. Raises ``Usage``."""
    from bsmtp_batch.errors import Usage
    from bsmtp_batch.spool.listing import read_small

    try:
        return read_small(os.path.realpath(name), cap)  # a pipe of that name is not waited for
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Usage(
            f"{name} cannot be read: {error.strerror}", safe="Nothing was changed", next="check who may read it"
        ) from error


def _fault_row(fault: Fault) -> dict[str, Any]:
    return {
        "message": fault.message,
        "line": fault.line,
        "offset": fault.offset,
        "reason": fault.reason,
        "scope": fault.scope,
    }


def _note_problem(report: Report, problem: Problem) -> None:
    report.code = problem.code
    report.faults.append({"reason": problem.what.removeprefix(f"{report.file} ")})


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        row = dict(vars(report))
        del row["code"]
        common.print_json([row])
        return
    name = common.printable(report.file)
    for warning in report.warnings:
        common.complain(f"{name}: warning: {warning}")
    for fault in report.faults:
        place = "message {message}, line {line}, byte {offset}: ".format(**fault) if "line" in fault else ""
        common.complain(f"{name}: {place}{common.printable(fault['reason'])}")
    if report.ok:
        typer.echo(f"{name}: {_praise(report)}")


def _praise(report: Report) -> str:
    from bsmtp_batch.cli.words import count

    whole = "whole" if report.dialect == "strict" else "whole, in the dialect of another program; it can be imported"
    counts = f"{count(report.messages, 'message')} to {count(report.recipients, 'recipient')}, {report.bytes} bytes"
    known = "its manifest agrees" if report.manifest else "no manifest: an added message would not be noticed"
    signed = {
        "good": ", its signature is good",
        "unchecked": ", its signature was not checked: nobody said whose signatures are good (--allowed-signers)",
    }
    return f"{whole}; {counts}, sha256 {report.sha256}; {known}{signed.get(report.signature, '')}"
