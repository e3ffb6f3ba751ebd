"""A process that has everything imported and forks one child per command, so that a command costs milliseconds.

A command line of this project spends 200 ms on imports and 20 ms on its work. A crash matrix starts thousands of them,
and what a kill hits before the work begins tells nothing. The children run the very functions the console commands
run, from the parsed command line on.

A child that shall be traced stops itself before it begins; strace attaches and lets it go on. The first call after that
is a ``stat`` of a name nobody has (:data:`MARK`), so the log says where the work starts.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "/bsmtp-batch-mark"
_PR_SET_PTRACER = 0x59616D61


@dataclass(frozen=True)
class Step:
    """One command: ``program`` is ``deliver`` or ``cli``; ``fsize`` cuts every file off there (octets).

    ``stdin`` and ``stdout`` are paths (two pipes with names for a conversation); without ``stdout`` it goes to a file.
    """

    program: str
    argv: list[str]
    stdin: str = "/dev/null"
    fsize: int | None = None
    stdout: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal."""

    step: Step
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        command = " ".join([self.step.program, *self.step.argv])
        return f"{command}\n  -> {self.code}\n  stdout: {self.stdout.strip()}\n  stderr: {self.stderr.strip()}"


@dataclass
class Warm:
    """The parent of the commands; ``scratch`` takes their output, ``package`` is put first on their path."""

    scratch: Path
    package: Path | None = None
    _process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(self.package or ""), "NO_COLOR": "1", "COLUMNS": "200"}
        environment.pop("BSMTP_BATCH_SPOOL", None)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.scratch)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=self.scratch,
        )  # fmt: skip

    def close(self) -> None:
        """End the parent."""
        self._process.communicate()

    def run(self, step: Step, meanwhile: Callable[[int], None] | None = None) -> Ended:
        """Run a command and wait for it; ``meanwhile`` is called while it runs, with its process id."""
        if meanwhile is None:
            return self._ended(step, self._ask({"start": vars(step), "then": "wait"}))
        pid = self._ask({"start": vars(step), "then": "go on"})["pid"]
        meanwhile(pid)
        return self._ended(step, self._ask({"wait": pid}))

    def traced(self, step: Step, strace: list[str], meanwhile: Callable[[int], None] | None = None) -> Ended:
        """Run a command under ``strace`` (its options, without a program), from :data:`MARK` on; ``meanwhile`` as
        above."""
        pid = self._ask({"start": vars(step), "then": "stop"})["pid"]
        tracer = subprocess.Popen([*strace, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            os.kill(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)
        if meanwhile is not None:
            meanwhile(pid)
        answer = self._ask({"wait": pid})
        tracer.communicate()
        assert "attached" in said, f"strace could not attach: {said}"
        return self._ended(step, answer)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that starts the commands has died"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self, step: Step, answer: dict[str, Any]) -> Ended:
        out, err = ((self.scratch / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        return Ended(step, answer["code"], out, err)


def _serve(scratch: str) -> None:
    """Answer requests until the input ends: fork, or wait for what was forked."""
    _import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        then = request.get("then", "wait")
        pid = request["wait"] if "wait" in request else _fork(scratch, request["start"], then == "stop")
        if then == "stop":
            os.waitpid(pid, os.WUNTRACED)
        if then != "wait":
            answer = {"pid": pid}
        else:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
        print(json.dumps(answer), flush=True)


def _import_everything() -> None:
    import bsmtp_batch

    for module in pkgutil.walk_packages(bsmtp_batch.__path__, "bsmtp_batch."):
        if module.name.rpartition(".")[2] not in {"__main__", "stub"}:
            with contextlib.suppress(ImportError, SyntaxError):  # the command that needs it will tell
                importlib.import_module(module.name)
    for name in ("sqlite3", "email.message", "filelock", "rich.table", "rich.progress", "socket", "lzma"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page it looks at


def _fork(scratch: str, step: dict[str, Any], stopped: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = _child(scratch, Step(**step), stopped)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _child(scratch: str, step: Step, stopped: bool) -> int:
    from bsmtp_batch.cli.app import run
    from bsmtp_batch.deliver.main import main as deliver

    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (path, flags) in enumerate(
        [(step.stdin, os.O_RDONLY), (step.stdout or f"{scratch}/stdout", write), (f"{scratch}/stderr", write)]
    ):
        fd = os.open(path, flags, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    if step.fsize is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (step.fsize, resource.RLIM_INFINITY))
    if stopped:
        _let_anybody_trace()
        os.kill(os.getpid(), signal.SIGSTOP)
    os.path.exists(MARK)
    if step.program == "deliver":
        deliver(step.argv)
    return run(step.argv)


def _let_anybody_trace() -> None:
    """Yama lets a process be traced by its ancestors only, and strace is none of this one's."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)


if __name__ == "__main__":
    _serve(sys.argv[1])
