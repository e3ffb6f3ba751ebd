"""A far end that lies, a wrong host key, and addresses that are none: refused with a sentence, and nothing is written
but the part of the batch that was asked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.fragments import tree
from support.pair import Pair, contacts, sealed
from support.sshd import Sshd, make_key

from bsmtp_batch.courier import overssh
from bsmtp_batch.courier.contact import pull
from bsmtp_batch.courier.options import Options
from bsmtp_batch.courier.schemes import courier_for
from bsmtp_batch.errors import Usage
from bsmtp_batch.ledger import Ledger

pytestmark = pytest.mark.real

LIAR = str(Path(__file__).parents[1] / "support" / "liar.py")
SENTENCES = {
    "greeting": "what answers there is not `bsmtp-batch receive`",
    "version": "what answers there is not `bsmtp-batch receive`",
    "endless greeting": "what answers there is not `bsmtp-batch receive`",
    "list: endless": "more than",
    "list: huge manifest": "answered something else than was asked",
    "list: no manifest": "cannot be taken",
    "list: negative": "answered something else than was asked",
    "list: endless line": "answered something else than was asked",
    "packed: larger": "is larger than its manifest says",
    "packed: huge": "is larger than its manifest says",
    "packed: smaller": "",
    "packed: another": "answered something else than was asked",
    **{
        f"name: {what}": "answered something else than was asked"
        for what in (
            "traversal", "absolute", "option", "dashed", "colon", "wildcard", "shell", "semicolon", "blank", "newline",
            "return", "octets", "long", "upper",
        )
    },
    "name: another": "cannot be taken",
}  # fmt: skip
"""What is said in the conversation, and a part of the sentence it gets."""
OCTETS = (
    "octets: wrong", "octets: more", "octets: fewer", "octets: none", "files: another", "files: above",
    "files: absolute", "files: more", "files: directory", "files: link", "files: message",
)  # fmt: skip
"""What is done when the octets are asked for."""

ADDRESSES = (
    "//-oProxyCommand=evil/", "//-l@host/", "//user@-host/", "//user@host:port/", "//user@host:0/",
    "//user@host:65536/", "//user@host:22:23/", "//user@host;id/", "//user@$(id)/", "//user@`id`/",
    "//user;id@host/", "//user@host/../x", "//user@host/*", "//user@host/~", "//user@host/$HOME",
    "//user@host/?x", "//user@host/#x", "//user:secret@host/", "//@host/", "//", "/path", "host:path",
    "//user@host/%2e%2e/", "//user@[::1/", "//user@[evil]/", "//user@host/x:y", "//a@b@c/", "//user@host/path",
    "//user@@host/", "//user@ho\\st/", "//user@host/'x'", "///path", "//.host/", "//host./../",
    "//user@host:-22/", "//user@host:+22/", "", "//user@ho st/", "//us er@host/", "//user@host/a b",
    "//user@host/a\nb", "//user@host\n/", "//user@host/\n"
)  # fmt: skip
"""What follows the scheme of a URL that leads nowhere."""


@pytest.fixture
def pair(tmp_path: Path, sshd: Sshd, request: pytest.FixtureRequest) -> Pair:
    """A site, and a hub with one batch; the hub's answers are made up."""
    made = Pair(sshd, tmp_path / "pair", request.param if hasattr(request, "param") else "rsync")
    sealed(made.down, 1, node="hub")
    return made


def lie(pair: Pair, what: str) -> Path:
    """From now on the hub tells ``what``; the path of its batch."""
    (batch,) = Path(pair.down.at("ready")).glob("*.bsmtp")
    command = ["env", f"BSMTP_BATCH_PATH={pair.sshd.path}", sys.executable, "-I", LIAR, what, str(batch)]
    pair.key = pair.sshd.authorize("liar", *command)
    return batch


def files(pair: Pair) -> set[str]:
    """All files at the site that were not there from the start, and those in the directories a program starts in."""
    names = {f"site/{n}" for n in tree(pair.site.path) if not n.startswith(("ledger", "out/"))}
    names |= {f"home/{n}" for n in tree(pair.sshd.account_home)}
    return names | {n for n in ("/evil", "/tmp/evil", "/etc/evil") if os.path.lexists(n)}


def assert_refused(pair: Pair, batch: Path, said: str, code: int) -> None:
    """Nothing was taken, and it was told in three parts and noted."""
    assert code in (65, 75, 78), said
    assert "Next:" in said and "Traceback" not in said
    assert "\x1b" not in said
    allowed = {f"site/in/hub/tmp/{batch.name}.part"}
    odd = files(pair) - allowed
    assert not [n for n in odd if "evil" in n or "/new/" in n or "/done/" in n], odd
    assert odd <= {f"site/in/hub/{n}" for n in ("intake.lock", "sequences")}, odd
    part = Path(pair.site.path, "in/hub/tmp", f"{batch.name}.part")
    assert not part.exists() or (part.is_file() and part.stat().st_size <= batch.stat().st_size)
    assert not Path(f"{batch}.acknowledged").exists()
    assert contacts(pair.site)[-1].result != "ok"


@pytest.mark.parametrize("what", SENTENCES)
def test_what_a_far_side_says_wrongly_is_not_followed(pair: Pair, what: str) -> None:
    batch = lie(pair, what)

    done = pair.run("pull", code=None)

    assert_refused(pair, batch, done.stdout + done.stderr, done.returncode)
    assert SENTENCES[what] in done.stdout + done.stderr


