"""Batches that other programs write come in whole, and what we write can be read by the one reader there is."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from support.box import OWNER, PYTHON, SPOOL
from support.corpus import DOMAIN, Mail
from support.exim import FILES, Exim
from support.mailcheck import Parcel, assert_arrived, read_batch
from support.postfix import RECORDER

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("exim")]

SITE = "/var/spool/site"
HERE = Path(__file__).parents[1] / "support"


def moved(mail: Mail, domain: str) -> Mail:
    """The same message for another domain."""
    return dataclasses.replace(mail, rcpts=tuple(r.replace(DOMAIN, domain) for r in mail.rcpts))


@pytest.fixture
def site(exim: Exim) -> str:
    exim.box.run("rm", "-rf", SITE)
    exim.box.run("install", "-d", "-o", OWNER, SITE)
    return SITE


@pytest.fixture(scope="module")
def some(mails: list[Mail]) -> list[Mail]:
    """Every kind of content and address, but for messages that are headers only: Exim ends those with an empty line."""
    return [m for m in mails[:80] if m.kind != "headers only"]


@pytest.fixture(scope="module")
def written(exim: Exim, some: list[Mail]) -> Exim:
    """The files that Exim's `use_bsmtp` makes of the same messages: one file, one with CRLF, a directory."""
    everywhere = [moved(m, d) for m in some for d in ("file.example", "crlf.example", "directory.example")]
    exim.wait(exim.inject(everywhere))
    exim.box.run("chmod", "-R", "a+rX", FILES)
    return exim


def imported(exim: Exim, *files: str, code: int = 0, **more: Any) -> list[Parcel]:
    """What the recorder got of importing ``files``."""
    known = len(exim.recorder.all())
    words = ["import", *files, "--to", f"lmtp://127.0.0.1:{RECORDER}", "--json"]
    done = exim.box.batch(*words, spool=SITE, code=code, **more)
    outcomes = {json.loads(line)["outcome"] for line in done.stdout.splitlines()}
    assert outcomes <= {"delivered"}
    return exim.recorder.all()[known:]


@pytest.mark.parametrize("form", ["file", "crlf", "directory"])
def test_what_exim_writes_with_use_bsmtp_comes_in(written: Exim, some: list[Mail], site: str, form: str) -> None:
    mails = [moved(m, f"{form}.example") for m in some]
    source = f"{FILES}/{form}"
    if form == "directory":
        source = "/var/tmp/directory"
        copy = f"mkdir -p {source}; cd {FILES}/directory; for f in *; do cp $f {source}/$f.bsmtp; done"
        written.box.run("sh", "-ec", copy)
    assert_arrived(mails, imported(written, source))


def test_two_of_its_files_one_behind_the_other_come_in(written: Exim, some: list[Mail], site: str) -> None:
    (first, second, *_) = sorted(written.box.path(f"{FILES}/directory").iterdir())
    both = first.read_bytes() + b"HELO again\n" + second.read_bytes() + b"QUIT\n"
    wanted = {m.rcpts[0]: m for m in (moved(m, "directory.example") for m in some)}
    names = re.findall(r"(?m)^RCPT TO:<(.*)>$", both.decode("latin-1").encode("latin-1").decode("utf-8", "replace"))
    assert_arrived([wanted[n] for n in names if n in wanted], imported(written, "-", input=both))


def test_exim_reads_a_classic_batch_of_ours_whole(exim: Exim, some: list[Mail], site: str) -> None:
    """Its exit code proves nothing, so what it delivered is compared."""
    spool = "/var/spool/classic"
    exim.box.run("rm", "-rf", spool, f"{FILES}/batched")
    exim.box.run("install", "-d", "-o", OWNER, spool)
    exim.box.batch("route", "add", DOMAIN, spool=spool)
    limits = exim.box.path(f"{spool}/out/{DOMAIN}/limits")
    limits.write_text(re.sub(r"(?m)^dialect .*", "dialect classic", limits.read_text()))
    for mail in some[:40]:
        exim.box.batch("deliver", "-f", mail.sender, "--", DOMAIN, *mail.rcpts, spool=spool, input=mail.content)
    exim.box.batch("seal", DOMAIN, spool=spool)
    (batch,) = exim.box.path(f"{spool}/out/{DOMAIN}/ready").glob("*.bsmtp")
    octets = batch.read_bytes()
    assert octets.startswith(b"HELO ")
    assert exim.read_batch(octets) == (0, "")
    end = time.monotonic() + 40
    folder = exim.box.path(f"{FILES}/batched")
    while not folder.is_dir() or len(list(folder.iterdir())) < 40:
        assert time.monotonic() < end, exim.log()[-2000:]
        time.sleep(0.1)
    exim.box.run("chmod", "-R", "a+rX", FILES)
    wrapped = [b"HELO x\n" + p.read_bytes() + b"QUIT\n" for p in folder.iterdir()]
    assert_arrived(some[:40], [read_batch(w.replace(b"\n", b"\r\n"))[0] for w in wrapped])


