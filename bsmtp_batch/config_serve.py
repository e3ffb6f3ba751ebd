"""The sections of the settings for what answers on ports: ``[serve]``, and who may log in there, ``[account.NAME]``."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bsmtp_batch.config_values import (
    ClientCertificate,
    File,
    Host,
    Listen,
    ListenLmtp,
    Mode,
    Network,
    Octets,
    is_loopback,
)


class Section(BaseModel):
    """A section of the file: frozen, strict about types, and any key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Account(Section):
    """``[account.NAME]``: who may log in here to collect mail; the secret itself is in the secrets file."""

    routes: list[Host] = Field(
        default=[], description="Routes whose mail it may collect, and no others; default: none."
    )
    plain: bool = Field(
        default=True, description="Whether PLAIN and LOGIN are taken, which show the password to this server."
    )
    cram_md5: bool = Field(
        default=False,
        description="Whether CRAM-MD5 is taken, as fetchmail needs it; also give `account add` its --cram-md5.",
    )
    certificate: ClientCertificate = Field(
        default="",
        description="The TLS client certificate that stands for this account (EXTERNAL): its sha256 fingerprint, or the"
        " host name in it; default: none does.",
    )


class Serve(Section):
    """``[serve]``: the ports of `bsmtp-batch serve`."""

    odmr: list[Listen] = Field(
        default=[], description='Where ODMR is spoken, with STARTTLS where there is a certificate: "[::]:366".'
    )
    odmr_tls: list[Listen] = Field(default=[], description="Where ODMR is spoken over TLS from the first octet.")
    certificate: File = Field(default="", description="Our certificate with its chain, PEM; without it no TLS.")
    key: File = Field(default="", description="Its private key, PEM; default: it is in `certificate`.")
    client_ca: File = Field(
        default="", description="Who issues the certificates that clients may show (EXTERNAL), PEM; default: nobody."
    )
    passwords_in_clear: bool = Field(
        default=False, description="Whether PLAIN and LOGIN are taken without TLS: for lines that nobody else is on."
    )
    max_size: Octets = Field(
        default=50_000_000, description="Largest message taken from a customer over ODMR (0: no limit)."
    )
    etrn_from: list[Network] = Field(
        default=[], description="Networks that may ask with ETRN for any route to be pushed to its peer's smtp:// url."
    )

    lmtp: list[ListenLmtp] = Field(
        default=[],
        description='Where the MTA hands mail in by LMTP: "unix:/run/bsmtp-batch/lmtp", "127.0.0.1:2424".',
    )
    lmtp_mode: Mode = Field(
        default="0666",
        description="Permissions of such a unix socket: who may write to it can hand mail in, as with sendmail(1).",
    )
    lmtp_from: list[Network] = Field(
        default=[], description="Networks whose MTAs may hand mail in by LMTP over TCP; default: this machine only."
    )
    lmtp_route: Host = Field(
        default="",
        description="Route of recipients whose domain has none of its own (a site's only one: that of its hub);"
        " default: such mail stays with the MTA.",
    )
    lmtp_max_size: Octets = Field(
        default=1_000_000_000,
        description="Largest message taken by LMTP (0: no limit); a route's own max_size may be less.",
    )

    @model_validator(mode="after")
    def _mtas_named(self) -> Self:
        """Whoever reaches the port may hand in what he likes to every route."""
        open_to = [one for one in self.lmtp if not one.startswith("unix:") and not is_loopback(one)]
        if open_to and not self.lmtp_from:
            raise ValueError(f"lmtp_from has to name the networks that may hand mail in at {open_to[0]}")
        return self

    @model_validator(mode="after")
    def _tls_whole(self) -> Self:
        if self.odmr_tls and not self.certificate:
            raise ValueError("odmr_tls needs certificate (and key, where that is another file)")
        return self
