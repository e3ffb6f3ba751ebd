"""Real servers and tools for the tests, fetched from the distribution and unpacked beside the tests, never installed.

Debian's mail servers conflict with one another as packages, and a test run has no business changing what mail server a
machine runs. So each set of packages is downloaded with ``apt-get download`` and unpacked with ``dpkg -x`` into a
directory of its own; :mod:`support.box` then shows it to its programs under the paths they were built for.

What the machine's release is too old for comes from a newer one, libraries and all, into a root that programs have to
be run *in* (:mod:`support.exim_odmr`). Its package lists are the cache's own; apt checks them with the keyring that the
machine has.

``python tests/support/debian.py fetch`` gets everything beforehand, so that the tests themselves need no network.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

SETS = {
    "postfix": ["postfix"],
    "sendmail": ["sendmail-bin", "sendmail-cf"],
    "exim": ["exim4-daemon-light"],
    "fetchmail": ["fetchmail"],
    "spamc": ["spamc"],
    "strace": ["strace"],
    "ssh": ["openssh-client", "openssh-server"],
    "rsync": ["rsync"],
    "openssl": ["openssl"],
    "exim-odmr": ["exim4-daemon-light"],
}
"""What can be had, and the packages it takes. Their dependencies that the machine lacks come along."""

NEWER = {"exim-odmr": (("trixie", "trixie-backports"), ("sid",))}
"""Sets that a newer release has, each with the suites that are tried for it, in this order; a later suite of a group
comes before the earlier. Exim turns a connection round (ATRN) since 4.99."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"

TOOLS = {
    "strace": "strace",
    "rsync": "rsync",
    "openssl": "openssl",
    "ssh": "ssh",
    "sshd": "ssh",
    "scp": "ssh",
    "ssh-keygen": "ssh",
    "fetchmail": "fetchmail",
    "spamc": "spamc",
}
"""Programs that run outside a box as well, and the set each belongs to."""

MERGED = ("bin", "sbin", "lib", "lib64")
"""Directories that are links into /usr today; packages that still use the old names must not hide those links."""


_missing: dict[str, str] = {}
"""What could not be had and why: without a network, each test would wait for all the attempts again."""


class Unavailable(Exception):
    """A set cannot be had on this machine; the text says why."""


def need(reason: str) -> NoReturn:
    """End the calling test: skipped with ``reason`` on a user's machine, failed where ``CI`` is set.

    A machine without these servers is no fault of its user, but a CI run that quietly tests less than it
    says is worse than a red one.
    """
    import pytest

    if os.environ.get("CI"):
        pytest.fail(f"needed here because CI is set: {reason}", pytrace=False)
    pytest.skip(reason)


def cache() -> Path:
    """The directory that keeps what was fetched: ``$BSMTP_BATCH_CACHE`` or the user's cache directory."""
    named = os.environ.get("BSMTP_BATCH_CACHE")
    base = (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bsmtp-batch-tests"
    )
    base.mkdir(parents=True, exist_ok=True)
    return base.resolve()


def root(name: str) -> Path:
    """The directory in which set ``name`` is unpacked, after fetching it if need be (:class:`Unavailable`)."""
    home = cache()
    target = home / "roots" / name
    if name in _missing:
        raise Unavailable(_missing[name])
    with _locked(home):
        if not target.is_dir():
            try:
                _fetch(home, name, target)
            except Unavailable as missing:
                _missing[name] = str(missing)
                raise
    return target


def tool(name: str) -> str:
    """The path of a program of :data:`TOOLS`: the machine's own or a fetched one; ends the test without either."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found:
        return found
    try:
        return _wrapped(name, root(TOOLS[name]))
    except Unavailable as missing:
        need(f"{name}: {missing}")


def _wrapped(name: str, unpacked: Path) -> str:
    """A program of an unpacked set, behind a script that names its libraries where they came with it."""
    places = [unpacked / d / name for d in ("usr/bin", "usr/sbin")]
    program = next((p for p in places if p.exists()), None)
    if program is None:
        raise Unavailable(f"the packages {' '.join(SETS[TOOLS[name]])} hold no program of that name")
    libraries = sorted({str(p.parent) for p in unpacked.glob("usr/lib/**/*.so*")})
    if not libraries:
        return str(program)
    script = cache() / "bin" / name
    script.parent.mkdir(exist_ok=True)
    text = f'#!/bin/sh\nLD_LIBRARY_PATH="{":".join(libraries)}" exec "{program}" "$@"\n'
    if not script.exists() or script.read_text() != text:
        fresh = script.with_name(f".{name}.{os.getpid()}")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.rename(script)
    return str(script)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time: test workers ask for the same set at the same moment."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(home: Path, name: str, target: Path) -> None:
    """Download and unpack set ``name`` (:class:`Unavailable`)."""
    for program in ("apt-get", "dpkg"):
        if not shutil.which(program):
            raise Unavailable(f"this machine has no {program}; the tests take their servers from Debian packages")
    reasons = []
    before: list[str] = []
    for options in _attempts(home, name):
        if options:
            time.sleep(2 if options == before else 0)  # a mirror in the middle of an update is right again in a moment
            before = options
            refreshed = _apt([*options, "update"], 240)
            if refreshed.returncode:
                reasons.append(_last_line(refreshed))
                continue
        try:
            _unpack(_download(home, name, options), target)
        except Unavailable as missing:
            reasons.append(str(missing))
        else:
            return
    raise Unavailable(f"packages {' '.join(SETS[name])} could not be fetched: {'; '.join(dict.fromkeys(reasons))}")


def _attempts(home: Path, name: str) -> list[list[str]]:
    """The apt options of each attempt: the machine's package lists and then fresh ones, or those of newer releases."""
    if name not in NEWER:
        return [[], _own_lists(home), _own_lists(home)]
    if not KEYRING.exists():
        raise Unavailable(
            f"this machine has no {KEYRING}, by which packages of a newer Debian are known to be Debian's"
        )
    return [options for suites in NEWER[name] for options in [_release(home, suites)] * 2]


