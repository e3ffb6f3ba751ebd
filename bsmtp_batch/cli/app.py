"""The command line: a table of commands, each imported when it is the one that was asked for.

:func:`run` turns whatever a command raises into the exit codes of the public contract and one clear message.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer

from bsmtp_batch.cli.common import complain
from bsmtp_batch.cli.exits import heard, told

COMMANDS = {
    "deliver": "bsmtp_batch.cli.deliver",
    "route": "bsmtp_batch.cli.route",
    "account": "bsmtp_batch.cli.account",
    "seal": "bsmtp_batch.cli.seal",
    "show": "bsmtp_batch.cli.show",
    "verify": "bsmtp_batch.cli.verify",
    "push": "bsmtp_batch.cli.push",
    "pull": "bsmtp_batch.cli.pull",
    "dequeue": "bsmtp_batch.cli.dequeue",
    "receive": "bsmtp_batch.cli.receive",
    "serve": "bsmtp_batch.cli.serve",
    "import": "bsmtp_batch.cli.import_",
    "expire": "bsmtp_batch.cli.expire",
    "status": "bsmtp_batch.cli.status",
    "check": "bsmtp_batch.cli.check",
    "demo": "bsmtp_batch.cli.demo",
}
"""The module of each command: its ``register(app)`` adds the command (and its options) to the application."""

INTERRUPTED = 130
"""What the command line library makes of Ctrl-C, in place of raising it."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from bsmtp_batch import __version__

        typer.echo(f"bsmtp-batch {__version__}")
        raise typer.Exit()


_VERSION = typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")


def _options(version: Annotated[bool, _VERSION] = False) -> None:
    """What may stand before the command."""


def build(names: list[str]) -> typer.Typer:
    """The application with the commands ``names`` only: one start pays for one command's imports."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Mail for sites that are not always online: batches of SMTP, kept, carried and replayed.",
    )

    app.callback()(_options)
    for name in names:
        importlib.import_module(COMMANDS[name]).register(app)
    return app


# typer carries its own copy of click and exports only this leaf of its family of usage errors.
_COMMAND_LINE_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)


def run(argv: list[str] | None = None) -> int:
    """Carry out the command line ``argv`` (without the program's name) and return the exit code."""
    return heard(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    named = [a for a in arguments[:1] if a in COMMANDS]
    try:
        app = build(named or list(COMMANDS))
        result: Any = app(args=arguments, prog_name="bsmtp-batch", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where everything becomes an exit code
        return _exit_code(error)
    if result == INTERRUPTED:
        return _exit_code(KeyboardInterrupt())
    return result if isinstance(result, int) else 0


def _exit_code(error: BaseException) -> int:
    """Tell the user what ``error`` means and return the exit code that says the same to a program."""
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, _COMMAND_LINE_ERRORS):
        said = str(error.format_message())  # type: ignore[attr-defined]  # as above
        bare = said.startswith("Usage:")  # no command at all: the help is the answer
        complain(
            said if bare else f"bsmtp-batch: {said.rstrip('.')}. Nothing was changed. Next: see bsmtp-batch --help"
        )
        return 64
    return told(KeyboardInterrupt() if isinstance(error, typer.Abort) else error)
