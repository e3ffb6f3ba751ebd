"""A POP3 server with a fixed set of messages: what fetchmail fetches from in the tests.

``python pop3.py PORT DIRECTORY`` inside a box: each file in DIRECTORY, by name, is a message that ends its last line.
"""

from __future__ import annotations

import os
import re
import socketserver
import sys


class Pop3(socketserver.StreamRequestHandler):
    """One connection; whatever the name and the password, they are right."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        messages = [self.read(name) for name in sorted(os.listdir(sys.argv[2]))]
        self.wfile.write(b"+OK pop3\r\n")
        while line := self.rfile.readline():
            verb, *words = line.decode().split()
            self.wfile.write(self.answer(verb.upper(), words, messages))
            if verb.upper() == "QUIT":
                return

    def read(self, name: str) -> bytes:
        with open(os.path.join(sys.argv[2], name), "rb") as file:
            return file.read().replace(b"\r", b"").replace(b"\n", b"\r\n")

    def answer(self, verb: str, words: list[str], messages: list[bytes]) -> bytes:
        if verb == "STAT":
            return f"+OK {len(messages)} {sum(map(len, messages))}\r\n".encode()
        if verb in ("LIST", "UIDL"):
            rows = [f"{n} {len(m) if verb == 'LIST' else f'id{n}'}\r\n" for n, m in enumerate(messages, 1)]
            if words:
                return f"+OK {rows[int(words[0]) - 1]}".encode()
            return f"+OK\r\n{''.join(rows)}.\r\n".encode()
        if verb in ("RETR", "TOP"):
            content = messages[int(words[0]) - 1]
            return b"+OK\r\n" + re.sub(rb"(?m)^\.", b"..", content) + b".\r\n"
        if verb in ("CAPA", "AUTH", "STLS", "APOP"):
            return b"-ERR no\r\n"
        return b"+OK\r\n"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Pop3) as server:
        server.serve_forever()
