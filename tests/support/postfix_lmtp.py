"""Postfix as provider, wired for LMTP as ``contrib/postfix-master.cf`` says, in a box with the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.corpus import DOMAIN
from support.intake import SOCKET, Intake, Tap
from support.postfix import CONTRIB, RECORDER, Postfix, Recorder, main_cf, postfix_box

if TYPE_CHECKING:
    from pathlib import Path

PORT = 2525


class LmtpHub:
    """A box with the provider, ``intake`` (the daemon), and the recorder, which gets everything else: the bounces.

    Beside the contrib file's customer the provider knows every domain below ``site.example``, each a customer, and
    those below ``tap.example``, whose mail goes to the daemon through ``tap``.
    """

    def __init__(self, directory: Path, more: str = ""):
        self.box = box = postfix_box()
        self.recorder = Recorder(box)
        contrib = (CONTRIB / "postfix-master.cf").read_text()
        self.intake = Intake(box, directory, contrib, more)
        self.tap = Tap(box)
        settings = main_cf(contrib, "l")
        assert DOMAIN in settings and SOCKET in settings
        settings = settings.replace("transport_maps = ", "transport_maps = regexp:/etc/postfix-provider/sites ")
        service = f"bsmtp-lmtp:unix:{SOCKET}"
        sites = {"site": service, "tap": service.replace(SOCKET, self.tap.name), "soft": "soft" + service[10:]}
        lines = [f"/@.*\\.{name}\\.example$/ {where}\n" for name, where in sites.items()]
        box.write("/etc/postfix-provider/sites", "".join(lines))
        settings += f"default_transport = lmtp:127.0.0.1:{RECORDER}\nsmtpd_recipient_limit = 2000\n"
        self.provider = Postfix(box, "provider", PORT, settings, contrib + soft(contrib))
        box.run("cp", f"{self.provider.directory}/main.cf", f"{self.provider.directory}/master.cf", "/etc/postfix")
        self._routes = 0

    def route(self, kind: str = "site") -> str:
        """A new route, in use by nobody else, and a domain whose mail the provider hands over for it."""
        self._routes += 1
        name = f"r{self._routes}.{kind}.example"
        self.box.batch("route", "add", name)
        return name

    def close(self) -> None:
        self.tap.close()
        self.provider.stop()
        self.intake.close()
        self.box.close()


def soft(contrib: str) -> str:
    """The contributed service again, with the option its comment speaks of."""
    entry = contrib[contrib.index("\nbsmtp-lmtp unix") :].split("\n\n", maxsplit=1)[0]
    return entry.replace("bsmtp-lmtp", "soft") + "\n  -o soft_bounce=yes\n"
