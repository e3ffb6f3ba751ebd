"""What one hand-in costs, against the least program that keeps a message: python bench/hotpath.py [ROUNDS]

Processor time of the whole process (user and system) and peak memory, as the kernel counts them. The variants take
turns, so that whatever else the machine does hits all of them: the ratio is the median of the ratios of the rounds, and
only that means something elsewhere.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from support.spooldir import make_installation, make_route  # noqa: E402 - found through the line above

SMALL = b"Received: from client.example by hub.example\r\nSubject: hello\r\n\r\n" + b"x" * 74 + b"\r\n"
PEAK = """
import posix, sys
end, start = posix.pipe()
posix.set_inheritable(start, True)
feeder = posix.fork()
if not feeder:
    posix.dup2(start, 1)
    posix.close(end)
    posix.close(start)
    posix.execv("/bin/cat", ["cat", sys.argv[1]])
posix.close(start)
child = posix.posix_spawn(sys.argv[2], sys.argv[2:], posix.environ, file_actions=[(posix.POSIX_SPAWN_DUP2, end, 0)])
posix.close(end)
_, status, usage = posix.wait4(child, 0)
posix.waitpid(feeder, 0)
print(status, usage.ru_maxrss)
"""


def variants(directory: Path) -> dict[str, list[str]]:
    """The command of each program, all working in ``directory``."""
    spool = directory / "spool"
    make_route(spool, "site.example")
    arguments = ["--spool", str(spool), "-f", "sender@example.org", "--", "site.example", "rcpt@site.example"]
    stub = make_installation(directory / "merged")
    modules = make_installation(directory / "modules", merged=False)
    python = [stub[0], "-I", "-S"]
    append = [str(directory / "batch"), "sender@example.org", "rcpt@site.example"]
    found = {
        "python -c pass": [*python, "-c", "pass"],
        "append_min.py": [*python, str(HERE / "append_min.py"), *append],
        "stub, merged module": [*stub, *arguments],
        "stub, separate modules": [*modules, *arguments],
    }
    if perl := shutil.which("perl"):
        found["append_min.pl"] = [perl, str(HERE / "append_min.pl"), *append]
    return found


def processor_ms(argv: list[str], message: Path) -> float:
    """User and system time of one run of ``argv`` with ``message`` as its standard input, in milliseconds."""
    redirect = [(os.POSIX_SPAWN_OPEN, 0, str(message), os.O_RDONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, {"PATH": "/usr/bin:/bin"}, file_actions=redirect)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{argv} ended with {os.waitstatus_to_exitcode(status)}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def peak_mib(argv: list[str], message: Path) -> float:
    """Peak memory of ``argv`` reading ``message`` from a pipe, in MiB.

    A bare Python starts it, because the kernel counts the memory of its parent into a child's peak.
    """
    command = [argv[0] if "python" in argv[0] else sys.executable, "-I", "-S", "-c", PEAK, str(message), *argv]
    status, kib = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if int(status):
        raise SystemExit(f"{argv} ended with status {status}")
    return int(kib) / 1024


def main() -> None:
    """Measure and print two tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    with tempfile.TemporaryDirectory(prefix="hotpath-", dir=os.environ.get("BENCH_DIR")) as name:
        directory = Path(name)
        small, large = directory / "small", directory / "large"
        small.write_bytes(SMALL + b"y" * 72 + (b"\r\n" + b"y" * 72) * 52 + b"\r\n")
        programs = variants(directory)
        times: dict[str, list[float]] = {label: [] for label in programs}
        for _ in range(rounds):
            for label, argv in programs.items():
                times[label].append(processor_ms(argv, small))
        print(f"one message of {small.stat().st_size} octets, median of {rounds} rounds\n")
        print(f"{'program':<26}{'CPU ms':>8}{'ratio':>8}")
        for label, values in times.items():
            ratio = statistics.median(a / b for a, b in zip(values, times["append_min.py"], strict=True))
            print(f"{label:<26}{statistics.median(values):>8.2f}{ratio:>8.2f}")
        large.write_bytes(b"Subject: large\r\n\r\n" + (b"z" * 76 + b"\r\n") * (100_000_000 // 78))
        bare = peak_mib(programs["python -c pass"], small)
        print(f"\none message of 100 MB, peak memory\n\n{'program':<26}{'MiB':>8}{'over bare':>11}")
        for label, argv in programs.items():
            peak = bare if label == "python -c pass" else peak_mib(argv, large)
            print(f"{label:<26}{peak:>8.1f}{peak - bare:>11.1f}")


if __name__ == "__main__":
    main()
