"""Both ends of an on-demand relay as scripts on a socket: no code of the package, nothing done that a test did not ask.

They prove the rigs around real programs; what they say themselves is RFC 2645 section 6 line by line.
"""

from __future__ import annotations

import base64
import hmac
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from support.mailcheck import Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.corpus import Mail

CHALLENGE = b"<1896.697170952@postoffice.example>"


class Wire:
    """One end of a connection, line by line; what was heard is kept in ``heard``."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(30)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self.reader: BinaryIO = connected.makefile("rb")
        self.heard: list[bytes] = []

    def say(self, *lines: bytes) -> None:
        self.put(b"".join(line + b"\r\n" for line in lines))

    def put(self, data: bytes) -> None:
        """Write whole lines: at once in the clear, and under TLS a line in each record, or fetchmail never reads on."""
        for piece in data.splitlines(True) if isinstance(self.socket, ssl.SSLSocket) else [data]:
            self.socket.sendall(piece)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Begin TLS: as the server or as the client that ``context`` is for."""
        self.reader.close()
        server = context.protocol is ssl.PROTOCOL_TLS_SERVER
        self.socket = context.wrap_socket(self.socket, server_side=server)
        self.reader = self.socket.makefile("rb")

    def line(self) -> bytes:
        """The next line without its end; b"" where the far side has closed."""
        line = self.reader.readline()
        assert line == b"" or line.endswith(b"\r\n"), line[-80:]
        self.heard.append(line[:-2])
        return line[:-2]

    def reply(self) -> bytes:
        """The next reply, its lines joined by LF."""
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        return b"\n".join(lines)

    def ask(self, command: bytes) -> bytes:
        self.say(command)
        return self.reply()

    def content(self) -> bytes:
        """Lines up to the dot, with doubled dots undone."""
        found = []
        while (line := self.reader.readline()) != b".\r\n":
            assert line, "the connection was closed within a message"
            found.append(line[1:] if line.startswith(b".") else line)
        return b"".join(found)

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


def cram_md5(user: str, secret: str, challenge: bytes) -> bytes:
    """The response of RFC 2195, in base64."""
    return base64.b64encode(f"{user} {hmac.new(secret.encode(), challenge, 'md5').hexdigest()}".encode())


# --- as the customer --------------------------------------------------------------------------------------------------


def log_in(wire: Wire, user: str, secret: str, tls: ssl.SSLContext | None = None) -> None:
    """Greeting, EHLO, with ``tls`` STARTTLS and EHLO, and AUTH CRAM-MD5 on a fresh connection to a provider."""
    assert wire.reply().startswith(b"220 ")
    if tls:
        assert b"STARTTLS" in wire.ask(b"EHLO customer.example")
        assert wire.ask(b"STARTTLS").startswith(b"220")
        wire.encrypt(tls)
    offered = wire.ask(b"EHLO customer.example").split(b"\n")
    assert any(re.fullmatch(rb"250[- ]ATRN", line) for line in offered), offered
    assert any(re.fullmatch(rb"250[- ]AUTH .*CRAM-MD5.*", line) for line in offered), offered
    challenge = wire.ask(b"AUTH CRAM-MD5")
    assert challenge.startswith(b"334 "), challenge
    assert wire.ask(cram_md5(user, secret, base64.b64decode(challenge[4:]))).startswith(b"235")


def receive(
    wire: Wire, offers: Iterable[bytes] = (b"8BITMIME", b"SMTPUTF8", b"SIZE"), *, rude: bool = False
) -> list[Parcel]:
    """After the 250 to ATRN: greet, take every message, until QUIT, or until the provider just goes with ``rude``."""
    wire.say(b"220 customer.example")
    parcels = []
    sender, rcpts = "", list[str]()
    while command := wire.line():
        verb = command[:4].upper()
        if verb == b"QUIT":
            wire.say(b"221 bye")
            return parcels
        if verb == b"EHLO":
            lines = [b"customer.example", *offers]
            wire.say(*(b"250-" + line for line in lines[:-1]), b"250 " + lines[-1])
            continue
        if verb in (b"MAIL", b"RCPT"):
            (path,) = re.findall(rb"<(.*)>", command)
            sender, rcpts = (path.decode(), []) if verb == b"MAIL" else (sender, [*rcpts, path.decode()])
        elif verb == b"DATA":
            wire.say(b"354 go on")
            parcels.append(Parcel(sender, tuple(rcpts), wire.content()))
        wire.say(b"250 ok")
    assert rude, "the provider went without QUIT"
    return parcels


