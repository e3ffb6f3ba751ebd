"""From a URL to its courier, which is imported when its scheme is first asked for."""

from __future__ import annotations

import os

from bsmtp_batch.courier.contract import Courier
from bsmtp_batch.courier.options import DEFAULTS, Options
from bsmtp_batch.errors import Usage

EXAMPLES = {"dir": "dir:/path", "rsync": "rsync://user@host/", "scp": "scp://user@host/"}
"""The schemes there are, and how a URL of each looks."""


def courier_for(url: str, options: Options = DEFAULTS) -> Courier:
    """The courier of ``url``. Raises :class:`~bsmtp_batch.errors.Usage` for a scheme this version does not have, or a
    URL that is not complete."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in EXAMPLES:
        raise Usage(
            f"{url!r} is neither a peer of the configuration nor a URL with a scheme of this version",
            safe="Nothing was moved",
            next=f"use one of: {', '.join(EXAMPLES.values())}, or the name of a [peer.NAME]",
        )
    if scheme == "dir":
        return _directory(url, rest)
    return _over_ssh(url, options)


def _directory(url: str, path: str) -> Courier:
    from bsmtp_batch.courier.directory import Directory

    if not path.startswith("/"):
        raise Usage(f"{url!r} does not name an absolute path", safe="Nothing was moved", next="write dir:/path")
    return Directory(os.path.normpath("/" + path.lstrip("/")))


def _over_ssh(url: str, options: Options) -> Courier:
    from bsmtp_batch.courier.address import address_of
    from bsmtp_batch.courier.carriers import Rsync, Scp
    from bsmtp_batch.courier.overssh import OverSsh

    address = address_of(url)
    if options.far == "directory":
        from bsmtp_batch.courier.rsync_directory import RsyncDirectory

        return RsyncDirectory(address, options)
    if address.path != "/":
        raise Usage(
            f"{url!r} names a path, and `bsmtp-batch receive` at the far end knows where to put things",
            safe="Nothing was moved",
            next='end the URL after the host, or set far = "directory" for an account without our program',
        )
    return OverSsh(address, options, Scp() if address.scheme == "scp" else Rsync())
