"""How fast mail goes into an SMTP server: messages per second and CPU time of `import`, near and far.

    python -m bench.flights [--before DIRECTORY] [--messages N] [--recipients N] [--delay SECONDS]

The server is a process of its own that takes everything and stores nothing. ``--before`` names a directory with
another state of the package; the two take turns. ``--delay`` adds so much to each round trip. The last column is the
same server without PIPELINING: one command for each round trip.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from support.importing import Letter, batch  # noqa: E402

OFFERS = b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
PLAIN = b"250-sink\r\n250 8BITMIME\r\n"


def converse(connection: socket.socket, offers: bytes, delay: float) -> None:
    """Answer each packet at once, or ``delay`` seconds later."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"220 sink\r\n")
    kept, text = b"", False
    while data := connection.recv(1 << 18):
        kept += data
        out: list[bytes] = []
        while kept:
            mark = b"\r\n.\r\n" if text else b"\r\n"
            at = kept.find(mark)
            if at < 0:
                break
            line, kept = kept[:at], kept[at + len(mark) :]
            verb = b"." if text else line[:4].upper()
            text = verb == b"DATA"
            out.append(b"354 go\r\n" if text else offers if verb == b"EHLO" else b"250 ok\r\n")
        if out:
            time.sleep(delay)
            connection.sendall(b"".join(out))


def serve(listener: socket.socket, offers: bytes, delay: float) -> None:
    while True:
        threading.Thread(target=converse, args=(listener.accept()[0], offers, delay), daemon=True).start()


def once(package: Path, file: Path, offers: bytes, delay: float) -> tuple[float, float]:
    """Wall and CPU seconds of one import of ``file``."""
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if not pid:
        serve(listener, offers, delay)
    port = listener.getsockname()[1]
    listener.close()
    try:
        with tempfile.TemporaryDirectory() as spool:
            command = [
                sys.executable,
                "-m",
                "bsmtp_batch",
                "import",
                "--spool",
                spool,
                "--to",
                f"smtp://127.0.0.1:{port}",
            ]
            began = time.monotonic()
            child = subprocess.Popen(
                [*command, str(file)],
                env=os.environ | {"PYTHONPATH": str(package)},
                stdout=subprocess.DEVNULL,
                cwd=spool,
            )
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.monotonic() - began
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise SystemExit(f"import ended with {child.returncode}")
            return wall, usage.ru_utime + usage.ru_stime
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--octets", type=int, default=4096)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    to = tuple(b"u%d@site.example" % n for n in range(asked.recipients))
    text = b"Subject: x\r\n\r\n" + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n" * (
        asked.octets // 64
    )
    with tempfile.TemporaryDirectory() as scratch:
        file, empty = Path(scratch) / "x.bsmtp", Path(scratch) / "one.bsmtp"
        file.write_bytes(batch(Letter(to=to, content=text + b"%d\r\n" % n) for n in range(asked.messages)))
        empty.write_bytes(batch([Letter(to=to)]))
        states = {"now": (ROOT, OFFERS)}
        if asked.before:
            states["before"] = (asked.before, OFFERS)
        if asked.delay:
            states["one command each"] = (ROOT, PLAIN)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in states}
        for _ in range(asked.runs):
            for name, (package, offers) in states.items():
                start = once(package, empty, offers, asked.delay)
                whole = once(package, file, offers, asked.delay)
                found[name].append((whole[0] - start[0], whole[1] - start[1]))
    for name, runs in found.items():
        wall, cpu = (sorted(values)[len(runs) // 2] for values in zip(*runs, strict=True))
        rate, each = asked.messages / wall, cpu / asked.messages * 1e6
        print(f"{name:18} {rate:9.1f} messages/s {each:8.0f} us of CPU a message")


if __name__ == "__main__":
    main()
