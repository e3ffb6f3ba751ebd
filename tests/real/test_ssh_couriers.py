"""From the provider's Postfix to the customer's over ssh, set up as the contributed files say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from real.test_postfix_customer import imported, outcomes, recorded, smtp
from support.box import OWNER, PROGRAM, SPOOL
from support.corpus import DOMAIN, Mail
from support.mailcheck import assert_arrived
from support.postfix import CONTRIB, Hub

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("postfix")]

PORT = 2222
SITE = "/var/spool/site"
KEYS = "/etc/ssh/bsmtp-batch.keys"
"""What contrib/ssh/sshd_config names."""


@pytest.fixture(scope="module")
def sshd(hub: Hub) -> Iterator[str]:
    """Debian's sshd with Debian's configuration and the contributed snippet; the options the site needs to reach it."""
    box = hub.box
    accounts = box.path("/etc/passwd")
    shell = re.sub(rf"(?m)^({OWNER}:.*):/usr/sbin/nologin$", r"\1:/bin/sh", accounts.read_text())
    assert shell != accounts.read_text()
    accounts.write_text(shell)
    box.run("install", "-d", "-m", "755", "/run/sshd", "/etc/ssh", "/etc/ssh/sshd_config.d", "/etc/bsmtp-batch")
    box.run("cp", "/usr/share/openssh/sshd_config", "/etc/ssh/sshd_config")
    box.write("/etc/ssh/sshd_config.d/bsmtp-batch.conf", (CONTRIB / "ssh" / "sshd_config").read_text())
    box.run("rm", "-f", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub")
    box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key")
    box.run("chown", OWNER, "/etc/bsmtp-batch")
    box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/bsmtp-batch/ssh_key", user=OWNER)
    own = ["-o", f"Port={PORT}", "-o", "ListenAddress=127.0.0.1", "-o", "UsePAM=no", "-o", "PidFile=none"]
    own += ["-o", "HostKey=/etc/ssh/ssh_host_ed25519_key"]
    box.run("/usr/sbin/sshd", "-t", *own)
    box.spawn("/usr/sbin/sshd", "-D", "-E", "/var/log/sshd.log", *own)
    box.wait_port(PORT)
    known = box.run("ssh-keyscan", "-t", "ed25519", "-p", str(PORT), "127.0.0.1").stdout.decode()
    box.write("/etc/bsmtp-batch/known_hosts", known)
    yield f"{OWNER}@127.0.0.1:{PORT}"
    print(box.path("/var/log/sshd.log").read_text()[-4000:])


def let_in(hub: Hub, spool: str) -> None:
    """The customer's key may speak with ``spool``, and no other key with anything."""
    line = hub.box.batch("route", "key", DOMAIN, "/etc/bsmtp-batch/ssh_key.pub", spool=spool).stdout.decode()
    assert line.startswith(f'restrict,command="{PROGRAM} receive {DOMAIN} --spool {spool}" ssh-ed25519 ')
    hub.box.write(KEYS, line)


@pytest.mark.parametrize("scheme", ["scp", "rsync"])
def test_what_arrives_over_ssh_reaches_the_customers_users_unchanged_and_once(
    hub: Hub, mails: list[Mail], batch: str, sshd: str, scheme: str
) -> None:
    box, here = hub.box, f"/var/spool/over-{scheme}"
    name = Path(batch).name
    box.run("rm", "-rf", here, SITE)
    box.run("cp", "-a", SPOOL, here)  # as it was when the provider's Postfix had handed everything in
    out = f"{here}/out/{DOMAIN}"
    box.run("sh", "-c", f"rm -f {out}/ready/* {out}/kept/*; cp -a /var/tmp/ready/{name}* {out}/ready")
    box.run("install", "-d", "-o", OWNER, SITE)
    let_in(hub, here)
    known = len(hub.recorder.all())
    contact = ["--identity", "/etc/bsmtp-batch/ssh_key", "--known-hosts", "/etc/bsmtp-batch/known_hosts"]

    box.batch("pull", *contact, f"{scheme}://{sshd}/", spool=SITE)
    rows = imported(hub, to=smtp(hub))

    assert outcomes(rows) == {"delivered": sum(len(m.rcpts) for m in mails)}
    assert_arrived(mails, recorded(hub, len(mails), known), traces=2)
    assert name in {p.name for p in box.path(f"{out}/kept").iterdir()}, "the receipt came in the same contact"
    box.batch("pull", *contact, f"{scheme}://{sshd}/", spool=SITE)
    assert imported(hub, to=smtp(hub)) == []


@pytest.mark.parametrize("scheme", ["scp", "rsync"])
def test_what_a_site_pushes_reaches_the_provider_unchanged(hub: Hub, sshd: str, scheme: str) -> None:
    box, there = hub.box, f"/var/spool/taken-{scheme}"
    sent = [Mail(n, "", f"a{n}@{DOMAIN}", (f"u{n}@up.example",), b"Subject: %d\n\n.\n..\nlast\n" % n) for n in range(3)]
    made = hub.batch(f"up-{scheme}.example", sent)
    site = made.partition("/out/")[0]
    box.run("install", "-d", "-o", OWNER, there)
    let_in(hub, there)
    content = box.path(made).read_bytes()
    contact = ["--identity", "/etc/bsmtp-batch/ssh_key", "--known-hosts", "/etc/bsmtp-batch/known_hosts"]

    box.batch("push", *contact, f"{scheme}://{sshd}/", spool=site)

    arrived = box.path(f"{there}/in/{DOMAIN}/new/{Path(made).name}")
    assert arrived.read_bytes() == content
    assert not box.path(made).exists()


def test_the_contributed_account_runs_nothing_else(hub: Hub, sshd: str) -> None:
    box = hub.box
    let_in(hub, SPOOL)
    options = [
        "-i",
        "/etc/bsmtp-batch/ssh_key",
        "-o",
        "UserKnownHostsFile=/etc/bsmtp-batch/known_hosts",
        "-o",
        "BatchMode=yes",
    ]
    login, _, port = sshd.rpartition(":")

    for words in (["id"], ["-t", "id"], ["-s", "sftp"], ["cat /etc/passwd"]):
        flags = [w for w in words if w in ("-t", "-s")]
        rest = [w for w in words if w not in flags]
        done = box.run("ssh", *options, "-p", port, *flags, login, *rest, user=OWNER, code=None)
        assert done.returncode != 0
        assert done.stdout == b""
