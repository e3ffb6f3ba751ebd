"""From the octets an MTA gives to a fragment: the route's limits, the envelope, the message on standard input.

Nothing is held but what :class:`Fragment` holds; nothing is locked while standard input is read.
"""

from __future__ import annotations

import posix

from bsmtp_batch.deliver.answers import MALFORMED, TOO_BIG, Answer, later, shown
from bsmtp_batch.spool.names import LIMITS, NEW, Limits, route_name
from bsmtp_batch.wire.command import (
    MAX_RCPTS,
    BadAddress,
    envelope_lines,
    needs_utf8,
    parse_address,
)
from bsmtp_batch.wire.dots import END, Canonicaliser, NotStuffed, NulRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bsmtp_batch.deliver.arguments import Request
    from bsmtp_batch.deliver.fragment import Fragment

_CHECK_EVERY = 4 * 1024 * 1024  # octets between two looks at the free space
_CHUNK = 64 * 1024  # what a pipe gives at most


def home_of(request: Request) -> str:
    """The directory of the route. Raises :class:`Answer` when there is none."""
    try:
        route = route_name(request.route)
    except ValueError as error:
        raise later(
            f"no route can be called {shown(request.route)}: {error}", "Mend the nexthop in transport_maps."
        ) from None
    home = f"{request.spool}/out/{route}"
    try:
        found = posix.stat(f"{home}/{NEW}")
    except FileNotFoundError:
        raise later(
            f"there is no route {route}: {home} is missing", f"Make it with: bsmtp-batch route add {route}"
        ) from None
    if found.st_uid and not posix.geteuid():
        # Some MTAs run their transports as root, and so does a postmaster's trial by hand: what root writes, the owner
        # of the spool could not seal.
        posix.setgroups([])
        posix.setgid(found.st_gid)
        posix.setuid(found.st_uid)
    return home


def limits_of(home: str) -> Limits:
    """The limits of the route, or the defaults where it has no file of its own. Raises :class:`Answer`."""
    path = f"{home}/{LIMITS}"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return Limits()
    try:
        data = posix.read(fd, 65_536)
    finally:
        posix.close(fd)
    try:
        return Limits.from_bytes(data)
    except ValueError as error:
        raise later(f"a bad setting in {path}: {error}", "Write the file again with: bsmtp-batch route add") from None


def envelope(request: Request, limits: Limits) -> bytes:
    """The lines of the transaction before its content. Raises :class:`Answer` (65) when the envelope is malformed."""
    sender = _sender(request.sender or b"", limits)
    rcpts = [_rcpt(octets) for octets in request.rcpts]
    if len(rcpts) > MAX_RCPTS:
        raise Answer(MALFORMED, f"5.5.3 {len(rcpts)} recipients in one hand-in; at most {MAX_RCPTS} can be taken")
    utf8 = limits.dialect == "esmtp" and (needs_utf8(sender) or any(map(needs_utf8, rcpts)))
    return envelope_lines(sender, rcpts, smtputf8=utf8) + b"DATA\r\n"


def _sender(octets: bytes, limits: Limits) -> bytes:
    # MAILER-DAEMON without a domain is how Postfix' pipe(8) writes the null sender; with a domain it is somebody.
    if octets in (b"MAILER-DAEMON", b"<MAILER-DAEMON>") or octets == (limits.null_sender.encode() or b"<>"):
        return b""
    try:
        return parse_address(octets, null=True)
    except BadAddress as bad:
        raise Answer(MALFORMED, f"5.1.7 sender {shown(octets)}: {bad.reason}") from None


def _rcpt(octets: bytes) -> bytes:
    try:
        return parse_address(octets)
    except BadAddress as bad:
        raise Answer(MALFORMED, f"5.1.3 recipient {shown(octets)}: {bad.reason}") from None


def take_message(request: Request, limits: Limits, home: str, fragment: Fragment) -> None:
    """Standard input to its end, canonical, with its end mark, into ``fragment``. Raises :class:`Answer`."""
    text = Canonicaliser(stuffed=request.stuffed, remove_nul=limits.nul == "remove", from_line=True)
    came = 0
    room = 0  # octets that are known to fit on the disk
    try:
        while data := posix.read(0, _CHUNK):
            came += len(data)
            fragment.add(text.feed(data))
            if came > room and not fragment.in_memory():
                require_room(home, limits, 0)
                room = came + _CHECK_EVERY
            _require_size(text.size, limits)
        fragment.add(text.close())
    except NulRefused as fault:
        raise Answer(MALFORMED, f"5.6.0 {fault}, which this route refuses") from None
    except NotStuffed as fault:
        raise later(f"{fault}, but dots are said to be doubled", "Use --dots raw (bsmtp: -d), or flags=.") from None
    _require_size(text.size, limits)
    _require_whole(request.size, came, text.size)
    fragment.add(END)
    require_room(home, limits, fragment.in_memory())


def _require_size(size: int, limits: Limits) -> None:
    if limits.max_size and size > limits.max_size:
        raise Answer(TOO_BIG, f"5.3.4 the message is larger than the {limits.max_size} octets this route takes")


def _require_whole(told: int, came: int, size: int) -> None:
    """An end of input looks the same whether the MTA is done or dead; the size it told is all there is to see it by.

    Postfix tells the length of its queue file's records: as CRLF text, one octet more for each 128 of a long line, and
    what milters took out. So only what is clearly less is taken for cut.
    """
    if (told and not came) or max(came, size) + 1024 + told // 64 < told:
        raise later(
            f"{came} octets came of {told} that were announced", "If that goes on, leave --size out of the transport."
        )


def require_room(home: str, limits: Limits, more: int) -> None:
    """Room for ``more`` octets without going below what the route keeps free."""
    disk = posix.statvfs(home)
    free = disk.f_bavail * disk.f_frsize - more
    if free < limits.min_free:
        raise later(
            f"no room: {free} octets would stay free, less than min_free {limits.min_free} in {home}/{LIMITS}",
            "Make room on the disk of the spool.",
        )
    if disk.f_files and disk.f_favail < limits.min_inodes:  # some file systems count no inodes
        raise later(
            f"no room: {disk.f_favail} inodes are free, less than min_inodes {limits.min_inodes} in {home}/{LIMITS}",
            "Make room on the disk of the spool.",
        )
