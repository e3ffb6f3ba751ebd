"""A client that hands in as fast as it can: load.py SOCKET SESSIONS MESSAGES FILE ROUTES prints seconds.

Each session is a thread that sends [body, dot, MAIL, RCPT, DATA] in one piece; message n goes to route n modulo ROUTES
(``r0.example`` and so on), or to ``site.example`` where ROUTES is 0.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

path, sessions, count, file, routes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
body = Path(file).read_bytes().replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..") + b".\r\n"
numbers: Iterator[int] = iter(range(count))
faults: list[str] = []


def opening(number: int) -> bytes:
    domain = b"r%d.example" % (number % routes) if routes else b"site.example"
    return b"MAIL FROM:<s@client.example>\r\nRCPT TO:<u@%b>\r\nDATA\r\n" % domain


def read(connection: socket.socket, lines: int, wanted: bytes) -> None:
    data = b""
    while data.count(b"\n") < lines:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"closed after {data!r}")
        data += piece
    if not data.splitlines()[-1].startswith(wanted):
        raise ConnectionError(repr(data))


def session() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        read(connection, 1, b"220")
        connection.sendall(b"LHLO client.example\r\n")
        said = b""
        while b"\n250 " not in b"\n" + said or not said.endswith(b"\n"):
            said += connection.recv(65536)
        ahead = next(numbers, None)
        if ahead is None:
            return
        connection.sendall(opening(ahead))
        read(connection, 3, b"354")
        while (ahead := next(numbers, None)) is not None:
            connection.sendall(body + opening(ahead))
            read(connection, 4, b"354")
        connection.sendall(body)
        read(connection, 1, b"250")


def guarded() -> None:
    try:
        session()
    except OSError as fault:
        faults.append(str(fault))


started = time.monotonic()
threads = [threading.Thread(target=guarded) for _ in range(sessions)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if faults:
    sys.exit(f"{len(faults)} sessions failed: {faults[0]}")
print(time.monotonic() - started)
