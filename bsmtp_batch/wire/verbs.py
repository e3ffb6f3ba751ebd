"""Request lines from and to bytes: how each request is said. What may be said when is in ``states.py``.

MAIL and RCPT are left to the one grammar of envelopes (``command.py``); everything else is here (RFC 5321 section 4.1,
RFC 1985 ETRN, RFC 2645 ATRN, RFC 3030 BDAT, RFC 3207 STARTTLS, RFC 4954 AUTH, and Postfix' XFORWARD). A line is
refused with the reply it deserves, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

from bsmtp_batch.wire.command import (
    MAX_COMMAND,
    MAX_PATH,
    BadAddress,
    BadCommand,
    Mail,
    Params,
    Rcpt,
    format_mail,
    format_rcpt,
    parse_mail,
    parse_rcpt,
)
from bsmtp_batch.wire.dots import END
from bsmtp_batch.wire.events import (
    Atrn,
    Auth,
    AuthResponse,
    Bdat,
    Data,
    EndOfData,
    Etrn,
    Expn,
    Helo,
    Help,
    MailFrom,
    Noop,
    PeerProblem,
    Quit,
    RcptTo,
    Reply,
    Request,
    Rset,
    StartTls,
    Vrfy,
    Xforward,
)

MAX_AUTH = 12288
"""Octets of an AUTH line and of a response to a challenge, with CRLF (RFC 4954 section 4)."""


class Protocol(StrEnum):
    """SMTP (RFC 5321) or LMTP (RFC 2033)."""

    SMTP = "SMTP"
    LMTP = "LMTP"


HELLO = {Protocol.SMTP: {b"EHLO": True, b"HELO": False}, Protocol.LMTP: {b"LHLO": True}}
"""The words of greeting of each protocol, and whether they ask for extensions. The column in which the two differ;
the other difference, the number of replies to the end of data, is in ``states.py``."""

_PRINTABLE = re.compile(rb"[!-~\x80-\xff]+")
# mechanism names: RFC 4422 section 3.1
_MECHANISM = re.compile(rb"[A-Z0-9_-]{1,20}")
# base64, "=" for an empty initial response and "*" to give up: RFC 4954 section 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}|\*")
# domain = sub-domain 1*("." sub-domain): RFC 2645 section 5.2.1, at least one dot and none at the end
_ATRN_DOMAIN = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9][A-Za-z0-9-]*)+")
# ["@" / "#"] name: RFC 1985 section 5.3
_ETRN_NODE = re.compile(rb"([@#]?)([!-~]+)")
_BDAT = re.compile(rb"([0-9]{1,18})( +LAST)?", re.IGNORECASE)
# XFORWARD attribute-name=attribute-value, the value as xtext of RFC 1891
_ATTRIBUTE = re.compile(rb"([A-Za-z]{1,32})=((?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2}){0,512})")
_CODED = re.compile(rb"\+([0-9A-Fa-f]{2})")
_UNKNOWN = b"[UNAVAILABLE]"
_BREAKS = re.compile(rb"[\r\n\0]")


def refusal(code: int, status: bytes, reason: str, *, fatal: bool = False) -> PeerProblem:
    """The problem of a peer that gets ``code`` and ``reason`` as its reply."""
    return PeerProblem(reason, Reply(code, status, reason.encode()), fatal=fatal)


_MAILBOX = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_USUAL_MAIL = re.compile(rb"MAIL FROM:<((?:%b)?)>(?: SIZE=([0-9]{1,20}))?(?: BODY=(8BITMIME|7BIT))?\r\n" % _MAILBOX)
_USUAL_RCPT = re.compile(rb"RCPT TO:<(%b)>(?: ORCPT=(rfc822;[!-*,-<>-~]{1,400}))?\r\n" % _MAILBOX)
_USUAL: dict[bytes, Request] = {b"DATA\r\n": Data(), b"RSET\r\n": Rset(), b"QUIT\r\n": Quit()}


def usual_request(line: bytes) -> Request | None:
    """What :func:`parse_request` gives for ``line``, where it is one of those that come with nearly every message; else
    None, and that has to be asked."""
    request = _USUAL.get(line)
    if request is not None:
        return request
    found = _USUAL_RCPT.fullmatch(line)
    if found is not None:
        path, orcpt = found.groups()
        if len(path) <= MAX_PATH:
            return RcptTo(Rcpt(path, ((b"ORCPT", orcpt),) if orcpt is not None else ()))
        return None
    found = _USUAL_MAIL.fullmatch(line)
    if found is None:
        return None
    path, size, body = found.groups()
    params: Params = ((b"SIZE", size),) if size is not None else ()
    if body is not None:
        params += ((b"BODY", body),)
    return MailFrom(Mail(path, params)) if len(path) <= MAX_PATH else None


def parse_request(line: bytes, protocol: Protocol) -> Request:
    """The request in ``line`` (with its line end). Raises :class:`PeerProblem` with the reply to give.

    ``fatal`` where nobody can tell what follows: a BDAT whose size is not readable.
    """
    body = line.removesuffix(b"\r\n")
    if len(body) == len(line):
        raise refusal(500, b"5.5.2", "a command line ends in CR LF, not in LF alone")
    if b"\r" in body or b"\0" in body:
        raise refusal(500, b"5.5.2", "a command line holds neither NUL nor a CR of its own")
    body = body.rstrip(b" \t")
    word, _, argument = body.partition(b" ")
    word = word.upper()
    if len(line) > MAX_COMMAND and word != b"AUTH":
        raise too_long(MAX_COMMAND)
    extended = HELLO[protocol].get(word)
    if extended is not None:
        return _helo(argument, extended)
    parser = _PARSERS.get(word)
    if parser is None:
        raise refusal(500, b"5.5.1", "this command is not known here")
    return parser(body, argument.strip(b" \t"))


def parse_response(line: bytes) -> AuthResponse:
    """The client's line after a 334, with its line end. Raises :class:`PeerProblem`."""
    data = line.removesuffix(b"\r\n")
    if len(data) == len(line) or not _BASE64.fullmatch(data):
        raise refusal(501, b"5.5.2", "the response is not base64, the login is given up")
    return AuthResponse(data)


