"""What things in the spool are called: directories, fragments, batches, routes; and the few lines of ``limits``.

A name that comes from outside is checked whole, octet by octet, before it becomes part of a path: routes and nodes are
host names in lower case (A-labels), so ``..``, ``/`` and a leading hyphen cannot be written with them.

Part of the hot path: C modules only.
"""

from __future__ import annotations

import posix
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib

    sha256 = hashlib.sha256
# hashlib loads OpenSSL, which costs more than all the rest of a hand-in.
elif sys.version_info >= (3, 12):
    from _sha2 import sha256
else:
    from _sha256 import sha256

OUT, IN = "out", "in"
TMP, NEW, SEALED, LISTS, READY, KEPT, DEAD = "tmp", "new", "sealed", "lists", "ready", "kept", "dead"
WORK, DONE, BAD = "work", "done", "bad"
OUT_DIRECTORIES = (TMP, NEW, SEALED, LISTS, READY, KEPT, DEAD)
IN_DIRECTORIES = (TMP, NEW, WORK, DONE, BAD)
INDEX_LOCK, SEAL_LOCK, CONTACT_LOCK = "index.lock", "seal.lock", "contact.lock"
SEQ, LIMITS = "seq", "limits"
LEDGER, RESERVE = "ledger.db", "reserve"
BATCH_SUFFIX = ".bsmtp"
DEFAULT_SPOOL = "/var/spool/bsmtp-batch"

_HOST = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_HEX = "0123456789abcdef"


def valid_route(name: bytes) -> bool:
    """Whether ``name`` is a route: a host name in lower case, labels of 1 to 63, at most 253 octets."""
    if not 0 < len(name) <= 253:
        return False
    for label in name.split(b"."):
        if not 0 < len(label) <= 63 or label.translate(None, _HOST):
            return False
        if label.startswith(b"-") or label.endswith(b"-"):
            return False
    return True


def valid_node(name: bytes) -> bool:
    """Whether ``name`` can be the name of a node: the same as a route."""
    return valid_route(name)


def route_name(text: bytes) -> str:
    """The route an MTA means by ``text``: in lower case, without a next hop's brackets. ValueError when it is none."""
    if text.startswith(b"[") and text.endswith(b"]"):
        text = text[1:-1]
    name = text.lower()
    if not valid_route(name):
        raise ValueError("not a host name (letters, digits, hyphens and single dots; A-labels for others)")
    return name.decode()


def key_of(queue_id: bytes, digest: bytes) -> str:
    """KEY of a hand-in: the same for the same message under the same queue id, however often it is handed in.

    ``digest`` is the sha256 of the fragment (32 octets), which covers envelope and content. Without a queue id nobody
    can tell a retry from a second, equal message, so every hand-in gets a KEY of its own: twice is better than never.
    """
    if len(digest) != 32:
        raise ValueError("a sha256 has 32 octets")
    tag = b"id\0" + queue_id if queue_id else b"nonce\0" + posix.urandom(16)
    return sha256(b"bsmtp-batch 1\0" + digest + tag).hexdigest()[:40]


def fragment_name(key: str, digest: str) -> str:
    """File name ``KEY.DIGEST`` of a fragment; ``digest`` in hexadecimal."""
    return f"{key}.{digest}"


def parse_fragment(name: str) -> tuple[str, str] | None:
    """KEY and DIGEST (both hexadecimal) in the file name of a fragment, or None when it is not one."""
    key, dot, digest = name.partition(".")
    if dot and len(key) == 40 and len(digest) == 64 and not (key + digest).strip(_HEX):
        return key, digest
    return None


def batch_name(route: str, sequence: int, when: float, node: str) -> str:
    """``ROUTE.SEQ.UTC.NODE.bsmtp``; ``when`` in seconds since 1970. ValueError when a part is not valid."""
    if not valid_route(route.encode()) or not valid_node(node.encode()) or sequence < 0:
        raise ValueError(f"no batch name can be made of {route!r}, {sequence!r}, {node!r}")
    utc = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(when))
    return f"{route}.{sequence:08d}.{utc}.{node}{BATCH_SUFFIX}"


