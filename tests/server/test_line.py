"""A connection reads nothing before it is asked to: what came in the clear must not wait for TLS to begin."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bsmtp_batch.edge.serving import Line


@pytest.fixture
def talkative():
    """A client that speaks before anybody listens, and the socket it is connected to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        client.sendall(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<>\r\n")
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        yield accepted
        client.close()


def test_what_a_client_says_unasked_stays_with_the_system(talkative):
    async def served():
        loop = asyncio.get_running_loop()
        _, line = await loop.connect_accepted_socket(Line, talkative)
        await line.made
        for _ in range(20):
            await asyncio.sleep(0)
        before = bytes(line._received)
        asked = await line.read(5)
        line.abort()
        await line.finish(5)
        return before, asked

    before, asked = asyncio.run(served())

    assert before == b""
    assert asked.startswith(b"EHLO x\r\n")


def test_a_connection_is_closed_once_however_often_that_is_asked():
    closed = []

    class Transport(asyncio.Transport):
        def is_closing(self):
            return bool(closed)

        def close(self):
            closed.append("close")

        def abort(self):
            closed.append("abort")

    async def served():
        line = Line()
        line.connection_made(Transport())
        line.close()
        line.close()
        line.abort()

    asyncio.run(served())

    assert closed == ["close", "abort"]
