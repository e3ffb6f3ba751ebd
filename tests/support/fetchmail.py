"""fetchmail in a box, asking a provider by ATRN for its mail, or by ETRN for it to be sent.

Debian's /etc/services has no odmr entry, so the port is always named. With a list of domains left out fetchmail asks
for its own host name. It hands the turned connection through to the server on ``smtp``, octet for octet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.box import Box
from support.postfix import Recorder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

USER, SECRET = "customer", "a secret that was generated"
ODMR, SMTP = 366, 2424
RCFILE = "/root/fetchmailrc"


class Fetchmail:
    """A box with fetchmail in it, and with a recorder on :data:`SMTP` that takes what it brings."""

    def __init__(self) -> None:
        self.box = Box("fetchmail", accounts={}, hosts=["provider.example"], name="customer.example")
        self.recorder = Recorder(self.box)

    def odmr(
        self, domains: Sequence[str], *, port: int = ODMR, smtp: int = SMTP, tls: bool = False, code: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """One poll by ATRN with CRAM-MD5, to be ended with ``code``; ``tls`` from the first octet (there is no
        STARTTLS). 0: mail came, or there was none (453); 3: 530; 4: 450, 502 and anything odd; 8: 451; 128: AUTH."""
        ssl = "ssl no sslcertck" if tls else "sslproto ''"
        settings = (
            f"poll 127.0.0.1 proto ODMR service {port} timeout 30\n"
            f'  user "{USER}" password "{SECRET}" fetchdomains "{",".join(domains)}"'
            f' smtphost "127.0.0.1/{smtp}" {ssl}\n'
        )
        return self._poll(settings, code)

    def etrn(self, domains: Sequence[str], *, port: int, code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        """One poll by ETRN, to be ended with ``code``."""
        settings = f'poll 127.0.0.1 proto ETRN service {port} timeout 30\n  fetchdomains "{",".join(domains)}"\n'
        return self._poll(settings + "  sslproto ''\n", code)

    def command(self) -> list[str]:
        """The command line, to be run with the rcfile of the last poll (for a test that kills it on the way)."""
        return self.box.command("fetchmail", "-f", RCFILE, "--nodetach", "--nosyslog", "-v")

    def _poll(self, settings: str, code: int | None) -> subprocess.CompletedProcess[bytes]:
        self.box.write(RCFILE, settings, 0o600)
        words = ["fetchmail", "-f", RCFILE, "--nodetach", "--nosyslog", "--pidfile", "/run/fetchmail.pid", "-v"]
        return self.box.run(*words, code=code)

    def close(self) -> None:
        self.box.close()
