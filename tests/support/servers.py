"""A server for a fixture: started, lent, stopped; without it the test skips, or fails under CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from support.debian import Unavailable, need


class Closing(Protocol):
    def close(self) -> None: ...


Server = TypeVar("Server", bound=Closing)


def made(make: Callable[[], Server]) -> Server:
    """A server that the caller stops."""
    try:
        return make()
    except Unavailable as missing:
        need(str(missing))


def running(make: Callable[[], Server]) -> Iterator[Server]:
    """Start a server for a fixture, and stop it afterwards."""
    server = made(make)
    yield server
    server.close()
