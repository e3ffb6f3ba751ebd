"""fetchmail in a box, asking a provider by ATRN for its mail, or by ETRN for it to be sent.

Debian's /etc/services has no odmr entry, so the port is always named. With a list of domains left out fetchmail asks
for its own host name. It hands the turned connection through to the server on ``smtp``, octet for octet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.box import Box
from support.postfix import RECORDER, Recorder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

USER, SECRET = "customer", "a secret that was generated"
ODMR, SMTP = 366, RECORDER
RCFILE = "/root/fetchmailrc"
NO_TLS = "sslproto ''"


class Fetchmail:
    """A box with fetchmail in it, and with a recorder on :data:`SMTP` that takes what it brings."""

    def __init__(self) -> None:
        self.box = Box("fetchmail", accounts={}, hosts=["provider.example"], name="customer.example")
        self.recorder = Recorder(self.box)
        self.secret = SECRET

    def odmr(
        self, domains: Sequence[str], *, port: int = ODMR, smtp: int = SMTP, tls: bool = False, code: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """One poll by ATRN with CRAM-MD5, to be ended with ``code``; ``tls`` from the first octet (there is no
        STARTTLS). 0: mail came, or there was none (453); 3: 530; 4: 450, 502 and anything odd; 8: 451; 128: AUTH.

        0 also where the line broke in the middle of a message: what came has to be counted.
        """
        return self.box.run(*self.prepare(domains, port=port, smtp=smtp, tls=tls), code=code)

    def prepare(
        self, domains: Sequence[str], *, port: int = ODMR, smtp: int = SMTP, tls: bool = False
    ) -> tuple[str, ...]:
        """The command that polls as :meth:`odmr` does, for a test that starts it by ``box.command`` and kills it."""
        settings = (
            f"poll 127.0.0.1 proto ODMR service {port} timeout 30\n"
            f'  user "{USER}" password "{self.secret}" fetchdomains {_listed(domains)}'
            f' smtphost "127.0.0.1/{smtp}" {"ssl no sslcertck" if tls else NO_TLS}\n'
        )
        return self._written(settings)

    def etrn(self, domains: Sequence[str], *, port: int, code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        """One poll by ETRN, to be ended with ``code``. 0: 250, 252, 253 to each, or 251 to one; 3: 459; 4: 458, 50x."""
        start = f"poll 127.0.0.1 proto ETRN service {port} timeout 30\n"
        settings = f"{start}  fetchdomains {_listed(domains)} {NO_TLS}\n"
        return self.box.run(*self._written(settings), code=code)

    def _written(self, settings: str) -> tuple[str, ...]:
        self.box.write(RCFILE, settings, 0o600)
        return ("fetchmail", "-f", RCFILE, "--nodetach", "--nosyslog", "--pidfile", "/run/fetchmail.pid", "-v")

    def close(self) -> None:
        self.box.close()


def _listed(domains: Sequence[str]) -> str:
    """A list as the rcfile has it; with a comma inside the quotes it would be one long name."""
    return " ".join(f'"{domain}"' for domain in domains)
