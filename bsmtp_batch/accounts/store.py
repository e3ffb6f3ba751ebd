"""The secrets file on the disk: read only when it is ours alone, changed under a lock, put in place whole.

It is for one user. It is not read when it belongs to somebody else or when others may read it, because then what is in
it is known already.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bsmtp_batch.accounts.format import MAX_FILE, Fault, Secrets, formatted, parsed
from bsmtp_batch.errors import Setting
from bsmtp_batch.spool import durable

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Version:
    """By this a changed file is told from the one that was read."""

    device: int
    inode: int
    size: int
    changed: int


def read(path: str, *, owner: int | None = None) -> tuple[Secrets, Version] | None:
    """What the file ``path`` holds, and its version; None where there is no such file.

    It has to belong to the user we run as, or to ``owner``. Raises :class:`~bsmtp_batch.errors.Setting` where it must
    not, or cannot, be used.
    """
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(
            path, f"cannot be read: {error.strerror}", "let it be a plain file of the user that runs this"
        ) from None
    try:
        found = os.fstat(fd)
        _check(path, found, {os.geteuid(), os.geteuid() if owner is None else owner})
        with os.fdopen(fd, "rb", closefd=False) as file:
            text = file.read(MAX_FILE + 1)
    finally:
        os.close(fd)
    version = Version(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    try:
        return parsed(text), version
    except Fault as fault:
        raise _unusable(path, f"cannot be used: {fault}", "mend that line, or restore the file from a copy") from None


def version_of(path: str) -> Version | None:
    """The version of the file that is there now; None where it cannot be looked at."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return Version(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep other changes of the file out: two commands at once would each write what the other has not seen.

    ``OSError`` where there is no such directory, or nothing may be written in it.
    """
    directory, _, name = os.path.abspath(path).rpartition("/")
    fd = durable.lock(f"{directory}/.{name}.lock")
    try:
        yield
    finally:
        durable.unlock(fd)


def write(path: str, secrets: Secrets, *, owner: tuple[int, int] | None = None) -> None:
    """Put ``secrets`` in place of what the file ``path`` holds, durably; it is ``owner``'s (user, group) if given.

    It is never there with another owner or mode, and never in part. ``OSError`` when that cannot be done; then the old
    file is untouched.
    """
    directory, _, name = os.path.abspath(path).rpartition("/")
    passing = f"{directory}/.{name}.{durable.unique()}"
    fd = durable.create(passing)
    try:
        try:
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(fd, *owner)
            durable.write_all(fd, formatted(secrets))
        except BaseException:
            os.close(fd)
            raise
        durable.sync_close(fd)
        durable.rename_durably(passing, f"{directory}/{name}")
    except BaseException:
        durable.remove(passing)
        raise


def _check(path: str, found: os.stat_result, owners: set[int]) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _unusable(path, "is not a plain file", "move away what is there")
    if found.st_uid not in owners:
        who = " or ".join(str(uid) for uid in sorted(owners))
        raise _unusable(
            path, f"belongs to user {found.st_uid} and not to {who}", f"chown {min(owners, key=bool)} {path}"
        )
    if found.st_mode & 0o077:
        raise _unusable(
            path,
            f"can be used by others (mode {stat.S_IMODE(found.st_mode):04o}), so what is in it is no secret",
            f"chmod 600 {path}, and if others were there to read it, give every account a new secret",
        )


def _unusable(path: str, what: str, advice: str) -> Setting:
    return Setting(f"the secrets file {path} {what}", safe="Nothing was changed, and nobody can log in", next=advice)