def _release(home: Path, suites: tuple[str, ...]) -> list[str]:
    """apt options under which there is nothing but ``suites``: no other sources, and no package that is installed."""
    place = home / "apt" / suites[-1]
    for part in ("lists/partial", "archives/partial"):
        (place / part).mkdir(parents=True, exist_ok=True)
    lines = [f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n" for suite in suites]
    (place / "sources.list").write_text("".join(lines))
    (place / "status").write_text("")
    settings = {
        "Dir::Etc::sourcelist": place / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": place / "lists",
        "Dir::State::status": place / "status",
        "Dir::Cache": place,
        "Acquire::Languages": "none",
        "APT::Default-Release": suites[-1],
        "APT::Update::Error-Mode": "any",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _mirror() -> str:
    """Where this machine gets Debian from."""
    told = _apt(["indextargets", "--format", "$(REPO_URI) $(SUITE)", "Created-By: Packages"], 60).stdout
    found = re.search(r"^(\S+/debian)/? \w+$", told, re.M)
    return found[1] if found else MIRROR


def _own_lists(home: Path) -> list[str]:
    """apt options that keep package lists in the cache: nobody needs root and the machine's own stay as they are."""
    for part in ("lists/partial", "archives/partial"):
        (home / "apt" / part).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::lists={home}/apt/lists", "-o", f"Dir::Cache={home}/apt"]


def _apt(arguments: list[str], seconds: int, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run apt-get in the C locale without asking for root's locks."""
    command = [
        "apt-get",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "Acquire::Retries=3",
        *arguments,
    ]
    environment = os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            command, cwd=directory, env=environment, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, f"apt-get gave no answer within {seconds} s", "")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stdout.splitlines() if line.startswith("E:")] or done.stdout.splitlines()
    return lines[-1] if lines else f"apt-get ended with {done.returncode}"


def _download(home: Path, name: str, options: list[str]) -> list[Path]:
    """The package files of set ``name`` with all they depend on beyond what the machine has."""
    plan = _apt([*options, "-s", "--no-install-recommends", "--reinstall", "install", *SETS[name]], 120)
    chosen = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", plan.stdout, re.M)
    if plan.returncode or not chosen:
        raise Unavailable(_last_line(plan))
    if name in NEWER:  # of all that maintainer scripts want, a program that is only run needs the libraries
        chosen = [(p, version) for p, version in chosen if p in SETS[name] or re.match("z?lib", p)]
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home))
    done = _apt([*options, "download", *(f"{package}={version}" for package, version in chosen)], 300, directory)
    files = sorted(directory.glob("*.deb"))
    if done.returncode or len(files) != len(chosen):
        shutil.rmtree(directory)
        raise Unavailable(_last_line(done))
    return files


def _unpack(files: list[Path], target: Path) -> None:
    """Unpack ``files`` into ``target``, which appears only when it is complete."""
    work = files[0].parent
    tree = work / "root"
    tree.mkdir(mode=0o755)
    for package in files:
        done = subprocess.run(["dpkg", "-x", package, tree], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"dpkg -x {package.name}: {done.stderr.strip()}")
    for name in MERGED:
        if (tree / name).is_dir() and Path("/", name).is_symlink():
            shutil.copytree(tree / name, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(tree / name)
    target.parent.mkdir(exist_ok=True)
    (target.parent / f"{target.name}.json").write_text(json.dumps([p.name for p in files]))
    tree.rename(target)
    shutil.rmtree(work)


def versions(name: str) -> list[str]:
    """The package files set ``name`` was unpacked from."""
    found: list[str] = json.loads((cache() / "roots" / f"{name}.json").read_text())
    return found


def main(arguments: list[str]) -> int:
    """``fetch [SET...]``: get every set (or those named) and say which came and which could not; 1 under CI if any."""
    if arguments[:1] != ["fetch"] or not set(arguments[1:]) <= SETS.keys():
        print(f"usage: python {sys.argv[0]} fetch [{' | '.join(SETS)}]...", file=sys.stderr)
        return 64
    print(f"test servers are kept in {cache()}")
    missing = 0
    for name in arguments[1:] or SETS:
        try:
            root(name)
            print(f"  {name}: {' '.join(versions(name))}", flush=True)
        except Unavailable as why:
            missing += 1
            print(f"  {name}: NOT AVAILABLE, its tests cannot run: {why}", flush=True)
    return 1 if missing and os.environ.get("CI") else 0  # elsewhere the tests themselves say what they skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