def test_a_batch_that_is_listed_twice_is_taken_once(pair: Pair) -> None:
    batch = lie(pair, "list: twice")

    pair.run("pull", code=None)

    assert [n for n in files(pair) if "/new/" in n and n.endswith(".bsmtp")] == [f"site/in/hub/new/{batch.name}"]


@pytest.mark.parametrize("what", OCTETS)
@pytest.mark.parametrize("pair", ["scp", "rsync"], indirect=True)
def test_what_a_far_side_sends_wrongly_is_not_kept(pair: Pair, what: str) -> None:
    batch = lie(pair, what)

    done = pair.run("pull", code=None)

    if done.returncode == 0:  # more than one file was sent, and only the one that was asked for has come
        assert what in ("files: more", "files: above", "files: message"), done.stdout
        assert not [n for n in files(pair) if "evil" in n]
        assert [n for n in files(pair) if "/new/" in n and n.endswith(".bsmtp")] == [f"site/in/hub/new/{batch.name}"]
    else:
        assert_refused(pair, batch, done.stdout + done.stderr, done.returncode)


@pytest.mark.parametrize("pair", ["scp"], indirect=True)
def test_a_far_side_that_sends_nothing_more_does_not_hold_the_contact(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rsync has a limit of its own; scp has none."""
    lie(pair, "octets: silence")
    monkeypatch.setattr(overssh, "STALL", 1.0)
    monkeypatch.setenv("BSMTP_BATCH_PATH", pair.sshd.path)
    courier = courier_for(pair.url, Options(str(pair.key), str(pair.known_hosts)))
    with Ledger(pair.site.ledger) as ledger:
        events = list(pull(pair.site, None, courier, ledger))

    assert [(e.kind, e.code) for e in events] == [("later", 75)]
    assert "stood still" in events[0].note


@pytest.mark.parametrize("pair", ["scp", "rsync"], indirect=True)
def test_after_a_lie_the_truth_is_taken(pair: Pair) -> None:
    """What a liar left in the part does not stand in the way of the batch."""
    for what in ("octets: wrong", "octets: more", "octets: fewer"):
        batch = lie(pair, what)
        pair.run("pull", code=None)
    lie(pair, "")
    for _ in range(3):
        if pair.run("pull", code=None).returncode == 0:
            break

    taken = Path(pair.site.path, "in/hub/new", batch.name)
    assert taken.read_bytes() == batch.read_bytes()
    assert Path(f"{batch}.acknowledged").exists()


@pytest.mark.parametrize("what", ["receipt: sha256", "receipt: another", "receipt: untrue"])
def test_a_receipt_that_does_not_match_releases_nothing(pair: Pair, what: str) -> None:
    sealed(pair.up, 1, node="site")
    lie(pair, what)

    done = pair.run("push", code=None)

    assert done.returncode in (65, 75)
    assert len(list(Path(pair.up.at("ready")).glob("*.bsmtp"))) == 1
    assert not list(Path(pair.up.at("kept")).glob("*.bsmtp"))


@pytest.mark.parametrize("which", ["unknown", "another"])
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_wrong_host_key_is_refused_and_how_to_check_it_is_told(
    pair: Pair, tmp_path: Path, verb: str, which: str
) -> None:
    sealed(pair.up, 1, node="site")
    pair.known_hosts = tmp_path / "known"
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text()
    pair.known_hosts.write_text("" if which == "unknown" else f"[127.0.0.1]:* {other}")
    before = len(pair.sshd.log().split("Accepted"))

    done = pair.run(verb, code=78)

    told = {
        "unknown": "no host key of 127.0.0.1 is known here",
        "another": "ALARM: the host key of 127.0.0.1 is not the",
    }
    assert told[which] in done.stderr
    assert "fingerprint" in done.stderr and "ssh-keyscan" in done.stderr
    assert len(pair.sshd.log().split("Accepted")) == before
    assert pair.known_hosts.read_text().count("\n") == (0 if which == "unknown" else 1)
    assert list(Path(pair.up.at("ready")).glob("*.bsmtp"))


def test_a_key_that_is_not_let_in_is_told_as_such(pair: Pair, tmp_path: Path) -> None:
    pair.key = make_key(tmp_path / "stranger")

    done = pair.run("pull", code=78)

    assert "does not let us in" in done.stderr and "AuthorizedKeysFile" in done.stderr


@pytest.mark.parametrize("rest", ADDRESSES, ids=ascii)
@pytest.mark.parametrize("scheme", ["scp", "rsync"])
def test_an_address_that_is_none_is_refused(scheme: str, rest: str) -> None:
    with pytest.raises(Usage) as told:
        courier_for(f"{scheme}:{rest}", Options())

    assert told.value.code == 64
    assert told.value.next


def test_a_far_end_that_is_killed_before_it_is_ready_is_left_for_later(pair: Pair) -> None:
    """78 would stop a timer's unit for good; this may be over in a minute."""
    pair.key = pair.sshd.authorize("killed", "/bin/sh", "-c", "kill -9 $$")
    direct = pair.run("pull", code=75)
    pair.key = pair.sshd.authorize("killed", "/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    shell = pair.run("pull", code=75)

    assert "cannot be reached" in direct.stderr or "signal 9" in direct.stderr
    assert "was ended there by signal 9" in shell.stderr


def test_the_liar_tells_every_lie_that_is_asked_of_it() -> None:
    """A lie with a misspelt name would be the truth, and its test would say nothing."""
    text = Path(LIAR).read_text()
    for what in (*SENTENCES, *OCTETS):
        assert f'"{what}"' in text, what
