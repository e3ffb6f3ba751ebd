"""The one grammar of envelopes: MAIL and RCPT lines from and to bytes (RFC 5321 sections 3.3 and 4.1.2).

An envelope that reaches a batch has passed through here, from whatever side it came: an address with a line end, a NUL
or a closing bracket in the wrong place would forge the envelopes behind it, and nobody answers a batch. What real
mailers send although the standard does not have it (dots in odd places of a local part, long local parts, host names
with an underscore, no domain at all) is let through, because refusing it would bounce mail that somebody reads.

Parameters are those that travel in a batch: RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 3461 (RET,
ENVID, NOTIFY, ORCPT), and RFC 4954 (AUTH), which is dropped: nobody's claim about itself is believed later on.

Part of the hot path: nothing is imported, and there is no regular expression.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Known = dict[bytes, Callable[[bytes | None], bool]]

MAX_RCPTS = 1000
"""Recipients of one transaction (Postfix' limit; RFC 5321 section 4.5.3.1.8 asks for at least 100)."""
MAX_PATH = 254
"""Octets of an address without its brackets (RFC 5321 section 4.5.3.1.3)."""
MAX_COMMAND = 2048
"""Octets of a command line with its CRLF: room for the parameters of RFC 3461."""

Params = tuple[tuple[bytes, bytes | None], ...]
"""ESMTP parameters in order: keyword in capitals, and the value as it was given (None where there is no ``=``)."""

_DIGITS = b"0123456789"
_ALNUM = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + _DIGITS
_HIGH = bytes(range(128, 256))
_LOCAL = _ALNUM + b"!#$%&'*+-/=?^_`{|}~." + _HIGH
_DOMAIN = _ALNUM + b"-_." + _HIGH
_LITERAL = _ALNUM + b".:-_"
_PRINTABLE = bytes(range(32, 127)) + _HIGH
_XTEXT = bytes(range(33, 127))


class BadAddress(ValueError):
    """An address outside the grammar; ``reason`` is a phrase without any octet of the address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadCommand(ValueError):
    """A MAIL or RCPT line outside the grammar; ``reason`` is a phrase without any octet of the line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Command:
    __slots__ = ("params", "path")

    def __init__(self, path: bytes, params: Params = ()) -> None:
        self.path = path
        self.params = params

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, _Command)
        return self.path == other.path and self.params == other.params

    def __hash__(self) -> int:
        return hash((type(self), self.path, self.params))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {self.params!r})"


class Mail(_Command):
    """The start of a transaction: reverse path without brackets (``b""`` is the null sender) and its parameters."""

    __slots__ = ()


class Rcpt(_Command):
    """One recipient: forward path without brackets, and its parameters."""

    __slots__ = ()


def parse_address(text: bytes, *, null: bool = False) -> bytes:
    """The mailbox in ``text``, with or without its brackets; a source route is taken off (RFC 5321 appendix C).

    ``null`` lets the null path through (``<>`` or nothing at all), as ``b""``. Raises :class:`BadAddress`.
    """
    if text.startswith(b"<"):
        if not text.endswith(b">") or len(text) < 2:
            raise BadAddress("the address opens a bracket and does not close it")
        text = text[1:-1]
    if not text:
        if null:
            return b""
        raise BadAddress("the address is empty")
    _check_text(text)
    if text.startswith(b"@"):
        text = _without_route(text)
    at = _end_of_local(text)
    if at < len(text):
        _check_domain(text[at + 1 :])
    if len(text) > MAX_PATH:
        raise BadAddress(f"the address is longer than {MAX_PATH} octets")
    return text


def split_domain(path: bytes) -> tuple[bytes, bytes]:
    """Local part (with its quotes) and domain of a valid ``path``; the domain is ``b""`` where there is none."""
    at = path.rfind(b"@")
    if at < 0 or (path.startswith(b'"') and path.endswith(b'"')):
        return path, b""
    return path[:at], path[at + 1 :]


def needs_utf8(path: bytes) -> bool:
    """Whether ``path`` can only travel where SMTPUTF8 is offered (RFC 6531)."""
    return not path.isascii()


def parse_mail(line: bytes, *, tolerant: bool = False) -> Mail:
    """The MAIL command in ``line`` (without its line end).

    Strict takes exactly what :func:`format_mail` writes. ``tolerant`` also takes any case, blanks and a path without
    brackets, and drops AUTH. Raises :class:`BadCommand` and :class:`BadAddress`.
    """
    path, params = _parse(line, b"MAIL FROM:", tolerant)
    mail = Mail(parse_address(path, null=True), _checked(params, _MAIL_PARAMS))
    if not tolerant and _line(b"MAIL FROM:<", mail, _MAIL_PARAMS) != line:
        raise BadCommand("this MAIL line is not written the one way a batch of ours has it")
    return mail