# --- as the provider --------------------------------------------------------------------------------------------------


@dataclass
class Script:
    """What a provider says; the rest is as the RFC has it. ``offers`` are its keywords before AUTH."""

    user: str
    secret: str
    atrn: bytes = b"250 OK now reversing the connection"
    etrn: bytes = b"250 OK, queuing for the node started"
    offers: tuple[bytes, ...] = (b"AUTH CRAM-MD5", b"ATRN")
    auth: bytes = b"235 2.7.0 you are who you say"
    tls: ssl.SSLContext | None = None
    """TLS: from the first octet, unless ``offers`` hold STARTTLS."""
    asked: list[bytes] = field(default_factory=list)
    """The commands that came before the turn."""


def let_in(wire: Wire, script: Script) -> bool:
    """Speak to a customer until it quits or the connection is to be turned; whether it is."""
    offers = script.offers
    if script.tls and b"STARTTLS" not in offers:
        wire.encrypt(script.tls)
    wire.say(b"220 provider.example")
    while command := wire.line():
        script.asked.append(command)
        verb = command.split(b" ")[0].upper()
        if verb == b"EHLO":
            lines = [b"provider.example", *offers]
            wire.say(*(b"250-" + line for line in lines[:-1]), b"250 " + lines[-1])
        elif verb == b"STARTTLS" and script.tls:
            wire.say(b"220 go ahead")
            wire.encrypt(script.tls)
            offers = tuple(offer for offer in offers if offer != b"STARTTLS")
        elif verb == b"AUTH":
            response = wire.ask(b"334 " + base64.b64encode(CHALLENGE))
            good = response == cram_md5(script.user, script.secret, CHALLENGE)
            wire.say(script.auth if good else b"535 5.7.8 no")
        elif verb == b"ATRN":
            wire.say(script.atrn)
            if script.atrn.startswith(b"250"):
                return True
        elif verb == b"ETRN":
            wire.say(script.etrn)
        else:
            wire.say(b"221 bye" if verb == b"QUIT" else b"502 no")
            if verb == b"QUIT":
                return False
    return False


def hand_over(wire: Wire, mails: Iterable[Mail]) -> list[bytes]:
    """After the turn: read the greeting, send every message, QUIT; the replies to the dots."""
    assert wire.reply().startswith(b"220"), wire.heard
    offered = wire.ask(b"EHLO provider.example")
    replies = []
    for mail in mails:
        parameters = b" BODY=8BITMIME" if b"8BITMIME" in offered else b""
        parameters += b" SMTPUTF8" if mail.utf8 else b""
        commands = [b"MAIL FROM:<%s>" % mail.sender.encode() + parameters]
        commands += [b"RCPT TO:<%s>" % rcpt.encode() for rcpt in mail.rcpts]
        for command in commands:
            assert (said := wire.ask(command)).startswith(b"250"), (command, said)
        assert (said := wire.ask(b"DATA")).startswith(b"354"), said
        wire.put(re.sub(rb"(?m)^\.", b"..", mail.canonical))
        replies.append(wire.ask(b"."))
    wire.ask(b"QUIT")
    return replies


def provide(listener: socket.socket, script: Script, mails: Iterable[Mail] = ()) -> list[bytes]:
    """Take one connection and be its provider to the end; the replies to the dots."""
    with listener:
        listener.settimeout(30)
        connected = listener.accept()[0]
    wire = Wire(connected)
    try:
        return hand_over(wire, mails) if let_in(wire, script) else []
    finally:
        wire.close()
