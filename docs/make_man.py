"""Write the man pages from what ``--help`` says, so that the two cannot disagree.

``python docs/make_man.py`` writes docs/man/*.1; tests/test_docs.py fails when they are not what this would write.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bsmtp_batch import __version__
from bsmtp_batch.cli.app import COMMANDS, build
from bsmtp_batch.deliver.arguments import OLD_USAGE, USAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent

FILES = [
    ("/etc/bsmtp-batch/bsmtp-batch.toml", "Settings. No command needs them: --spool is enough."),
    ("SPOOL/out/ROUTE/", "What waits to leave: new/, ready/, kept/ and, set aside with a reason, dead/."),
    ("SPOOL/in/ORIGIN/", "What has arrived: new/, work/, done/ and, set aside with a reason, bad/."),
    ("SPOOL/ledger.db", "Contacts, batches, and the fate of every recipient (SQLite)."),
]

PIPE_SYNOPSIS = [USAGE.replace("bsmtp-batch deliver", "bsmtp-batch-deliver"), *OLD_USAGE.split(" | ")]

OLD_OPTIONS = [
    ("-t ROUTE", "In the old call form: the route, where it is not the first argument."),
    ("-d", "In the old call form, in which the mail server doubles leading dots: it has not done so."),
]


def pages() -> dict[Path, str]:
    """The man pages: path and text."""
    root: Any = typer.main.get_command(build(list(COMMANDS)))
    return {
        HERE / "man" / "bsmtp-batch.1": "\n".join(_main_page(root)) + "\n",
        HERE / "man" / "bsmtp-batch-deliver.1": "\n".join(_pipe_page(root.commands["deliver"])) + "\n",
    }


def _main_page(root: Any) -> Iterator[str]:
    yield _title("BSMTP-BATCH")
    yield ".SH NAME"
    yield r"bsmtp\-batch \- carry mail in batches to sites that are not always online"
    yield ".SH SYNOPSIS"
    yield r".B bsmtp\-batch" + "\n" + _roff("COMMAND [OPTIONS] [ARGUMENT...]")
    yield ".SH DESCRIPTION"
    yield _roff(root.help)
    yield ".SH COMMANDS"
    for name, command in _leaves(root, ()):
        yield from _command(name, command)
    yield ".SH FILES"
    for path, text in FILES:
        yield _item(path, text)
    yield ".SH SEE ALSO"
    yield r".BR bsmtp\-batch\-deliver (1)"


def _pipe_page(command: Any) -> Iterator[str]:
    codes, example = _epilog(command.epilog or "")
    yield _title("BSMTP-BATCH-DELIVER")
    yield ".SH NAME"
    yield r"bsmtp\-batch\-deliver \- take one message from a mail server and keep it for a route"
    yield ".SH SYNOPSIS"
    for number, (name, arguments) in enumerate(line.split(" ", 1) for line in PIPE_SYNOPSIS):
        yield (".br\n" if number else "") + f".B {_roff(name)}\n{_roff(arguments)}"
    yield ".SH DESCRIPTION"
    yield _paragraphs(command.help or "")
    yield ".SH OPTIONS"
    yield from _parameters(command)
    for label, text in OLD_OPTIONS:
        yield _item(label, text)
    yield ".SH EXIT STATUS"
    for code, text in codes:
        yield _item(code, text)
    yield ".SH EXAMPLE"
    yield _example(example)
    yield ".SH SEE ALSO"
    yield r".BR bsmtp\-batch (1)"


def _title(name: str) -> str:
    return f'.TH {name} 1 "" "bsmtp\\-batch {__version__}" "User Commands"'


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name; groups are walked."""
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _leaves(child, (*path, name))
    else:
        yield " ".join(path), command


def _command(name: str, command: Any) -> Iterator[str]:
    codes, example = _epilog(command.epilog or "")
    yield f'.SS "{_roff(name)}"'
    yield f".B {_roff('bsmtp-batch ' + name)}\n{_roff(_usage(command))}"
    yield ".PP"
    yield _paragraphs(command.help or "")
    yield from _parameters(command)
    yield ".PP\nExit status:"
    for code, text in codes:
        yield _item(code, text)
    yield ".PP\nExample:"
    yield _example(example)


def _usage(command: Any) -> str:
    parts = ["[OPTIONS]"] if any(p.param_type_name == "option" for p in command.params) else []
    for one in command.params:
        if one.param_type_name == "argument":
            name = _placeholder(one) + ("..." if one.nargs == -1 else "")
            parts.append(name if one.required else f"[{name}]")
    return " ".join(parts)


def _placeholder(parameter: Any) -> str:
    given: str = parameter.metavar or max(parameter.opts, key=len).lstrip("-").replace("-", "_").upper()
    return given.removesuffix("...").strip("[]").removesuffix("...")


def _parameters(command: Any) -> Iterator[str]:
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        if one.param_type_name == "argument":
            label = _placeholder(one)
        else:
            label = ", ".join([*one.opts, *one.secondary_opts])
            label += "" if one.is_flag else f" {_placeholder(one)}"
        text = (one.help or "").strip()
        if one.envvar:
            text += f" Environment: {one.envvar}."
        yield _item(label, text)


def _epilog(text: str) -> tuple[list[tuple[str, str]], str]:
    """The exit codes and the example of a command, out of the text that ``cli.common.epilog`` made."""
    codes, _, example = text.partition("Example:")
    rows = [line.split(None, 1) for line in codes.splitlines() if line[:4].strip().isdigit()]
    return [(code, meaning) for code, meaning in rows], textwrap.dedent(example.strip("\n"))


def _item(label: str, text: str) -> str:
    return f".TP\n.B {_roff(label)}\n{_roff(text)}"


def _example(text: str) -> str:
    return f".PP\n.nf\n.RS\n{_roff(text.strip())}\n.RE\n.fi"


def _paragraphs(text: str) -> str:
    blocks = [" ".join(block.split()) for block in text.replace("\b", "").split("\n\n")]
    return "\n.PP\n".join(_roff(block) for block in blocks if block)


def _roff(text: str) -> str:
    """``text`` so that roff shows it as it is: backslashes, hyphens, and dots or quotes at a line start."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\n".join(rf"\&{line}" if line[:1] in {".", "'"} else line for line in escaped.splitlines())


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