def parse_rcpt(line: bytes, *, tolerant: bool = False) -> Rcpt:
    """The RCPT command in ``line`` (without its line end); strict, tolerant and errors as in :func:`parse_mail`."""
    path, params = _parse(line, b"RCPT TO:", tolerant)
    rcpt = Rcpt(parse_address(path), _checked(params, _RCPT_PARAMS))
    if not tolerant and _line(b"RCPT TO:<", rcpt, _RCPT_PARAMS) != line:
        raise BadCommand("this RCPT line is not written the one way a batch of ours has it")
    return rcpt


def format_mail(mail: Mail) -> bytes:
    """The line of ``mail`` with its CRLF. What :func:`parse_mail` would not give back raises the same errors."""
    if parse_address(mail.path, null=True) != mail.path:
        raise BadAddress("the address is not in the form that parse_address gives")
    return _line(b"MAIL FROM:<", mail, _MAIL_PARAMS) + b"\r\n"


def format_rcpt(rcpt: Rcpt) -> bytes:
    """The line of ``rcpt`` with its CRLF. What :func:`parse_rcpt` would not give back raises the same errors."""
    if parse_address(rcpt.path) != rcpt.path:
        raise BadAddress("the address is not in the form that parse_address gives")
    return _line(b"RCPT TO:<", rcpt, _RCPT_PARAMS) + b"\r\n"


def envelope_lines(sender: bytes, rcpts: list[bytes], *, smtputf8: bool) -> bytes:
    """MAIL and RCPT lines with their CRLFs for addresses that :func:`parse_address` gave, and no other.

    The same octets as :func:`format_mail` and :func:`format_rcpt` give, but without a look at parameters: what is left
    out of the per-message command is not loaded there.
    """
    mail = b"MAIL FROM:<" + sender + (b"> SMTPUTF8\r\n" if smtputf8 else b">\r\n")
    return mail + b"".join([b"RCPT TO:<" + rcpt + b">\r\n" for rcpt in rcpts])


def format_params(params: Params) -> bytes:
    """``params`` as they stand behind a path, each with its blank. Nothing is checked."""
    return b"".join([b" " + keyword if value is None else b" %b=%b" % (keyword, value) for keyword, value in params])


def _line(opening: bytes, command: _Command, known: _Known) -> bytes:
    line = opening + command.path + b">"
    if command.params:
        if _checked(command.params, known) != command.params:
            raise BadCommand("AUTH does not travel in a batch")
        line += format_params(command.params)
    if len(line) + 2 > MAX_COMMAND:
        raise BadCommand(f"the command line is longer than {MAX_COMMAND} octets")
    return line


def _check_text(text: bytes) -> None:
    """Printable ASCII, or UTF-8 without the controls and line ends it has of its own."""
    if text.translate(None, _PRINTABLE):
        raise BadAddress("the address holds a control character")
    if text.isascii():
        return
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise BadAddress("the address is neither ASCII nor UTF-8") from None
    for character in decoded:
        if "\x7f" < character < "\xa0" or character in "\u2028\u2029":
            raise BadAddress("the address holds a control character")


def _without_route(text: bytes) -> bytes:
    while text.startswith(b"@"):
        literal_end = text.find(b"]") if text.startswith(b"@[") else 0
        colon = text.find(b":", literal_end)
        comma = text.find(b",", literal_end, colon if colon > 0 else len(text))
        end = comma if comma > 0 else colon
        if end < 0 or literal_end < 0 or (comma > 0 and text[comma + 1 : comma + 2] != b"@"):
            raise BadAddress("the address begins with a source route that does not end")
        _check_domain(text[1:end])
        text = text[end + 1 :]
        if end == colon:
            break
    return text


def _end_of_local(text: bytes) -> int:
    """Where the local part of ``text`` ends: the place of its ``@``, or the length of ``text``."""
    if text.startswith(b'"'):
        end = _end_of_quoted(text, 0)
        if end < 0:
            raise BadAddress("the local part opens a quote and does not close it")
        if end < len(text) and text[end] != 0x40:
            raise BadAddress("something stands between the quoted local part and the @")
        return end
    end = text.find(b"@")
    end = len(text) if end < 0 else end
    if not end:
        raise BadAddress("there is no local part before the @")
    if text[:end].translate(None, _LOCAL):
        raise BadAddress("the local part holds a character that it may have between quotes only")
    return end


def _end_of_quoted(text: bytes, start: int) -> int:
    """The place behind the quote that closes the one at ``start``, or -1."""
    at = start + 1
    while True:
        end = text.find(b'"', at)
        if end < 0:
            return -1
        escape = text.find(b"\\", at, end)
        if escape < 0:
            return end + 1
        at = escape + 2


def _check_domain(domain: bytes) -> None:
    if domain.startswith(b"["):
        if len(domain) < 3 or not domain.endswith(b"]") or domain[1:-1].translate(None, _LITERAL):
            raise BadAddress("the address literal behind the @ is malformed")
        return
    if not domain or domain.startswith(b".") or domain.endswith(b".") or b".." in domain:
        raise BadAddress("the domain has an empty label")
    if domain.translate(None, _DOMAIN):
        raise BadAddress("the domain holds a character that no host name has")


