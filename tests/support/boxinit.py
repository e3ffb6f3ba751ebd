"""The first process of a box: builds its view of the machine, then keeps it until standard input ends.

Runs as ``unshare --mount --uts --net --pid --fork python boxinit.py SETTINGS``, SETTINGS being the JSON that
:class:`support.box.Box` writes. Uses nothing but the standard library: it runs before the box has anything else.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LIBC = ctypes.CDLL(None, use_errno=True)
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40


def mount(kind: str | None, source: str, target: Path | str, options: str = "", flag: str = "") -> None:
    """mount(8) with a file system type or, with ``flag``, as a bind."""
    words = ["mount", *(["-t", kind] if kind else []), *([flag] if flag else []), *(["-o", options] if options else [])]
    subprocess.run([*words, source, str(target)], check=True)


def layered(lower: str, target: Path, scratch: Path, name: str) -> Path:
    """Show directory ``lower`` at ``target`` with a writable layer of our own on top; returns that layer."""
    upper, work = scratch / f"{name}.upper", scratch / f"{name}.work"
    upper.mkdir()
    shutil.copystat(lower, upper)
    work.mkdir()
    target.mkdir(parents=True, exist_ok=True)
    mount("overlay", "overlay", target, f"lowerdir={lower},upperdir={upper},workdir={work}")
    return upper


def add_accounts(etc: Path, accounts: dict[str, str]) -> None:
    """Add users and groups of the given names and home directories, with ids the machine does not use.

    The name service reads these files alone: what a directory server says has no place in a test.
    """
    passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
    known = {line.split(":")[0] for line in passwd.splitlines()}
    grouped = {line.split(":")[0]: line.split(":")[2] for line in group.splitlines() if line.count(":") >= 2}
    used = {int(line.split(":")[2]) for line in [*passwd.splitlines(), *group.splitlines()] if line.count(":") >= 2}
    free = iter(sorted(set(range(400, 1000)) - used))
    for name, home in accounts.items():
        if name not in grouped:
            grouped[name] = str(next(free))
            group += f"{name}:x:{grouped[name]}:\n"
        if name not in known:
            passwd += f"{name}:x:{next(free)}:{grouped[name]}::{home}:/usr/sbin/nologin\n"
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text(group)
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n")


def replace(path: Path, text: str) -> None:
    """Write ``path`` as a plain file, whatever it was before: a link may lead out of the box."""
    path.unlink(missing_ok=True)
    path.write_text(text)


def let_in(tree: Path, needed: list[str]) -> None:
    """Let every user of the box enter the directories that lead to ``needed``; only the box's own layer changes."""
    for name in needed:
        for part in [Path(name), *Path(name).parents]:
            here = tree / part.relative_to("/")
            if here.is_dir() and not here.is_symlink() and not here.stat().st_mode & 0o001:
                here.chmod(here.stat().st_mode | (0o055 if part == Path(name) else 0o011))


def mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def build(settings: dict[str, Any]) -> None:
    """Make the box's file tree and move into it."""
    scratch = Path("/mnt")  # hidden by our mount in this process's view alone
    mount(None, "none", "/", flag="--make-rprivate")
    mount("tmpfs", "tmpfs", scratch, "mode=0755")
    tree = scratch / "tree"
    layered("/", tree, scratch, "root")
    for unpacked in settings["roots"]:
        subprocess.run(["cp", "-a", f"{unpacked}/.", str(tree)], check=True)
    for number, point in enumerate(sorted({mount_point(p) for p in settings["needed"]} - {"/"})):
        layered(point, tree / point[1:], scratch, f"mount{number}")
    let_in(tree, settings["needed"])
    furnish(tree, settings)
    for place, unpacked in settings["apart"].items():
        apart(tree, place, unpacked)
    os.chroot(tree)
    os.chdir("/")


def furnish(tree: Path, settings: dict[str, Any]) -> None:
    """Give the tree what a machine has beside its files: /proc, devices, accounts, names."""
    mount("proc", "proc", tree / "proc")
    for place in ("run", "dev"):
        mount("tmpfs", "tmpfs", tree / place, "mode=0755")
    for device in DEVICES:
        (tree / "dev" / device).touch()
        mount(None, f"/dev/{device}", tree / "dev" / device, flag="--bind")
    (tree / "dev/shm").mkdir()
    (tree / "dev/fd").symlink_to("/proc/self/fd")
    (tree / "run/lock").mkdir(mode=0o1777)
    add_accounts(tree / "etc", settings["accounts"])
    replace(tree / "etc/hosts", settings["hosts"])
    replace(tree / "etc/resolv.conf", "nameserver 127.0.0.1\n")
    replace(tree / "etc/hostname", settings["hostname"] + "\n")
    for link, target in settings["links"].items():
        (tree / link[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tree / link[1:]).symlink_to(target)


def apart(tree: Path, place: str, unpacked: str) -> None:
    """Make ``place`` a root to run programs of another release in: its /usr is ``unpacked``'s, all else is the box's.

    Nothing can be written to what was unpacked; it is there for later boxes too.
    """
    root = tree / place[1:]
    (root / "usr").mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    mount(None, f"{unpacked}/usr", root / "usr", "ro", "--bind")
    for name in ("dev", "etc", "proc", "run", "tmp", "var"):
        (root / name).mkdir()
        mount(None, str(tree / name), root / name, flag="--rbind")


def loopback_up() -> None:
    """The box has a network of its own with nothing but 127.0.0.1 in it: every port is free and no mail leaves."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))


def keep() -> None:
    """Collect what programs log and the children they leave, until standard input ends; then all of the box ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log, open("/var/log/box.log", "ab", 0) as file:
        log.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([0, log], [], [])
            if log in ready:
                file.write(log.recv(65536).rstrip(b"\0\n") + b"\n")
            if 0 in ready and not os.read(0, 1):
                return


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    build(given)
    LIBC.sethostname(given["hostname"].encode(), len(given["hostname"].encode()))
    loopback_up()
    keep()
