"""``bsmtp-batch account add|list|remove``: what the accounts log in with. What they may do is in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from bsmtp_batch.accounts.credentials import Credentials
    from bsmtp_batch.accounts.format import Secrets
    from bsmtp_batch.config import Settings

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account, as it is called in [account.NAME].")]
SecretsFile = Annotated[
    str | None,
    typer.Option("--secrets", metavar="FILE", help="The file with the secrets; without it [node] secrets."),
]
CramMd5 = Annotated[
    bool,
    typer.Option("--cram-md5", help="Also keep what CRAM-MD5 needs, as fetchmail does; for a generated secret only."),
]
_NOT_CONFIGURED = "cannot log in, there is no [account] section for it"

PasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        metavar="FILE|-",
        help="Take the first line of FILE (-: standard input) for the password, in place of generating a secret.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command and its three subcommands to ``app``."""
    account = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Add, list and remove the secrets of accounts that log in."
    )
    codes = {
        64: "the name or the password cannot be that of an account, or there is (no) such account",
        78: "the configuration or the secrets file cannot be used",
    }
    account.command(
        "add",
        help="Generate a secret for a new account and print it, this once; what is kept cannot be turned back into it.",
        epilog=common.epilog("bsmtp-batch account add aurora", codes),
    )(add)
    account.command(
        "list",
        help="List the accounts and what they can log in with, never a secret.",
        epilog=common.epilog("bsmtp-batch account list --json", codes),
    )(list_)
    account.command(
        "remove",
        help="Remove the secrets of an account: it cannot log in any more, at once.",
        epilog=common.epilog("bsmtp-batch account remove aurora", codes),
    )(remove)
    app.add_typer(account, name="account", epilog=common.epilog("bsmtp-batch account add aurora", codes))


