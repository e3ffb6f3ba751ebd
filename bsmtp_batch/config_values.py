"""The kinds of values that settings have, each with its check and a sentence that says what to write instead."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints

from bsmtp_batch.accounts.names import valid as valid_account
from bsmtp_batch.config_basics import host
from bsmtp_batch.spool.names import valid_route

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}
_USER = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"
_SIX = r"\[[0-9A-Fa-f:.]{2,45}\]"
_PATH = "(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?"
_FAR_END = re.compile(rf"(?:{_USER}@)?(?P<host>{_NAME}|{_SIX})(?::(?P<port>[0-9]{{1,5}}))?{_PATH}")
_SERVER = re.compile(rf"(?:{_NAME}|\[(?:{_NAME}|[0-9A-Fa-f:.]{{2,45}})\])(?::(?P<port>[0-9]{{1,5}}))?/?")
_PROVIDER = re.compile(rf"//(?:[A-Za-z0-9_][A-Za-z0-9_.+@-]{{0,63}}@)?(?:{_NAME}|{_SIX})(?::(?P<port>[0-9]{{1,5}}))?/?")
_FAR_END_EXAMPLE = (
    'write {scheme}://user@host/ or {scheme}://user@host:port/, with letters, digits, ".", "_" and "-" in user and host'
    ' (neither begins with "-"), and an IPv6 address in brackets'
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_MEANT_BY_OTHERS = re.compile(r"[\"'`\\$%*?~]|(^|/)-|(^|/)\.\.(/|$)")
"""What ssh, its settings or a shell would read as something else than part of a file's name."""


def seconds(value: object) -> object:
    """``90``, ``"90s"``, ``"5m"``, ``"2h"``, ``"14d"``, ``"1w"`` as seconds; the rest is left to pydantic."""
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]+) ?([smhdw])", value)
        if not found:
            raise ValueError('write a number of seconds, or a number with s, m, h, d or w: "15m", "14d"')
        return int(found[1]) * _UNITS[found[2]]
    return value


def octets(value: object) -> object:
    """``500000``, ``"500k"``, ``"50M"``, ``"1G"`` as octets (powers of 1000)."""
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]+) ?([kMG]?)B?", value)
        if not found:
            raise ValueError('write a number of octets, or a number with k, M or G: "500k", "50M"')
        return int(found[1]) * _SIZES[found[2]]
    return value


def domain(value: object) -> object:
    """A domain in lower case; unlike a host name it may hold underscores, for mail to such domains exists."""
    if isinstance(value, str):
        host(value.replace("_", "x"))
        return value.lower()
    return value


def directory(value: object) -> object:
    """An absolute path: cron, the MTA and a shell would each take a relative one to be somewhere else."""
    if isinstance(value, str) and not value.startswith("/"):
        raise ValueError('write the whole path: "/var/spool/bsmtp-batch"')
    return value


def file(value: object) -> object:
    """The absolute path of keys, or nothing. A name in which another program would read more than a name is refused."""
    if isinstance(value, str) and value:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError('write the whole path of a file: "/etc/bsmtp-batch/id_ed25519"')
        if _MEANT_BY_OTHERS.search(value):
            raise ValueError(
                'rename the file: no part of its path may begin with "-", be "..", or hold any of "\'`\\$%*?'
            )
    return value


def target_url(value: object) -> object:
    """Something with a scheme in front; whether there is such a target is found out when it is used."""
    if isinstance(value, str) and value and not re.match("[a-z]+:", value):
        raise ValueError('begin with the scheme: "smtp://127.0.0.1:25", "maildir:/path"')
    return value


def peer_url(value: object) -> object:
    """The URL of a courier, or nothing. Nothing of it can be an option to ssh, or mean more than it says to a shell."""
    if not isinstance(value, str) or not value:
        return value
    scheme, colon, rest = value.partition(":")
    if not colon or scheme not in ("dir", "scp", "rsync", "smtp", "odmr"):
        raise ValueError(
            'begin with the scheme: "dir:/media/stick", "scp://user@host/", "rsync://user@host/", "smtp://[host]:25" or'
            ' "odmr://user@host/"'
        )
    if scheme == "smtp":
        found = _SERVER.fullmatch(rest.removeprefix("//"))
        if not rest.startswith("//") or found is None or int(found["port"] or 1) not in range(1, 65536):
            raise ValueError('write "smtp://domain", whose MX servers take the mail, or "smtp://[host]:port"')
    elif scheme == "odmr":
        found = _PROVIDER.fullmatch(rest)
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise ValueError('write "odmr://user@host/" or "odmr://user@host:366/", an IPv6 address in brackets')
    elif scheme == "dir":
        if not rest.startswith("/"):
            raise ValueError('write the whole path of the directory: "dir:/media/stick"')
    elif not rest.startswith("//") or not _names_a_far_end(rest[2:]):
        raise ValueError(_FAR_END_EXAMPLE.format(scheme=scheme))
    return value


