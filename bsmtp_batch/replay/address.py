"""Where an import goes, as it is written on the command line: one URL, strictly read, one sentence for each mistake."""

from __future__ import annotations

import re
from dataclasses import dataclass

FORMS = "smtp://host:port, lmtp://host:port, lmtp:///path/socket, sendmail:/path or maildir:/path"

_HOST = re.compile(r"(?=[A-Za-z0-9].{0,252}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*(?<=[A-Za-z0-9])")
"""What the system's resolver can be asked for: an empty or long label is an error of another kind there."""
_V6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")


class BadUrl(ValueError):
    """A URL that names no target; the text is a sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class Server:
    """An SMTP server, or an LMTP server when ``lmtp``, reached over TCP; ``host`` without brackets."""

    host: str
    port: int
    lmtp: bool = False


@dataclass(frozen=True, slots=True)
class Socket:
    """An LMTP server behind the Unix socket ``path``."""

    path: str


@dataclass(frozen=True, slots=True)
class Program:
    """A program that speaks SMTP on its standard input and output when called with ``-bs``."""

    path: str


@dataclass(frozen=True, slots=True)
class Maildir:
    """A Maildir; its directories are made when they are missing."""

    path: str


Place = Server | Socket | Program | Maildir


def parse(url: str) -> Place:
    """The place that ``url`` names. Raises :class:`BadUrl`."""
    scheme, colon, rest = url.partition(":")
    if not colon or not scheme.isascii() or not scheme.isalpha():
        raise BadUrl(f"{url!r} is no target: write {FORMS}")
    if not url.isprintable() or " " in url:
        raise BadUrl(f"{url!r} holds a blank or a control character")
    if scheme == "smtp":
        return _server(url, rest, port=25)
    if scheme == "lmtp":
        if rest.startswith("///"):
            return Socket(_path(url, rest[2:]))
        return _server(url, rest, port=None)
    if scheme == "sendmail":
        return Program(_path(url, rest))
    if scheme == "maildir":
        return Maildir(_path(url, rest))
    raise BadUrl(f"there is no target {scheme!r}: write {FORMS}")


def _server(url: str, rest: str, *, port: int | None) -> Server:
    if not rest.startswith("//"):
        raise BadUrl(f"{url!r} needs two slashes behind the colon")
    place = rest[2:].removesuffix("/")
    if "@" in place:
        raise BadUrl(f"{url!r} holds a user name; the target is asked for no login")
    if "/" in place:
        raise BadUrl(f"{url!r} has a path behind its host; only the socket of lmtp:///path has one")
    host, digits = _divided(url, place)
    if not digits and port is None:
        raise BadUrl(f"{url!r} names no port, and LMTP has none by default")
    number = _port(url, digits) if digits else (port or 0)
    if port is None and number == 25:
        raise BadUrl(f"{url!r} asks for LMTP on port 25, which is for SMTP alone (RFC 2033 section 5)")
    return Server(host, number, lmtp=port is None)


def _divided(url: str, place: str) -> tuple[str, str]:
    """Host without brackets, and the digits behind its colon (``""``: no colon)."""
    if place.startswith("["):
        host, bracket, after = place[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise BadUrl(f"{url!r} opens a bracket and does not close it before the port")
        valid = _V6.fullmatch(host) or _HOST.fullmatch(host)
        digits = after[1:]
        if after == ":":
            raise BadUrl(f"{url!r} has a colon and no port behind it")
    else:
        host, colon, digits = place.partition(":")
        if ":" in digits:
            raise BadUrl(f"{url!r} holds an IPv6 address without brackets: write [address]:port")
        if colon and not digits:
            raise BadUrl(f"{url!r} has a colon and no port behind it")
        valid = _HOST.fullmatch(host)
    if not host:
        raise BadUrl(f"{url!r} names no host")
    if not valid:
        raise BadUrl(f"{host!r} is not the name or address of a host")
    return host, digits


def _port(url: str, digits: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        raise BadUrl(f"{url!r}: a port is a number from 1 to 65535")
    return int(digits)


def _path(url: str, path: str) -> str:
    if path.startswith("//"):
        path = path[2:]  # sendmail:///usr/sbin/sendmail says the same with an empty host
    if not path.startswith("/"):
        raise BadUrl(f"{url!r} needs a path that begins with a slash")
    if path.endswith("/") and path.strip("/"):
        path = path.rstrip("/")
    if not path.strip("/"):
        raise BadUrl(f"{url!r} names no file or directory")
    if "\0" in path or ".." in path.split("/"):
        raise BadUrl(f"{url!r} steps out of a directory with ..")
    return path