def format_request(request: Request, protocol: Protocol) -> bytes:
    """The bytes of ``request``. Raises ``ValueError`` where they would be read as something else."""
    form = _FORMS.get(type(request))
    if form is not None:
        return form
    match request:
        case MailFrom(mail):
            return format_mail(mail)
        case RcptTo(rcpt):
            return format_rcpt(rcpt)
        case Helo(name, extended):
            words = [word for word, asks in HELLO[protocol].items() if asks is extended]
            if not words:
                raise ValueError(f"{protocol} has no HELO")
            line = words[0] + b" " + name
        case _:
            line = _line(request)
    return _checked(line, request, protocol)


def too_long(limit: int) -> PeerProblem:
    """The answer to a line over ``limit`` octets (RFC 5321 section 4.5.3.1.9 has 500)."""
    return refusal(500, b"5.5.2", f"a line of more than {limit} octets")


def _line(request: Request) -> bytes:
    match request:
        case Noop(text) | Vrfy(text) | Expn(text) | Help(text):
            return type(request).__name__.upper().encode() + (b" " + text if text else b"")
        case Auth(mechanism, initial):
            return b"AUTH " + mechanism + (b"" if initial is None else b" " + initial)
        case AuthResponse(data):
            return data
        case Atrn(domains):
            return b"ATRN " + b",".join(domains) if domains else b"ATRN"
        case Etrn(node, option):
            return b"ETRN " + option + node
        case Xforward(attributes):
            return b"XFORWARD " + b" ".join([name + b"=" + _xtext(value) for name, value in attributes])
        case Bdat(size, last):
            return b"BDAT %d" % size + (b" LAST" if last else b"")
        case _:
            raise ValueError(f"a client does not send {type(request).__name__}")


def _checked(line: bytes, request: Request, protocol: Protocol) -> bytes:
    """``line`` with its CRLF, if the far side will read in it what was meant."""
    if _BREAKS.search(line):
        raise ValueError(f"a line end or NUL inside {request.verb}")
    line += b"\r\n"
    try:
        read = parse_response(line) if isinstance(request, AuthResponse) else parse_request(line, protocol)
    except PeerProblem as problem:
        raise ValueError(f"{request.verb}: {problem.reason}") from None
    if read != request:
        raise ValueError(f"this {request.verb} would be read as another one")
    return line


def _helo(argument: bytes, extended: bool) -> Request:
    name = argument.strip(b" \t")
    if not _PRINTABLE.fullmatch(name):
        raise refusal(501, b"5.5.4", "the greeting needs one host name behind it")
    return Helo(name, extended)


