"""Settings: one TOML file, read into frozen, validated values; every error at once, each with its place and its fix.

No command needs a file: ``--spool`` alone is enough, and each setting has a default that suits a small site. The
file is found through ``--config``, ``$BSMTP_BATCH_CONFIG`` or at ``config_basics.DEFAULT_FILE``. The per-message
command reads none of this: what it has to know, ``route add`` writes into the route's own ``limits`` file.
"""

from __future__ import annotations

import os
import tomllib
from typing import Literal, Self

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from bsmtp_batch.config_basics import file_of, host_name, text_of
from bsmtp_batch.config_faults import contradiction, of_toml, of_validation
from bsmtp_batch.config_serve import Account, Serve
from bsmtp_batch.config_serve import Section as _Section
from bsmtp_batch.config_values import (
    AccountName,
    Address,
    Directory,
    Domain,
    File,
    Host,
    Line,
    Octets,
    PeerUrl,
    Schedule,
    Seconds,
    TargetUrl,
    Window,
)
from bsmtp_batch.errors import Faults
from bsmtp_batch.spool.names import DEFAULT_SPOOL, Limits

DEFAULT_SECRETS = "/etc/bsmtp-batch/secrets"
_LIMITS = Limits()  # what holds for a route that the file does not speak of, and for `deliver` without a limits file


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
    signing_key: File = Field(
        default="",
        description="Private ssh key that signs each batch, or the public half of one in the agent; default: unsigned.",
    )
    allowed_signers: File = Field(
        default="", description="Whose signatures count (see ssh-keygen(1), ALLOWED SIGNERS), for all peers."
    )
    secrets: File = Field(
        default=DEFAULT_SECRETS,
        description="What the accounts log in with; written by `bsmtp-batch account add`, readable for one user only.",
    )

    @field_validator("secrets")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if not value:
            raise ValueError("write the whole path of a file, or leave this out")
        return value


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

    url: PeerUrl = Field(
        default="",
        description="Where to push to or pull from: dir:/path, scp://user@host[:port]/, rsync://user@host[:port]/,"
        " smtp://domain (push only; [host]:port: no MX look-up), odmr://user@host[:port]/ (port 366); default: nowhere,"
        " it comes to us (`receive`).",
    )
    routes: list[Host] = Field(
        default=[],
        description="Routes carried over this peer; default: all that are found (odmr://: none of ours goes up).",
    )
    domains: list[Domain] = Field(
        default=[], description="Whose mail to ask an odmr:// provider for; default: all that the account may have."
    )
    identity: File = Field(default="", description="Private ssh key for this peer; default: what ssh itself takes.")
    known_hosts: File = Field(
        default="", description="File with the host key of this peer; default: what ssh itself takes."
    )
    far: Literal["receive", "directory"] = Field(
        default="receive",
        description="What answers there: `bsmtp-batch receive`, or only an account with a `directory` (rsync).",
    )
    compression: Literal["none", "gzip", "xz", "zstd"] = Field(
        default="none", description="How whole batches are compressed for the road."
    )
    receipt: Literal["ack", "copied"] = Field(
        default="ack",
        description="What releases a batch: the receipt of the far side, or `copied`: the copying has ended well.",
    )
    signature: Literal["optional", "required"] = Field(
        default="optional", description="Whether a batch without a good signature is taken from this peer."
    )
    allowed_signers: File = Field(default="", description="Whose signatures count; default: that of `[node]`.")
    window: Window = Field(
        default="", description='Local time in which contacts are made, such as "22:00-05:30"; default: always.'
    )
    max_bytes: Octets = Field(default=0, description="The most octets of batches in one contact (0: no bound).")
    knocks: list[Address] = Field(
        default=[],
        description="Addresses from which a connection to `serve` that only says QUIT starts a push to an smtp:// url.",
    )

    schedule: Schedule = Field(
        default="",
        description='When `serve` pushes to an smtp:// url by itself: "at once", or every "10m"; default: never.',
    )
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = Field(
        default="opportunistic",
        description="TLS with an smtp:// or odmr:// server; `starttls` (always the default for odmr://) and `implicit`"
        " want it, and a good certificate.",
    )
    ca_file: File = Field(
        default="", description="Who issues good certificates (PEM); default: what the system trusts."
    )
    user: Line = Field(
        default="",
        description="Name to log in with at an smtp:// or odmr:// server; default: that of the url, or no login.",
    )
    secret_file: File = Field(default="", description="File whose first line is the password of `user`.")
    cert_file: File = Field(
        default="", description="Our own certificate (PEM), with which an odmr:// provider knows us (EXTERNAL)."
    )
    key_file: File = Field(default="", description="The private key of `cert_file`; default: it is in that file.")

    @field_validator("tls", "ca_file", "user", "secret_file")
    @classmethod
    def _by_smtp(cls, value: str, info: ValidationInfo) -> str:
        url = info.data.get("url", "smtp:")
        if value not in ("", "opportunistic") and not url.startswith(("smtp:", "odmr:")):
            raise ValueError("leave this out, or set url to an smtp:// or odmr:// one: no other uses it")
        if value == "opportunistic" and url.startswith("odmr:"):
            raise ValueError('write "starttls", "implicit" or "none": with odmr:// a login is to be protected, or not')
        return value

    @field_validator("schedule", "knocks")
    @classmethod
    def _by_serve(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        if value and not info.data.get("url", "smtp:").startswith("smtp:"):
            raise ValueError("leave this out, or set url to an smtp:// one: `serve` pushes to no other (a timer can)")
        return value

    @field_validator("domains", "cert_file", "key_file")
    @classmethod
    def _by_odmr(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        if value and not info.data.get("url", "odmr:").startswith("odmr:"):
            raise ValueError("leave this out, or set url to an odmr:// one: no other uses it")
        return value

    @field_validator("secret_file")
    @classmethod
    def _login_whole(cls, value: str, info: ValidationInfo) -> str:
        by_url = "@" in info.data.get("url", "@")
        if bool(value) != bool(info.data.get("user", value)) and not by_url:
            raise ValueError("set both user and secret_file, or neither")
        return value

    @field_validator("identity", "known_hosts", "compression")
    @classmethod
    def _over_ssh(cls, value: str, info: ValidationInfo) -> str:
        """These three say how ssh is used. A url with a fault of its own is told as that, and not blamed again here."""
        if value != "none" and not info.data.get("url", "scp:").startswith(("scp:", "rsync:")):
            raise ValueError("leave this out, or set url to an scp:// or rsync:// one: no other uses it")
        return value

    @field_validator("compression")
    @classmethod
    def _unpacked_by_us(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and info.data.get("far") == "directory":
            raise ValueError("leave this out: in an account without our program nothing unpacks a batch")
        return value

    @field_validator("far")
    @classmethod
    def _directory_by_rsync(cls, value: str, info: ValidationInfo) -> str:
        if value == "directory" and not info.data.get("url", "rsync:").startswith("rsync:"):
            raise ValueError(
                "only rsync:// can use an account without our program: set url to such a one, or leave this out"
            )
        return value

    @field_validator("receipt")
    @classmethod
    def _only_where_no_receipts_come(cls, value: str, info: ValidationInfo) -> str:
        by_ssh = info.data.get("far") == "receive" and not info.data.get("url", "dir:").startswith("dir:")
        if value == "copied" and by_ssh:
            raise ValueError("leave this out: `bsmtp-batch receive` at the far end gives receipts")
        return value

    @model_validator(mode="after")
    def _whose_mail(self) -> Self:
        if self.url.startswith("smtp:") and not self.routes:
            raise contradiction("name the routes whose mail this server takes: it is not to get that of others", "url")
        if self.user and not (self.secret_file or self.cert_file):
            raise contradiction("set both user and secret_file, or neither", "user")
        if self.url.startswith("odmr:") and self.user and "@" in self.url:
            raise contradiction("name the user here or in the url, not in both", "user")
        if self.key_file and not self.cert_file:
            raise contradiction("set cert_file too: a key alone shows nothing", "key_file")
        return self

    @model_validator(mode="after")
    def _path_in_a_directory(self) -> Self:
        path = self.url.split("/", 3)[3:] if self.url.startswith(("scp:", "rsync:")) else []
        if any(path) and self.far == "receive":
            raise contradiction(
                'end it after the host: `receive` knows its spool, and a path is only for far = "directory"', "url"
            )
        return self


class Import(_Section):
    """``[import]``: where what has arrived is handed to, and what this site takes."""

    to: TargetUrl = Field(
        default="", description="Target: smtp://host:port, lmtp://..., sendmail:/path, maildir:/path."
    )
    local_domains: list[Domain] = Field(default=[], description="Recipients outside these domains are set aside.")
    on_reject: Literal["bounce", "quarantine"] = Field(
        default="bounce", description="After a 5xx: tell the sender, or only keep."
    )
    keep: Seconds = Field(default=14 * 86400, description="How long an imported batch stays in done/.")
    connections: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Connections to the target at most; 1 keeps the order. 0: 8 to a server, 1 to anything else.",
    )


class Settings(_Section):
    """The whole file."""

    node: Node = Node()
    routes: dict[Host, Route] = Field(default={}, alias="route")
    peers: dict[Line, Peer] = Field(default={}, alias="peer")
    accounts: dict[AccountName, Account] = Field(default={}, alias="account")
    imports: Import = Field(default=Import(), alias="import")
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _certificates_differ(self) -> Self:
        """A certificate that stood for two accounts would leave it to chance whose mail is sent."""
        seen: dict[str, str] = {}
        for name, account in self.accounts.items():
            if account.certificate and seen.setdefault(account.certificate, name) != name:
                raise contradiction(
                    f"use another one: this stands for the account {seen[account.certificate]} already",
                    "account",
                    name,
                    "certificate",
                )
        return self

    @model_validator(mode="after")
    def _signatures_can_be_checked(self) -> Self:
        """Otherwise a batch with anything at all for its signature would be taken."""
        for name, peer in self.peers.items():
            if peer.signature == "required" and not (peer.allowed_signers or self.node.allowed_signers):
                raise contradiction(
                    "name the file with the keys that count: allowed_signers here or in [node]",
                    "peer",
                    name,
                    "signature",
                )
        return self

    def route(self, name: str) -> Route:
        """The settings of route ``name``; the defaults where the file does not speak of it."""
        return self.routes.get(name) or Route()

    def peer(self, name: str) -> Peer | None:
        """The peer called ``name``, or None."""
        return self.peers.get(name)


_SECTIONS: dict[str, type[BaseModel]] = {
    "node": Node,
    "route": Route,
    "peer": Peer,
    "account": Account,
    "import": Import,
    "serve": Serve,
}


def load(config: str | None, *, spool: str | None = None) -> Settings:
    """Read the settings.

    ``config`` is the file the user named; None means the default file, where it exists. ``spool`` overrides
    ``[node] spool``. Raises :class:`~bsmtp_batch.errors.Setting`; for what is wrong in the file
    :class:`~bsmtp_batch.errors.Faults`, every one of them as ``file:line:column``.
    """
    path = file_of(config)
    found = _validated(path, text_of(path)) if path else Settings()
    node = found.node.model_copy(
        update={
            "spool": os.path.abspath(spool or found.node.spool),
            "name": found.node.name or host_name(),
            "postmaster": found.node.postmaster or f"postmaster@{found.node.name or host_name()}",
        }
    )
    return found.model_copy(update={"node": node})


def _validated(path: str, text: str) -> Settings:
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Faults([of_toml(path, str(error))]) from error
    except ValidationError as error:
        raise Faults(of_validation(path, text, error, Settings, _SECTIONS)) from error
