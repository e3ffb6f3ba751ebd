"""An LMTP and SMTP server that keeps what it is given, envelope and octets: the tests' mailbox, and their world.

``python recorder.py PORT DIRECTORY`` inside a box. Each message becomes DIRECTORY/N.eml, its content with CRLF and its
doubled dots undone, and then DIRECTORY/N.json, ``{"sender": ..., "rcpts": [...]}`` as they stood in the commands.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socketserver
import sys

NUMBERS = itertools.count(1)
GREETED = b"250-recorder\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n"


class Recorder(socketserver.StreamRequestHandler):
    """One connection."""

    disable_nagle_algorithm = True  # several small replies to one group of commands

    def handle(self) -> None:
        self.sender, self.rcpts, self.lmtp = "", list[str](), False
        self.wfile.write(b"220 recorder\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"QUIT":
                self.wfile.write(b"221 2.0.0 ok\r\n")
                return
            self.wfile.write(self.answer(verb, line))

    def answer(self, verb: bytes, line: bytes) -> bytes:
        if verb in (b"LHLO", b"EHLO"):
            self.lmtp = verb == b"LHLO"
            return GREETED
        if verb in (b"MAIL", b"RSET"):
            self.sender, self.rcpts = self.path(line), []
        elif verb == b"RCPT":
            self.rcpts.append(self.path(line))
        elif verb == b"DATA":
            self.wfile.write(b"354 go on\r\n")
            self.keep()
            return b"250 2.0.0 kept\r\n" * (len(self.rcpts) if self.lmtp else 1)
        return b"250 2.0.0 ok\r\n"

    def path(self, line: bytes) -> str:
        found = re.search(rb"<(.*)>", line)
        return found[1].decode() if found else ""

    def keep(self) -> None:
        number = next(NUMBERS)
        with open(f"{sys.argv[2]}/{number}.eml", "wb") as file:
            while (line := self.rfile.readline()) != b".\r\n":
                file.write(line[1:] if line.startswith(b".") else line)
        with open(f"{sys.argv[2]}/.{number}", "w") as file:
            json.dump({"sender": self.sender, "rcpts": self.rcpts}, file)
        os.rename(f"{sys.argv[2]}/.{number}", f"{sys.argv[2]}/{number}.json")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    os.makedirs(sys.argv[2], exist_ok=True)
    with Server(("127.0.0.1", int(sys.argv[1])), Recorder) as server:
        server.serve_forever()