def _parse(line: bytes, opening: bytes, tolerant: bool) -> tuple[bytes, Params]:
    """Path (with its brackets, if any) and unchecked parameters of ``line``."""
    if len(line) + 2 > MAX_COMMAND:
        raise BadCommand(f"the command line is longer than {MAX_COMMAND} octets")
    if line.translate(None, _PRINTABLE):
        raise BadCommand("the command line holds a control character")
    verb, noun = opening[:-1].split(b" ")
    words = line.lstrip(b" ")
    rest = words[len(verb) :].lstrip(b" ")
    after = rest[len(noun) :].lstrip(b" ")
    if words[: len(verb) + 1].upper() != verb + b" " or rest[: len(noun)].upper() != noun or after[:1] != b":":
        raise BadCommand(f"this is no {opening.decode()} line")
    rest = after[1:].strip(b" ")
    end = _find_bare(rest, b">") + 1 if rest.startswith(b"<") else _find_bare(rest, b" ")
    if end == 0 and rest.startswith(b"<"):
        raise BadCommand("the path opens a bracket and does not close it")
    path = rest if end < 0 else rest[:end]
    if not path:
        raise BadCommand("there is no path")
    if not tolerant and not path.startswith(b"<"):
        raise BadCommand("the path has no brackets")
    return path, _split_params(rest[len(path) :])


def _find_bare(text: bytes, octet: bytes) -> int:
    """The place of the first ``octet`` in ``text`` outside quotes, or -1."""
    at = 0
    while True:
        found = text.find(octet, at)
        quote = text.find(b'"', at, found if found >= 0 else len(text))
        if found < 0 or quote < 0:
            return found
        at = _end_of_quoted(text, quote)
        if at < 0:
            return -1


def _split_params(rest: bytes) -> Params:
    if rest and not rest.startswith(b" "):
        raise BadCommand("something follows the path without a blank between")
    params: list[tuple[bytes, bytes | None]] = []
    for word in rest.split():
        keyword, equals, value = word.partition(b"=")
        params.append((keyword.upper(), value if equals else None))
    return tuple(params)


def _checked(params: Params, known: _Known) -> Params:
    """``params`` without AUTH, each checked by its entry in ``known``, none of them twice."""
    kept: list[tuple[bytes, bytes | None]] = []
    for keyword, value in params:
        check = known.get(keyword)
        if check is None:
            raise BadCommand("a parameter that has no place in a batch")
        if not check(value):
            raise BadCommand(f"the value of {keyword.decode()} is not one the standard has")
        if any(keyword == earlier for earlier, _ in kept):
            raise BadCommand("a parameter is given twice")
        if keyword != b"AUTH":
            kept.append((keyword, value))
    return tuple(kept)


def _is_body(value: bytes | None) -> bool:
    # BINARYMIME travels by BDAT only (RFC 3030); between DATA and a dot it would not come out as it went in.
    return value is not None and value.upper() in (b"7BIT", b"8BITMIME")


def _is_size(value: bytes | None) -> bool:
    return value is not None and 0 < len(value) <= 20 and not value.translate(None, _DIGITS)


def _is_absent(value: bytes | None) -> bool:
    return value is None


def _is_ret(value: bytes | None) -> bool:
    return value is not None and value.upper() in (b"FULL", b"HDRS")


def _is_envid(value: bytes | None) -> bool:
    return value is not None and len(value) <= 100 and _is_xtext(value)


def _is_auth(value: bytes | None) -> bool:
    return value is not None and (value == b"<>" or _is_xtext(value))


def _is_notify(value: bytes | None) -> bool:
    if value is None:
        return False
    words = value.upper().split(b",")
    return words == [b"NEVER"] or all(word in (b"SUCCESS", b"FAILURE", b"DELAY") for word in words)


def _is_orcpt(value: bytes | None) -> bool:
    if value is None or len(value) > 500:
        return False
    kind, semicolon, address = value.partition(b";")
    if not kind or not semicolon or kind.translate(None, _ALNUM + b"-"):
        return False
    if kind.lower() == b"utf-8" and not address.isascii():  # RFC 6533 section 3: UTF-8 as it is, the rest as xtext
        try:
            _check_text(address)
        except BadAddress:
            return False
        address = address.translate(None, _HIGH)
    return _is_xtext(address)


def _is_xtext(value: bytes) -> bool:
    """RFC 3461 section 4: printable ASCII without blank and ``=``; ``+XX`` for anything else but controls."""
    if not value or b"=" in value or value.translate(None, _XTEXT):
        return False
    for coded in value.split(b"+")[1:]:
        digits = coded[:2]
        if len(digits) < 2 or digits.translate(None, _DIGITS + b"ABCDEFabcdef"):
            return False
        if int(digits, 16) < 32 or int(digits, 16) == 127:  # decoded, it would break out of a header or a log line
            return False
    return True


_MAIL_PARAMS: _Known = {
    b"BODY": _is_body,
    b"SIZE": _is_size,
    b"SMTPUTF8": _is_absent,
    b"RET": _is_ret,
    b"ENVID": _is_envid,
    b"AUTH": _is_auth,
}
_RCPT_PARAMS: _Known = {b"NOTIFY": _is_notify, b"ORCPT": _is_orcpt}
