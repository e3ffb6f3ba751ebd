"""The least Python program that keeps a message: one locked append and an fsync (the yardstick of hotpath.py).

Arguments: FILE SENDER RCPT... The message on standard input is CRLF text with doubled dots already. It has none of what
makes a hand-in safe: no check of anything, no name of its own, no retry recognised, no limit, no deadline.
"""

import posix
import sys

try:
    file, sender, *rcpts = sys.argv[1:]
    parts = [f"MAIL FROM:<{sender}>\r\n".encode()]
    parts += [f"RCPT TO:<{rcpt}>\r\n".encode() for rcpt in rcpts]
    parts.append(b"DATA\r\n")
    while data := posix.read(0, 1 << 20):
        parts.append(data)
    parts.append(b".\r\n")
    fd = posix.open(file, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
    posix.lockf(fd, posix.F_LOCK, 0)
    size = posix.fstat(fd).st_size
    for at in range(0, len(parts), 1000):
        batch = parts[at : at + 1000]
        if posix.writev(fd, batch) != sum(map(len, batch)):
            posix.ftruncate(fd, size)
            posix._exit(75)
    posix.lockf(fd, posix.F_ULOCK, 0)
    posix.fsync(fd)
except BaseException:
    posix._exit(75)
posix._exit(0)