def parse_batch_name(name: str) -> tuple[str, int, int, str] | None:
    """Route, sequence, seconds since 1970 and node of a batch's file name; None for anything we would not write."""
    if not name.isascii() or not name.endswith(BATCH_SUFFIX):
        return None
    labels = name[: -len(BATCH_SUFFIX)].split(".")
    # Only the label with the time has capitals in it, so there is no second way to divide the name.
    places = [i for i, label in enumerate(labels) if len(label) == 16 and label[8] == "T" and label[15] == "Z"]
    if len(places) != 1 or places[0] < 2:
        return None
    at = places[0]
    route, sequence, utc, node = ".".join(labels[: at - 1]), labels[at - 1], labels[at], ".".join(labels[at + 1 :])
    if not sequence.isdecimal() or not (utc[:8] + utc[9:15]).isdecimal():
        return None
    parsed = route, int(sequence), _seconds(utc), node
    try:
        return parsed if batch_name(*parsed) == name else None
    except (ValueError, OverflowError, OSError):
        return None


def _seconds(utc: str) -> int:
    """Seconds since 1970 of ``YYYYMMDDTHHMMSSZ`` (proleptic Gregorian calendar; wrong dates give a wrong number)."""
    year, month, day = int(utc[:4]), int(utc[4:6]), int(utc[6:8])
    shifted = year - (month <= 2)  # years from March on, so that the leap day is the last of its year
    days = 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 719_469
    return days * 86_400 + int(utc[9:11]) * 3600 + int(utc[11:13]) * 60 + int(utc[13:15])


class Limits:
    """What ``deliver`` has to know about a route: the lines of its ``limits`` file, or the defaults.

    ``max_size`` octets of content (0: no limit), ``min_free`` octets and ``min_inodes`` that stay free on the file
    system, ``nul`` ``"remove"`` or ``"refuse"``, ``dialect`` ``"esmtp"`` or ``"classic"``, ``deadline`` seconds for
    standard input, ``null_sender`` one more spelling of the null sender (``""``: none).
    """

    __slots__ = ("deadline", "dialect", "max_size", "min_free", "min_inodes", "nul", "null_sender")

    def __init__(
        self,
        *,
        max_size: int = 0,
        min_free: int = 16 * 1024 * 1024,
        min_inodes: int = 100,
        nul: str = "remove",
        dialect: str = "esmtp",
        deadline: int = 300,
        null_sender: str = "",
    ) -> None:
        self.max_size = max_size
        self.min_free = min_free
        self.min_inodes = min_inodes
        self.nul = nul
        self.dialect = dialect
        self.deadline = deadline
        self.null_sender = null_sender

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limits) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # its values can be changed, so it is no key of anything

    def to_bytes(self) -> bytes:
        """The file: one ``name value`` per line."""
        return "".join(f"{name} {getattr(self, name)}\n" for name in self.__slots__).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Limits:
        """Read the file; empty lines and lines that begin with ``#`` are skipped. ValueError names a wrong line."""
        limits = cls()
        for line in data.decode("utf-8").splitlines():
            name, _, value = line.strip().partition(" ")
            if name and not name.startswith("#"):
                limits._set(name, value.strip())
        return limits

    def _set(self, name: str, value: str) -> None:
        if name in ("max_size", "min_free", "min_inodes", "deadline"):
            good = value.isascii() and value.isdecimal() and len(value) < 19
            if name == "deadline":
                good = good and 0 < int(value) < 1 << 31  # what alarm(2) takes
            if good:
                setattr(self, name, int(value))
        elif name == "null_sender":
            self.null_sender, good = value, True
        else:
            good = value in {"nul": ("remove", "refuse"), "dialect": ("esmtp", "classic")}.get(name, ())
            if good:
                setattr(self, name, value)
        if not good:
            raise ValueError(f"limits: {name} {value}".rstrip())
