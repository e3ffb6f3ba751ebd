"""An SMTP server that takes everything and remembers it: what an MTA would have after the same conversation.

A message counts from the moment its final dot has arrived, before the reply is sent. A client that is killed between
the two has sent it and does not know: the named window.
"""

from __future__ import annotations

import socket
import threading
from io import BufferedReader
from typing import Self

from support.two_nodes import Transaction


class RecordingServer:
    """Listens on a port of its own while the ``with`` block lasts; ``messages`` holds what it took, in order."""

    def __init__(self) -> None:
        self.messages: list[Transaction] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    @property
    def url(self) -> str:
        """The target to name on the command line."""
        return f"smtp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self._join()

    def settle(self) -> None:
        """Wait until every conversation so far has ended, so that nothing of a dead client is still on its way."""
        with socket.create_connection(self._listener.getsockname()) as last:
            last.recv(1)  # greeted: whoever connected before us was accepted before us
        self._join()

    def _join(self) -> None:
        while self._threads:
            self._threads.pop().join()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            thread = threading.Thread(target=self._converse, args=(connection,))
            thread.start()
            self._threads.append(thread)  # started by now: who settles meanwhile may wait for it

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                self._talk(connection, lines)
            except OSError:
                return  # the client was killed: what it had sent completely is recorded

    def _talk(self, connection: socket.socket, lines: BufferedReader) -> None:
        connection.sendall(b"220 recording\r\n")
        sender, recipients = b"", []
        for line in lines:
            verb = line[:4].upper()
            reply = b"250 ok\r\n"
            if verb == b"EHLO":
                reply = b"250-recording\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 100000000\r\n"
            elif verb == b"MAIL":
                sender, recipients = _path(line), []
            elif verb == b"RCPT":
                recipients.append(_path(line))
            elif verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                content = _content(lines)
                if content is None:
                    return
                self.messages.append(Transaction(sender, tuple(recipients), content))
            elif verb == b"QUIT":
                reply = b"221 bye\r\n"
            connection.sendall(reply)


def _path(line: bytes) -> bytes:
    return line[line.index(b"<") + 1 : line.rindex(b">")]


def _content(lines: BufferedReader) -> bytes | None:
    content = []
    for line in lines:
        if line == b".\r\n":
            return b"".join(content)
        content.append(line.removeprefix(b"."))
    return None
