"""Settings: one TOML file, read into frozen, validated values; every error at once, each with its place and its fix.

No command needs a file: ``--spool`` alone is enough, and each setting has a default that suits a small site. The
file is found through ``--config``, ``$BSMTP_BATCH_CONFIG`` or at :data:`DEFAULT_FILE`. The per-message command reads
none of this: what it has to know, ``route add`` writes into the route's own ``limits`` file.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from bsmtp_batch.config_place import place_of
from bsmtp_batch.errors import Setting
from bsmtp_batch.spool.names import DEFAULT_SPOOL, Limits, valid_route

DEFAULT_FILE = "/etc/bsmtp-batch/bsmtp-batch.toml"
_LIMITS = Limits()  # what holds for a route that the file does not speak of, and for `deliver` without a limits file

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}


def _seconds(value: object) -> object:
    """``90``, ``"90s"``, ``"5m"``, ``"2h"``, ``"14d"``, ``"1w"`` as seconds; the rest is left to pydantic."""
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]+) ?([smhdw])", value)
        if not found:
            raise ValueError('write a number of seconds, or a number with s, m, h, d or w: "15m", "14d"')
        return int(found[1]) * _UNITS[found[2]]
    return value


def _octets(value: object) -> object:
    """``500000``, ``"500k"``, ``"50M"``, ``"1G"`` as octets (powers of 1000)."""
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]+) ?([kMG]?)B?", value)
        if not found:
            raise ValueError('write a number of octets, or a number with k, M or G: "500k", "50M"')
        return int(found[1]) * _SIZES[found[2]]
    return value


def _host(value: object) -> object:
    """A host name in lower case, as routes and nodes have to be: it becomes part of file names."""
    if isinstance(value, str):
        if valid_route(value.lower().encode("utf-8", "replace")):
            return value.lower()
        raise ValueError("write a host name as it stands in DNS (A-label): example.org, xn--mller-kva.example")
    return value


def _domain(value: object) -> object:
    """A domain in lower case; unlike a host name it may hold underscores, for mail to such domains exists."""
    if isinstance(value, str):
        _host(value.replace("_", "x"))
        return value.lower()
    return value


def _directory(value: object) -> object:
    """An absolute path: cron, the MTA and a shell would each take a relative one to be somewhere else."""
    if isinstance(value, str) and not value.startswith("/"):
        raise ValueError('write the whole path: "/var/spool/bsmtp-batch"')
    return value


def _url(value: object) -> object:
    """Something with a scheme in front; whether there is such a courier or target is found out when it is used."""
    if isinstance(value, str) and value and not re.match("[a-z]+:", value):
        raise ValueError('begin with the scheme: "dir:/media/stick" for a peer, "smtp://127.0.0.1:25" for a target')
    return value


Seconds = Annotated[int, BeforeValidator(_seconds), Field(ge=0)]
Octets = Annotated[int, BeforeValidator(_octets), Field(ge=0)]
Host = Annotated[str, BeforeValidator(_host)]
Domain = Annotated[str, BeforeValidator(_domain)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Directory = Annotated[Line, BeforeValidator(_directory)]
Url = Annotated[Line, BeforeValidator(_url)]

_PLAIN = {
    "missing": "this has to be set",
    "string_type": "write a text in quotes",
    "string_pattern_mismatch": "write one line of text, without control characters",
    "int_type": "write a whole number",
    "list_type": 'write a list: ["one", "two"]',
    "greater_than": "write a number above 0",
    "greater_than_equal": "write 0 or a number above it",
    "model_type": "this is a section: write it in brackets, with its settings below",
    "dict_type": "this is a section: write it in brackets, with its settings below",
}
"""What to do about each kind of fault that the validator's own words would not tell a postmaster."""