def _mail(line: bytes, _: bytes) -> Request:
    try:
        return MailFrom(parse_mail(line, tolerant=True))
    except BadAddress as bad:
        raise refusal(501, b"5.1.7", bad.reason) from None
    except BadCommand as bad:
        raise refusal(501, b"5.5.4", bad.reason) from None


def _rcpt(line: bytes, _: bytes) -> Request:
    try:
        return RcptTo(parse_rcpt(line, tolerant=True))
    except BadAddress as bad:
        raise refusal(501, b"5.1.3", bad.reason) from None
    except BadCommand as bad:
        raise refusal(501, b"5.5.4", bad.reason) from None


def _bdat(_: bytes, argument: bytes) -> Request:
    found = _BDAT.fullmatch(argument)
    if not found:
        # The chunk is on its way already, and nobody knows where it ends: reading on would take content for commands.
        raise refusal(501, b"5.5.4", "the size of a chunk is not readable", fatal=True)
    return Bdat(int(found[1]), found[2] is not None)


def _auth(_: bytes, argument: bytes) -> Request:
    mechanism, _, initial = argument.partition(b" ")
    mechanism = mechanism.upper()
    if not _MECHANISM.fullmatch(mechanism):
        raise refusal(501, b"5.5.4", "AUTH needs the name of a mechanism")
    if not initial:
        return Auth(mechanism)
    if not _BASE64.fullmatch(initial) or initial == b"*":
        raise refusal(501, b"5.5.2", "the initial response is not base64")
    return Auth(mechanism, initial)


def _atrn(_: bytes, argument: bytes) -> Request:
    if not argument:
        return Atrn()
    domains = tuple(argument.split(b","))
    if not all(_ATRN_DOMAIN.fullmatch(domain) for domain in domains):
        raise refusal(501, b"5.5.4", "ATRN takes domains with commas between and nothing else")
    return Atrn(domains)


def _etrn(_: bytes, argument: bytes) -> Request:
    found = _ETRN_NODE.fullmatch(argument)
    if not found:
        raise refusal(501, b"5.5.4", "ETRN takes one name")
    return Etrn(found[2], found[1])


def _xforward(_: bytes, argument: bytes) -> Request:
    attributes: dict[bytes, bytes] = {}
    for word in argument.split():
        found = _ATTRIBUTE.fullmatch(word)
        if not found or found[1].upper() in attributes:
            raise refusal(501, b"5.5.4", "XFORWARD takes names, each with = and a value behind it, once")
        value = _CODED.sub(lambda coded: bytes([int(coded[1], 16)]), found[2])
        attributes[found[1].upper()] = b"" if value.upper() == _UNKNOWN else value
    if not attributes:
        raise refusal(501, b"5.5.4", "XFORWARD says nothing")
    return Xforward(tuple(attributes.items()))


def _xtext(value: bytes) -> bytes:
    plain = [bytes([octet]) if 33 <= octet <= 126 and octet not in b"+=" else b"+%02X" % octet for octet in value]
    return b"".join(plain) or _UNKNOWN


def _alone(request: Request) -> Callable[[bytes, bytes], Request]:
    def parse(_: bytes, argument: bytes) -> Request:
        if argument:
            raise refusal(501, b"5.5.4", f"{request.verb} stands alone on its line")
        return request

    return parse


def _named(kind: type[Vrfy] | type[Expn]) -> Callable[[bytes, bytes], Request]:
    def parse(_: bytes, argument: bytes) -> Request:
        if not argument:
            raise refusal(501, b"5.5.4", f"{kind.verb} needs a name behind it")
        return kind(argument)

    return parse


_PARSERS: dict[bytes, Callable[[bytes, bytes], Request]] = {
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _alone(Data()),
    b"BDAT": _bdat,
    b"RSET": _alone(Rset()),
    b"NOOP": lambda _, argument: Noop(argument),
    b"VRFY": _named(Vrfy),
    b"EXPN": _named(Expn),
    b"HELP": lambda _, argument: Help(argument),
    b"QUIT": _alone(Quit()),
    b"STARTTLS": _alone(StartTls()),
    b"AUTH": _auth,
    b"ATRN": _atrn,
    b"ETRN": _etrn,
    b"XFORWARD": _xforward,
}

_FORMS: dict[type[Request], bytes] = {
    Data: b"DATA\r\n",
    EndOfData: END,
    Rset: b"RSET\r\n",
    Quit: b"QUIT\r\n",
    StartTls: b"STARTTLS\r\n",
}
