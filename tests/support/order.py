"""Reads a log of system calls for what a power cut would break: the order of writing, fsync, rename and removal.

A kill cannot show a missing fsync, for the page cache outlives the process. The order in which calls were made can.
The model is the weakest one POSIX allows: nothing is on the medium before an fsync of the file (content) or of the
directory (a name in it) has returned.

The rules, for paths below one directory:

1. A file gets its final name only when its content is durable; or, in a drain, when what it was made of still is.
2. Before anything is taken away or promised (:func:`_promise`), every name made so far is durable.
3. Before a seal list is marked done, the removals it stands for are durable as well.
4. Before a message or a finished batch gets its name at the target, what the ledger says about it is durable.
5. Before LMTP is answered yes, or a group file goes, names and contents are durable; syncfs sees to all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from support.strace import Call

_FD = re.compile(r"^(\d+)<([^>]*)>")
_OUT_FD = re.compile(r"^1<")
_PATHS = re.compile(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_WRITES = frozenset(["write", "pwrite64", "writev", "pwritev", "sendfile", "copy_file_range", "ftruncate"])
_POUR = "/groups/pour/"
_GROUP = re.compile(r"/groups/[0-9a-f]{24}[^/]*$")
_CARRIES_MAIL = ("new", "ready", "kept", "work", "medium")


@dataclass
class _State:
    home: str
    moves_are_safe: bool
    dirty: set[str] = field(default_factory=set)
    made: dict[str, set[str]] = field(default_factory=dict)
    ledger: set[str] = field(default_factory=set)
    unseen: dict[str, set[str]] = field(default_factory=dict)
    removed: dict[str, set[str]] = field(default_factory=dict)
    poured: set[str] = field(default_factory=set)
    """Out of groups that are still there: nothing relies on them."""


def violations(
    calls: Iterable[Call], home: str, *, success_promises: bool = True, moves_are_safe: bool = False
) -> Iterator[str]:
    """What ``calls`` did too early, in words; nothing when every promise was kept in order.

    ``calls`` may come from several processes one after the other: what one left without an fsync when it was killed is
    not durable when the next one finds it. ``success_promises``: exit 0 says that all is durable, as it does of a
    hand-in; a push that finds its batch on the medium says nothing of the kind, for only the receipt counts.
    ``moves_are_safe``: a file on its way from one place that holds mail to another is in one of them, fsync or not.
    """
    state = _State(home, moves_are_safe)
    pid = 0
    for call in calls:
        if call.pid != pid:
            pid = call.pid
            _forget(state)
        if call.failed or call.result == "?":
            if success_promises and call.name == "exit_group" and call.text.startswith("0)"):
                yield from _promise(state, "exit 0")
                yield from _contents(state, "exit 0")
            continue
        yield from _step(state, call)


def _forget(state: _State) -> None:
    """A new process: it relies on the names it has looked at, and on no others."""
    for directory, paths in state.made.items():
        state.unseen.setdefault(directory, set()).update(paths)
    state.made.clear()


def _look(state: _State, path: str) -> None:
    """The process has looked at ``path``: a directory, and so at all names in it, or a file."""
    directory = path.rpartition("/")[0]
    seen = state.unseen.pop(path, set()) | ({path} & state.unseen.get(directory, set()))
    for one in seen:
        state.made.setdefault(one.rpartition("/")[0], set()).add(one)


def _step(state: _State, call: Call) -> Iterator[str]:
    paths = [path for path in _paths(call) if path.startswith(state.home)]
    for path in paths:
        _look(state, path)
    if call.name in _WRITES:
        yield from _wrote(state, call)
    elif call.name in {"fsync", "fdatasync"}:
        _synced(state, _fd_path(call))
    elif call.name == "syncfs" and _fd_path(call).startswith(state.home):
        for known in (state.dirty, state.ledger, state.made, state.unseen, state.removed, state.poured):
            known.clear()
    elif call.name == "sendto" and "> kept as " in call.text:
        yield from (one for one in _promise(state, "a yes of LMTP") if not any(p in one for p in state.poured))
        yield from (f"a yes of LMTP: the content of {path} is not durable yet" for path in _kept(state))
    elif call.name == "openat" and "O_CREAT" in call.text and paths:
        _make(state, paths[0])
    elif call.name.startswith(("rename", "link")) and len(paths) == 2:
        yield from _named(state, call, *paths)
    elif call.name.startswith("unlink") and paths:
        if _carries_mail(paths[0]):
            yield from _promise(state, f"the removal of {paths[0]}")
        if _GROUP.search(paths[0]):  # there may be other groups, of which it knows nothing
            yield from _promise(state, f"the removal of {paths[0]}", about="/new/")
            yield from (one for one in _contents(state, f"the removal of {paths[0]}") if "/new/" in one)
        _take(state, paths[0])
    elif call.name.startswith("mkdir") and paths:
        _make(state, paths[0])


def _paths(call: Call) -> list[str]:
    """The paths a call names, those relative to an open directory made whole."""
    return [name if name.startswith("/") else f"{base}/{name}" for base, name in _PATHS.findall(call.text)]


def _fd_path(call: Call) -> str:
    found = _FD.match(call.text)
    return found[2] if found else ""


def _wrote(state: _State, call: Call) -> Iterator[str]:
    path = _fd_path(call)
    if path.startswith(state.home):
        if "/ledger.db" in path:
            yield from _promise(state, "an entry in the ledger", about="/mail/")
            if not path.endswith("-shm"):  # an index of the log, made anew when it is missing
                state.ledger.add(path)
        else:
            state.dirty.add(path)
    elif _OUT_FD.match(call.text) and "ACK" in call.text:
        yield from _promise(state, "a receipt")


def _synced(state: _State, path: str) -> None:
    state.dirty.discard(path)
    state.ledger.discard(path)
    state.made.pop(path, None)
    state.unseen.pop(path, None)
    state.removed.pop(path, None)


def _named(state: _State, call: Call, source: str, target: str) -> Iterator[str]:
    if source in state.dirty:
        # Still in tmp/, before it is synced: no promise. Out of a group: the group is there until all is synced.
        if not target.endswith((".whole", ".part")) and _POUR not in source:
            yield f"{call.name} {source} -> {target}: the content is not durable yet"
        state.dirty.discard(source)
        state.dirty.add(target)
    if _POUR in source:
        state.poured.add(target)
    if target.endswith((".ack", ".done")):
        yield from _promise(state, target)
    if target.endswith(".done"):
        gone = sorted(p for paths in state.removed.values() for p in paths if _carries_mail(p))
        if gone:
            yield f"{target}: these removals are not durable yet: {gone}"
    if "/mail/new/" in target or "/done/" in target:
        yield from (f"{target}: {path} is not durable yet" for path in sorted(state.ledger))
    if call.name.startswith("rename"):
        if _carries_mail(source):
            yield from _promise(state, f"the move of {source}")
        _take(state, source)
        if state.moves_are_safe and _carries_mail(source):
            return
    _make(state, target)


def _make(state: _State, path: str) -> None:
    directory, _, name = path.rpartition("/")
    inside = path.removeprefix(state.home)
    passing = name.startswith((".", "ledger.db")) or "/tmp/" in inside or "/.lock" in inside
    # A drain that finds a group under its old name drains it again.
    passing = passing or _POUR in path + "/" or (_GROUP.search(path) is not None and name.endswith(".full"))
    # Manifest and signature come before their batch into the same directory, so the fsync for the batch covers them. A
    # receipt or the note of a number that is lost comes again.
    if not (passing or name.endswith((".lock", ".json", ".sig", ".ack")) or name == "sequences"):
        state.made.setdefault(directory, set()).add(path)


def _take(state: _State, path: str) -> None:
    directory = path.rpartition("/")[0]
    state.dirty.discard(path)
    state.made.get(directory, set()).discard(path)
    state.removed.setdefault(directory, set()).add(path)


def _carries_mail(path: str) -> bool:
    parts = path.split("/")
    return any(part in _CARRIES_MAIL for part in parts[-3:-1]) and not parts[-1].startswith(".")


def _kept(state: _State) -> list[str]:
    """Files a yes may rely on whose content is not durable."""
    return sorted(path for path in state.dirty - state.poured if _POUR not in path)


def _contents(state: _State, what: str) -> Iterator[str]:
    yield from (f"{what}: the content of {path} is not durable yet" for path in sorted(state.dirty))


def _promise(state: _State, what: str, about: str = "") -> Iterator[str]:
    """``what`` relies on the names made so far, those with ``about`` in them."""
    for path in sorted(p for paths in state.made.values() for p in paths):
        if about in path.removeprefix(state.home):
            yield f"{what}: the name {path} is not durable yet"