def add(
    name: Name,
    *,
    cram_md5: CramMd5 = False,
    password_file: PasswordFile = None,
    json: common.Json = False,
    dry_run: common.DryRun = False,
    secrets: SecretsFile = None,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Make the credentials of one account. The secret goes to standard output, everything else to standard error."""
    import os
    from dataclasses import replace

    from bsmtp_batch.accounts import credentials, store

    settings = common.settings(config, spool)
    path = secrets or settings.node.secrets
    _check_name(name)
    password = _password_in(password_file, cram_md5=cram_md5) if password_file else None
    with _opened(path, settings, change=not dry_run) as held:
        _refuse_unless(name not in held.accounts, f"there is an account {name} in {path} already", "remove it first")
        if dry_run:
            typer.echo(f"would add the account {name} to {path}")
            return 0
        secret = "" if password else credentials.generated_secret(os.urandom)
        made = credentials.make(
            name, password or secret.encode("ascii"), created=_now(), cram_md5=cram_md5, random=os.urandom
        )
        store.write(path, replace(held, accounts={**held.accounts, name: made}), owner=_owner(settings))
    _tell_added(made, secret, path, json=json)
    _warn(settings, name, cram_md5=cram_md5)
    return 0


def list_(
    json: common.Json = False,
    secrets: SecretsFile = None,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """List the accounts of the secrets file, and those of the settings that have a certificate in place of a secret."""
    settings = common.settings(config, spool)
    with _opened(secrets or settings.node.secrets, settings, change=False) as held:
        for name in sorted({*held.accounts, *settings.accounts}):
            row = _row(settings, held, name)
            if json:
                common.print_json([row])
            else:
                since = f", since {row['created']}" if row["created"] else ""
                can = ", ".join(_able(settings, held, name)) or "nothing yet: `account add` is missing"
                typer.echo(f"{name}: {can if row['configured'] else _NOT_CONFIGURED}{since}")
    return 0


def remove(
    name: Name,
    dry_run: common.DryRun = False,
    secrets: SecretsFile = None,
    config: common.Config = None,
    spool: common.Spool = None,
) -> int:
    """Remove the credentials of one account."""
    from dataclasses import replace

    from bsmtp_batch.accounts import store

    settings = common.settings(config, spool)
    path = secrets or settings.node.secrets
    with _opened(path, settings, change=not dry_run) as held:
        _refuse_unless(name in held.accounts, f"there is no account {name} in {path}", "see bsmtp-batch account list")
        if dry_run:
            typer.echo(f"would remove the account {name} from {path}")
            return 0
        rest = {key: one for key, one in held.accounts.items() if key != name}
        store.write(path, replace(held, accounts=rest), owner=_owner(settings))
    typer.echo(f"account {name}: removed from {path}")
    return 0


def _opened(path: str, settings: Settings, *, change: bool) -> AbstractContextManager[Secrets]:
    """What the file holds, or nothing yet; under its lock if it is going to be changed."""
    import os
    from contextlib import contextmanager, nullcontext

    from bsmtp_batch.accounts import format as form
    from bsmtp_batch.accounts import store
    from bsmtp_batch.errors import Setting

    @contextmanager
    def opened() -> Iterator[Secrets]:
        owner = _owner(settings)
        try:
            lock = store.locked(path) if change else nullcontext()
            with lock:
                found = store.read(path, owner=owner and owner[0])
                yield found[0] if found else form.empty(os.urandom)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise Setting(
                f"the secrets file {path} cannot be changed: {error.strerror}",
                safe="Nothing was changed",
                next=f"make {os.path.dirname(path) or '.'} a directory that this user may write in, or run it as root",
            ) from error

    return opened()


def _owner(settings: Settings) -> tuple[int, int] | None:
    """The user (and group) for whom root writes the file: the one of the spool, as whom everything runs."""
    import os

    try:
        found = os.stat(settings.node.spool)
    except OSError:
        return None
    return (found.st_uid, found.st_gid) if os.geteuid() == 0 else None


def _check_name(name: str) -> None:
    from bsmtp_batch.accounts import names

    words = 'take up to 64 lower-case letters, digits and ". _ - @ +", a letter or a digit first'
    _refuse_unless(names.valid(name), f"no account can be called {name!r}", words)


def _password_in(path: str, *, cram_md5: bool) -> bytes:
    """The first line of the file, once it is clear that it can be used."""
    import os
    import sys

    from bsmtp_batch.accounts.credentials import fault_of

    reason = "CRAM-MD5 is for generated secrets only: what is kept for it is as good as the password"
    _refuse_unless(not cram_md5, reason, "leave out --password-file or --cram-md5")
    try:
        if path == "-":
            line = sys.stdin.buffer.readline(4096)
        else:
            with open(path, "rb") as file:
                line = file.readline(4096)
                if os.fstat(file.fileno()).st_mode & 0o077:
                    common.complain(f"bsmtp-batch: warning: others may read {path}. Next: chmod 600 it, or remove it")
    except OSError as error:
        _refuse_unless(False, f"the password file {path} cannot be read: {error.strerror}", "name one that can be")
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    fault = fault_of(password)
    _refuse_unless(fault is None, f"this password cannot be used: {fault}", "take another one, or let one be generated")
    return password


def _refuse_unless(holds: bool, what: str, advice: str) -> None:
    from bsmtp_batch.errors import Usage

    if not holds:
        raise Usage(what, safe="Nothing was changed", next=advice)


def _row(settings: Settings, held: Secrets, name: str) -> dict[str, object]:
    """One account as a program reads it."""
    one, section = held.accounts.get(name), settings.accounts.get(name)
    return {
        "account": name,
        "created": one.created if one else None,
        "mechanisms": _able(settings, held, name),
        "configured": section is not None,
        "routes": section.routes if section else [],
    }


def _able(settings: Settings, held: Secrets, name: str) -> list[str]:
    """What the account can log in with, by the file and, if it has its section there, by the settings."""
    one, section = held.accounts.get(name), settings.accounts.get(name)
    able = list(one.mechanisms) if one else []
    if section is None:
        return able
    forbidden = {*(() if section.cram_md5 else ("CRAM-MD5",)), *(() if section.plain else ("PLAIN", "LOGIN"))}
    return [m for m in able if m not in forbidden] + (["EXTERNAL"] if section.certificate else [])


def _tell_added(made: Credentials, secret: str, path: str, *, json: bool) -> None:
    """Print the secret, this once: alone on standard output, so that a script can take it from there."""
    if json:
        row = {"account": made.name, "created": made.created, "mechanisms": list(made.mechanisms)}
        common.print_json([row | ({"secret": secret} if secret else {})])
    elif secret:
        typer.echo(secret)
    told = " Its secret is on standard output and is kept nowhere: note it down." if secret else ""
    common.complain(f"account {made.name}: added to {path} ({', '.join(made.mechanisms)}).{told}")


def _warn(settings: Settings, name: str, *, cram_md5: bool) -> None:
    """Say what in the settings still keeps the account out."""
    section = settings.accounts.get(name)
    if section is None:
        common.complain(f"account {name}: cannot log in before [account.{name}] is in the settings, with its routes")
    elif cram_md5 and not section.cram_md5:
        common.complain(f"account {name}: CRAM-MD5 is taken when [account.{name}] says cram_md5 = true")


def _now() -> str:
    import time

    from bsmtp_batch.cli.words import moment

    return str(moment(time.time()))