class _Section(BaseModel):
    """A section of the file: frozen, strict about types, and any key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Node(_Section):
    """``[node]``: who this machine is and where its spool lies."""

    name: Host = Field(default="", description="Name of this node in HELO and in batch names; default: the host name.")
    spool: Directory = Field(
        default=DEFAULT_SPOOL, description="Directory of the spool, owned by the user that runs everything."
    )
    postmaster: Line = Field(default="", description="Where reports go; default: postmaster at the node's name.")
    reserve: Octets = Field(
        default=64_000_000, description="Space kept back so that a full disk can be drained by sealing."
    )


class Route(_Section):
    """``[route."example.org"]``: what waits for one customer, and when it is sealed into a batch."""

    domains: list[Domain] = Field(
        default=[], description="Domains carried by this route, beside the one it is named after."
    )
    seal_age: Seconds = Field(
        default=300, description="`seal --due` seals when the oldest message has waited this long."
    )
    seal_size: Octets = Field(
        default=50_000_000, gt=0, description="... or this much waits; also the largest batch made."
    )
    seal_count: int = Field(
        default=10_000,
        gt=0,
        le=100_000,  # what import takes at most
        description="... or this many messages wait; also the most in one batch.",
    )
    keep: Seconds = Field(default=14 * 86400, description="How long an acknowledged batch stays in kept/.")
    dialect: Literal["esmtp", "classic"] = Field(
        default="esmtp", description="`classic` writes no ESMTP parameter at all."
    )
    max_size: Octets = Field(default=_LIMITS.max_size, description="Largest message taken (0: no limit but the MTA's).")
    min_free: Octets = Field(
        default=_LIMITS.min_free, description="Mail stays with the MTA when less space than this is free."
    )
    min_inodes: int = Field(
        default=_LIMITS.min_inodes, ge=0, description="Mail stays with the MTA when fewer inodes than this are free."
    )
    nul: Literal["remove", "refuse"] = Field(default="remove", description="What becomes of NUL octets in a message.")
    deadline: Seconds = Field(
        default=_LIMITS.deadline, gt=0, description="Time one hand-in may take before it is put off."
    )
    null_sender: Line = Field(
        default=_LIMITS.null_sender, description="A further spelling of the null sender that the MTA is known to write."
    )


class Peer(_Section):
    """``[peer.NAME]``: the other end of a courier."""

    url: Url = Field(description="Where to push to or pull from: dir:/path.")
    routes: list[Host] = Field(default=[], description="Routes carried over this peer; default: all that are found.")


class Import(_Section):
    """``[import]``: where what has arrived is handed to, and what this site takes."""

    to: Url = Field(default="", description="Target: smtp://host:port, lmtp://..., sendmail:/path, maildir:/path.")
    local_domains: list[Domain] = Field(default=[], description="Recipients outside these domains are set aside.")
    on_reject: Literal["bounce", "quarantine"] = Field(
        default="bounce", description="After a 5xx: tell the sender, or only keep."
    )
    keep: Seconds = Field(default=14 * 86400, description="How long an imported batch stays in done/.")


class Settings(_Section):
    """The whole file."""

    node: Node = Node()
    routes: dict[Host, Route] = Field(default={}, alias="route")
    peers: dict[Line, Peer] = Field(default={}, alias="peer")
    imports: Import = Field(default=Import(), alias="import")

    def route(self, name: str) -> Route:
        """The settings of route ``name``; the defaults where the file does not speak of it."""
        return self.routes.get(name) or Route()

    def peer(self, name: str) -> Peer | None:
        """The peer called ``name``, or None."""
        return self.peers.get(name)


def load(config: str | None, *, spool: str | None = None) -> Settings:
    """Read the settings.

    ``config`` is the file the user named; None means the default file, where it exists. ``spool`` overrides
    ``[node] spool``. Raises :class:`~bsmtp_batch.errors.Setting` that lists every fault as ``file:line:column``.
    """
    path = config or (DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None)
    found = _validated(path, _read(path)) if path else Settings()
    node = found.node.model_copy(
        update={
            "spool": os.path.abspath(spool or found.node.spool),
            "name": found.node.name or _host_name(),
            "postmaster": found.node.postmaster or f"postmaster@{found.node.name or _host_name()}",
        }
    )
    return found.model_copy(update={"node": node})


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Setting(
            f"cannot read the settings {path}: {reason}",
            safe="Nothing was changed",
            next="name a readable file with --config, or none and use --spool",
        ) from error


def _validated(path: str, text: str) -> Settings:
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        faults = [_toml_fault(path, str(error))]
    except ValidationError as error:
        places = sorted((place_of(text, one["loc"]), _fault(one)) for one in error.errors())
        faults = [f"{path}:{line}:{column}: {what}" for (line, column), what in places]
    raise Setting(
        "the settings cannot be used:\n  " + "\n  ".join(faults) + "\nNone of the settings is in force",
        safe="Nothing was changed; the MTA keeps handing in mail",
        next="mend the places named and run the command again",
    )


def _toml_fault(path: str, message: str) -> str:
    found = re.search(r"\(at line (\d+), column (\d+)\)", message)
    place = f"{path}:{found[1]}:{found[2]}" if found else path
    return f"{place}: {message.split(' (at ', 1)[0]}"


def _fault(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        what = "there is no such setting" + _did_you_mean(error["loc"])
    else:
        told = error["msg"].removeprefix("Value error, ").replace("Input should be", "write")
        what = _PLAIN.get(error["type"], told)
    return f"{name}: {what}"


def _did_you_mean(location: tuple[str | int, ...]) -> str:
    import difflib

    sections: dict[str, type[BaseModel]] = {"node": Node, "route": Route, "peer": Peer, "import": Import}
    known = list(sections) if len(location) == 1 else list(sections.get(str(location[0]), Settings).model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def _host_name() -> str:
    """The host's name as a node name; ``node`` where the host has none that could stand in HELO."""
    try:
        return str(_host(socket.gethostname()))
    except ValueError:
        return "node"