def _names_a_far_end(text: str) -> bool:
    found = _FAR_END.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65536):
        return False
    if found["host"].startswith("["):
        try:
            ipaddress.IPv6Address(found["host"][1:-1])
        except ValueError:
            return False
    return True


def account(value: object) -> object:
    """The name of an account."""
    if isinstance(value, str) and not valid_account(value):
        raise ValueError('name it with up to 64 lower-case letters, digits and ". _ - @ +", a letter or a digit first')
    return value


def certificate(value: object) -> object:
    """What tells one client certificate from others, or nothing: a fingerprint, made plain, or a host name."""
    if not isinstance(value, str) or not value:
        return value
    plain = value.lower().removeprefix("sha256:").replace(":", "")
    if re.fullmatch("[0-9a-f]{64}", plain):
        return plain
    if value.lower().startswith("sha256:") or not valid_route(value.lower().encode("utf-8", "replace")):
        raise ValueError(
            'write the fingerprint of the certificate, "sha256:" and 64 hex digits, or the host name that is in it'
        )
    return value.lower()


def schedule(value: object) -> object:
    """``"at once"``, or a time such as ``"10m"``. Or nothing."""
    if isinstance(value, str) and value not in ("", "at once") and not re.fullmatch("[0-9]+ ?[smhd]", value):
        raise ValueError('write "at once", or how often: "10m", "1h"')
    return value


def listen(value: object) -> object:
    """``host:port`` to listen on: an address, IPv6 in brackets, or ``*`` for all."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\*|[0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})", value)
        if not found or int(found[2]) > 65535:
            raise ValueError('write an address and a port: "192.0.2.1:366", "[::]:366", or "*:366" for all')
    return value


def listen_lmtp(value: object) -> object:
    """``unix:/path`` or ``host:port`` to listen on for LMTP."""
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or path.endswith("/") or len(path.encode()) > 90:  # the system takes 107
            raise ValueError('write the whole path of the socket, of up to 90 octets: "unix:/run/bsmtp-batch/lmtp"')
        return value
    try:
        return listen(value)
    except ValueError:
        raise ValueError('write "unix:/run/bsmtp-batch/lmtp", or an address and a port: "127.0.0.1:2424"') from None


def is_loopback(where: str) -> bool:
    """Whether only this machine reaches ``where`` (see :func:`listen`)."""
    name = where.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def mode(value: object) -> object:
    """The permissions of a socket, in octal digits."""
    if isinstance(value, str) and re.fullmatch("0?[0-7]{3}", value):
        return value
    raise ValueError('write the permissions in octal, in quotes: "0666", "0660"')


def address(value: object) -> object:
    """An address in the form in which the system tells it."""
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError('write an address: "192.0.2.7", "2001:db8::7"') from None
    return value


def network(value: object) -> object:
    """An address, or a network as ``192.0.2.0/24``."""
    if isinstance(value, str):
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError('write an address or a network: "192.0.2.7", "192.0.2.0/24", "2001:db8::/32"') from None
    return value


def window(value: object) -> object:
    """``"02:00-05:00"``, from the first minute to the second; it may go over midnight. Or nothing."""
    if isinstance(value, str) and value:
        begin, _, end = value.partition("-")
        if not re.fullmatch(f"{_TIME}-{_TIME}", value) or begin == end:
            raise ValueError('write two times of day, the first and the last: "02:00-05:00", "22:30-06:00"')
    return value


Seconds = Annotated[int, BeforeValidator(seconds), Field(ge=0)]
Octets = Annotated[int, BeforeValidator(octets), Field(ge=0)]
Host = Annotated[str, BeforeValidator(host)]
Domain = Annotated[str, BeforeValidator(domain)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Directory = Annotated[Line, BeforeValidator(directory)]
File = Annotated[Line, BeforeValidator(file)]
TargetUrl = Annotated[Line, BeforeValidator(target_url)]
PeerUrl = Annotated[Line, BeforeValidator(peer_url)]
Window = Annotated[str, BeforeValidator(window)]
AccountName = Annotated[str, BeforeValidator(account)]
ClientCertificate = Annotated[Line, BeforeValidator(certificate)]
Listen = Annotated[str, BeforeValidator(listen)]
ListenLmtp = Annotated[str, BeforeValidator(listen_lmtp)]
Mode = Annotated[str, BeforeValidator(mode)]
Network = Annotated[str, BeforeValidator(network)]
Address = Annotated[str, BeforeValidator(address)]
Schedule = Annotated[str, BeforeValidator(schedule)]
