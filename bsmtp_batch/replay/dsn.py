"""The notice to a sender whose mail the target refused: an RFC 3464 report with the headers of the original.

The report is plain ASCII whatever the original holds, so that every target carries it; only its envelope and its To
line may need SMTPUTF8, and then because the sender's own address does.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate

from bsmtp_batch.replay.parameters import parameter
from bsmtp_batch.wire.command import Mail, Rcpt

MAX_HEADERS = 65536
"""Octets of the original's headers that are returned; nothing useful is longer."""

_STATUS = re.compile(r"[0-9]{3} (5\.[0-9]{1,3}\.[0-9]{1,3})\b", re.ASCII)
_TOKENS = re.compile(r"\S+", re.ASCII)
_XTEXT = re.compile(rb"\+([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient the target refused, and the reply on one printable line."""

    rcpt: Rcpt
    reply: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Everything a report is made of.

    ``node`` names us, ``mail`` is the original's (its path is who gets the report), ``headers`` its headers with CRLF,
    ``identity`` the same text for the same failure however often the report is made, ``target`` what refused it, and
    ``when`` the time, in seconds since 1970.
    """

    node: str
    mail: Mail
    failures: tuple[Failure, ...]
    headers: bytes
    identity: str
    target: str
    when: float

    @property
    def message_id(self) -> str:
        """The Message-ID without brackets: a report sent twice after a crash can be recognised by it."""
        return f"{hashlib.sha256(self.identity.encode()).hexdigest()[:40]}.dsn@{self.node}"


def wanted(rcpt: Rcpt) -> bool:
    """Whether the sender wants to hear that ``rcpt`` failed (RFC 3461 section 4.1: by default, yes)."""
    notify = parameter(rcpt.params, b"NOTIFY")
    return notify is None or b"FAILURE" in notify.upper().split(b",")


def headers_of(content: Iterable[bytes]) -> bytes:
    """The headers at the start of ``content`` (CRLF, in pieces), up to the empty line or :data:`MAX_HEADERS`."""
    start = b""
    for piece in content:
        start += piece
        end = start.find(b"\r\n\r\n")
        if start.startswith(b"\r\n"):
            return b""
        if end >= 0:
            start = start[: end + 2]
            break
        if len(start) > MAX_HEADERS:
            break
    if len(start) <= MAX_HEADERS:
        return start
    return start[: start.rfind(b"\r\n", 0, MAX_HEADERS) + 2]


def report(notice: Notice) -> bytes:
    """The report as content of a message: CRLF line ends, no added dots."""
    boundary = f"=_{hashlib.sha256(notice.message_id.encode()).hexdigest()[:32]}"
    parts = [_words(notice), _fields(notice), _returned(notice.headers)]
    lines = [
        f"Date: {formatdate(notice.when)}".encode(),
        f"From: Mail Delivery System <MAILER-DAEMON@{notice.node}>".encode(),
        b"To: <" + notice.mail.path + b">",
        b"Subject: Undelivered mail returned to its sender",
        f"Message-ID: <{notice.message_id}>".encode(),
        b"Auto-Submitted: auto-replied",
        b"MIME-Version: 1.0",
        b"Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"'.encode(),
        b"",
        b"This is a report in the format of RFC 3464.",
        b"",
    ]
    for part in parts:
        lines += [f"--{boundary}".encode(), part]
    return b"\r\n".join([*lines, f"--{boundary}--".encode(), b""])


def _words(notice: Notice) -> bytes:
    text = [
        f"This is the mail system at {notice.node}.",
        "",
        "Your message could not be delivered to the recipients below. Nothing more",
        "will be tried for them; other recipients of the message are not affected.",
    ]
    for failure in notice.failures:
        address = failure.rcpt.path.decode("utf-8", "backslashreplace")
        text += ["", f"<{address}>", "    the mail server of the recipient said:", *_wrapped(failure.reply)]
    return _encoded("text/plain", "\r\n".join([*text, ""]).encode())


def _wrapped(reply: str) -> list[str]:
    """``reply`` in indented lines that no mailer breaks."""
    lines = [""]
    for word in reply.split():
        if lines[-1] and len(lines[-1]) + len(word) >= 70:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [f"    {line[i : i + 900]}" for line in lines for i in range(0, max(1, len(line)), 900)]


def _fields(notice: Notice) -> bytes:
    """The part for programs (RFC 3464 section 2)."""
    lines = ["Content-Type: message/delivery-status", "", f"Reporting-MTA: dns; {notice.node}"]
    envid = parameter(notice.mail.params, b"ENVID")
    if envid is not None:
        lines.append(f"Original-Envelope-Id: {_plain(_unquoted(envid))}")
    for failure in notice.failures:
        lines += ["", *_recipient(failure, notice)]
    return "\r\n".join([*lines, ""]).encode("ascii")


def _recipient(failure: Failure, notice: Notice) -> list[str]:
    lines = []
    original = parameter(failure.rcpt.params, b"ORCPT")
    if original is not None:
        kind, _, address = original.partition(b";")
        lines.append(f"Original-Recipient: {kind.decode('ascii')}; {_plain(_unquoted(address))}")
    kind_of = "rfc822" if failure.rcpt.path.isascii() else "utf-8"  # RFC 6533 section 4
    found = _STATUS.match(failure.reply)
    return [
        *lines,
        f"Final-Recipient: {kind_of}; {_plain(failure.rcpt.path)}",
        "Action: failed",
        f"Status: {found[1] if found else '5.0.0'}",
        *_folded(f"Diagnostic-Code: smtp; {_plain(failure.reply.encode())}"),
        f"Last-Attempt-Date: {formatdate(notice.when)}",
    ]


def _returned(headers: bytes) -> bytes:
    return _encoded("text/rfc822-headers", headers)


def _encoded(kind: str, text: bytes) -> bytes:
    """A part of type ``kind``: as it is where it is short-lined ASCII, in base64 otherwise."""
    head = f"Content-Type: {kind}"
    plain = text.isascii() and max(map(len, text.split(b"\r\n")), default=0) <= 998 and b"\0" not in text
    if plain:
        return f"{head}; charset=us-ascii\r\n\r\n".encode() + text
    coded = base64.b64encode(text)
    lines = [coded[i : i + 76] for i in range(0, len(coded), 76)]
    head += "; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + b"\r\n".join([*lines, b""])


def _folded(line: str) -> list[str]:
    """A header field in lines of about 76; a word is never cut but at 900."""
    lines = [""]
    for word in _TOKENS.findall(line):
        for piece in (word[i : i + 900] for i in range(0, len(word), 900)):
            if lines[-1] and len(lines[-1]) + len(piece) > 75:
                lines.append("")
            lines[-1] += f" {piece}" if lines[-1] or len(lines) > 1 else piece
    return lines


def _plain(text: bytes) -> str:
    """``text`` in ASCII: other characters in the escaped form of RFC 6533 section 3, controls as blanks."""
    shown = []
    for character in text.decode("utf-8", "replace"):
        if " " <= character <= "~":
            shown.append(character)
        elif character > "\x9f":
            shown.append(f"\\x{{{ord(character):X}}}")
        else:
            shown.append(" ")
    return "".join(shown)


def _unquoted(xtext: bytes) -> bytes:
    """``xtext`` decoded (RFC 3461 section 4)."""
    return _XTEXT.sub(lambda found: bytes([int(found[1], 16)]), xtext)