def test_what_fetchmail_writes_with_bsmtp_comes_in(exim: Exim, some: list[Mail], site: str) -> None:
    # fetchmail breaks a line of 8,192 octets or more in two and puts a NUL there.
    fetched = [m for m in some if b"\n\n" in m.content and max(map(len, m.content.split(b"\n"))) < 8190][:40]
    exim.box.run("install", "-d", "-m", "755", "/var/tmp/pop3")
    for number, mail in enumerate(fetched):
        exim.box.path(f"/var/tmp/pop3/{number:03}").write_bytes(b"Return-Path: <a@world.example>\n" + mail.canonical)
    exim.box.spawn(PYTHON, "-I", str(HERE / "pop3.py"), "1110", "/var/tmp/pop3")
    exim.box.wait_port(1110)
    settings = "poll 127.0.0.1 proto POP3 service 1110 user u password p is crew here sslproto '' fetchall keep\n"
    exim.box.write("/root/fetchmailrc", settings, 0o600)
    out = "/var/tmp/fetched"
    command = ["fetchmail", "-f", "/root/fetchmailrc", "--bsmtp", out, "--nodetach", "--nosyslog", "--invisible"]
    exim.box.run(*command, env={"HOME": "/root"})
    exim.box.run("chmod", "a+r", out)
    got = imported(exim, out)
    assert len(got) == len(fetched)
    assert {(p.sender, p.rcpts) for p in got} == {("a@world.example", ("crew@localhost",))}
    bodies = sorted(m.canonical.partition(b"\r\n\r\n")[2] for m in fetched)
    assert sorted(p.content.partition(b"\r\n\r\n")[2] for p in got) == bodies


def test_what_spamc_passes_through_comes_in(exim: Exim, some: list[Mail], site: str) -> None:
    """``spamc -B`` takes one message out of its batch, has it looked at and puts it back; here nobody looks."""
    (mail,) = [m for m in some if m.kind == "dots"][:1]
    text = b"MAIL FROM:<a@world.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % mail.rcpts[0].encode()
    text += re.sub(rb"(?m)^\.", b"..", mail.canonical) + b".\r\n"
    passed = exim.box.run("spamc", "-B", "-d", "127.0.0.1", "-p", "1", input=text).stdout
    single = dataclasses.replace(mail, sender="a@world.example", rcpts=mail.rcpts[:1])
    assert_arrived([single], imported(exim, "-", input=passed), traces=0)


def test_the_contributed_transport_brings_every_kind_of_message(exim: Exim, some: list[Mail]) -> None:
    exim.box.run("rm", "-rf", f"{SPOOL}/out/{DOMAIN}")
    exim.box.batch("route", "add", DOMAIN)
    exim.wait(exim.inject(some))
    exim.box.batch("seal", DOMAIN)
    (batch,) = exim.box.path(f"{SPOOL}/out/{DOMAIN}/ready").glob("*.bsmtp")
    assert_arrived(some, read_batch(batch.read_bytes()))


@pytest.mark.parametrize("fault", ["no route", "no modules", "no program", "no interpreter", "killed"])
def test_a_fault_leaves_the_mail_in_exims_queue(exim: Exim, fault: str) -> None:
    home = f"{SPOOL}/out/{DOMAIN}"
    exim.box.run("rm", "-rf", home)
    exim.box.batch("route", "add", DOMAIN)
    mail = Mail(1, "", "a@world.example", (f"crew@{DOMAIN}",), b"Subject: one\n\n.\n")
    with exim.box.broken(fault, home):
        (queue_id,) = exim.inject([mail])
        exim.wait([queue_id], "== |Frozen")
    assert " ** " not in exim.log(queue_id) and "Completed" not in exim.log(queue_id)
    exim.box.run("exim4", "-Mt", queue_id, code=None)  # only what is frozen can be thawed
    exim.box.run("exim4", "-M", queue_id)
    exim.wait([queue_id])
    exim.box.batch("seal", DOMAIN)
    (batch,) = exim.box.path(f"{home}/ready").glob("*.bsmtp")
    assert_arrived([mail], read_batch(batch.read_bytes()))
