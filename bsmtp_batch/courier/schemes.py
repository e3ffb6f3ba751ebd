"""From a URL to its courier, which is imported when its scheme is first asked for."""

from __future__ import annotations

import importlib
import os

from bsmtp_batch.courier.contract import Courier
from bsmtp_batch.courier.options import DEFAULTS, Options
from bsmtp_batch.errors import Usage

SCHEMES = {"dir": ("bsmtp_batch.courier.directory", "Directory")}
"""Module and class of each scheme; the class is made from what follows the colon."""


def courier_for(url: str, options: Options = DEFAULTS) -> Courier:
    """The courier of ``url``. Raises :class:`~bsmtp_batch.errors.Usage` for a scheme this version does not have, or a
    URL that is not complete."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in SCHEMES:
        raise Usage(
            f"{url!r} is neither a peer of the configuration nor a URL with a scheme of this version",
            safe="Nothing was moved",
            next=f"use one of: {', '.join(f'{s}:/path' for s in sorted(SCHEMES))}, or the name of a [peer.NAME]",
        )
    if not rest.startswith("/"):
        raise Usage(f"{url!r} does not name an absolute path", safe="Nothing was moved", next=f"write {scheme}:/path")
    module, name = SCHEMES[scheme]
    made = getattr(importlib.import_module(module), name)(os.path.normpath("/" + rest.lstrip("/")))
    assert isinstance(made, Courier)
    return made
