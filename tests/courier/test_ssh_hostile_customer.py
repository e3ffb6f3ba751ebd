"""A customer with a key of his own and bad intentions: nothing is given, nothing is written, everything is noted.

The hub has mail for two customers. ``other.example`` has a key, knows names and numbers of the batches of
``site.example``, and asks for them, for files of the machine and for a shell, in every way ssh lets him ask.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from support.fragments import make_route, tree
from support.pair import OTHER, SITE, contacts, sealed
from support.sshd import Sshd

from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.cli import app
from bsmtp_batch.handover.parcel import Receipt
from bsmtp_batch.receive import quick
from bsmtp_batch.spool.store import Route, Spool

pytestmark = pytest.mark.real

# THEIRS: the batch of site.example, ABOVE: the path of the directory it lies in, SPOOL: the hub's spool, MINE: ours.
LINES = (
    "scp -f THEIRS",
    "scp -t THEIRS",
    "scp -f MINE THEIRS",
    "scp -f THEIRS MINE",
    "scp -f -- THEIRS",
    "scp -f -- MINE",
    "scp -f ../site.example/ready/THEIRS",
    "scp -f ../../../out/site.example/ready/THEIRS",
    "scp -f ABOVE/THEIRS",
    "scp -f /etc/passwd",
    "scp -f MINE/../THEIRS",
    "scp -f ./MINE",
    "scp -f *",
    "scp -f *.bsmtp",
    "scp -f ?ite*",
    "scp -f {MINE,THEIRS}",
    "scp -f 'MINE'",
    'scp -f "MINE"',
    "scp -f $(cat ABOVE/THEIRS)",
    "scp -f `cat ABOVE/THEIRS`",
    "scp -f $HOME",
    "scp -f ~",
    "scp -f MINE.json",
    "scp -f THEIRS.json",
    "scp -f MINE; cat ABOVE/THEIRS",
    "scp -f MINE && cat ABOVE/THEIRS",
    "scp -f MINE | cat ABOVE/THEIRS",
    "scp -f MINE\ncat ABOVE/THEIRS",
    "scp -f MINE\n",
    "scp -f MINE\r",
    "scp -f  MINE",
    " scp -f MINE",
    "scp -f MINE ",
    "scp\t-f\tMINE",
    "scp -r -f MINE",
    "scp -rf MINE",
    "scp -r -f .",
    "scp -d -t .",
    "scp -t .",
    "scp -t -d .",
    "scp -r -t .",
    "scp -p -t MINE",
    "scp -v -f MINE",
    "scp -t ..",
    "scp -t .ssh/authorized_keys",
    "scp -t evil",
    "scp -t -evil",
    "scp -t MINE",
    "scp -t MINE.part",
    "scp -S sh -f MINE",
    "scp -oProxyCommand=sh -f MINE",
    "scp",
    "/usr/bin/scp -f MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . THEIRS",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . MINE THEIRS",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . ABOVE/THEIRS",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . ../site.example/ready/THEIRS",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append / MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append .. MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . *",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . .",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . MINE; cat ABOVE/THEIRS",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . MINE\ncat ABOVE/THEIRS",
    "rsync --server --sender -vlogDtprze.LsfxCIvu . /",
    "rsync --server --sender -re.LsfxCIvu --timeout=60 --append --append . MINE",
    "rsync --server --sender -le.LsfxCIvu --timeout=60 --append --append . MINE",
    "rsync --server --sender -Le.LsfxCIvu --timeout=60 --append --append . MINE",
    "rsync --server --sender -se.LsfxCIvu",
    "rsync --server --sender -e.LsfxCIvu -s --timeout=60 --append --append . MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append --copy-links . MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append --remove-source-files . MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append --log-file=/tmp/evil . MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append --files-from=ABOVE/THEIRS . MINE",
    "rsync --server --sender --rsh=sh -e.LsfxCIvu --timeout=60 --append --append . MINE",
    "rsync --server --sender -e sh --timeout=60 --append --append . MINE",
    "rsync --server --sender -esh --timeout=60 --append --append . MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=-1 --append --append . MINE",
    "rsync --server --sender -e.LsfxCIvu --timeout=99999 --append --append . MINE",
    "rsync --server --daemon .",
    "rsync --server --daemon --config=/tmp/evil .",
    "rsync --daemon",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append . MINE",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append . evil",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append . .ssh/",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append . /tmp/",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append . THEIRS",
    "rsync --server -e.LsfxCIvu --timeout=60 --inplace --append . MINE",
    "rsync --server -logDtpre.LsfxCIvu --delete . .",
    "rsync --server --write-devices -e.LsfxCIvu --timeout=60 --append --append . /dev/null",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append --temp-dir=/tmp . MINE",
    "rsync --server -e.LsfxCIvu --timeout=60 --append --append --backup-dir=/tmp . MINE",
    "rsync --version",
    "rsync ABOVE/THEIRS /dev/stdout",
    "internal-sftp",
    "sftp-server",
    "/usr/lib/openssh/sftp-server",
    "sh",
    "/bin/sh -i",
    "bash -c 'cat ABOVE/THEIRS'",
    "cat ABOVE/THEIRS",
    "receive site.example",
    "receive --spool SPOOL",
    "receive\n",
    "receive; cat ABOVE/THEIRS",
    "bsmtp-batch receive site.example",
    "bsmtp-batch deliver site.example a@b",
    "bsmtp-batch import --to maildir:/tmp/evil",
    "python -c 'import os'",
    "list",
    "id",
    "-c id",
    "\\scp -f MINE",
    "exec scp -f MINE",
    "scp -f MINE\x7f",
    "scp -f \N{FULLWIDTH FULL STOP}MINE",
    "\udcff\udcfe",
    "x" * 20_000,
)


class Hub:
    """The hub, the key of ``other.example``, and what he knows."""

    def __init__(self, sshd: Sshd, directory: Path) -> None:
        self.sshd = sshd
        self.spool = Spool(str(directory / "hub"))
        self.theirs, self.mine = (make_route(directory / "hub", name) for name in (SITE, OTHER))
        self.secret, *_ = sealed(self.theirs, 1, node="hub", first=41)
        self.own, *_ = sealed(self.mine, 1, node="hub", first=7)
        self.key = sshd.customer(f"hostile.{directory.name}", OTHER, self.spool.path)
        self.control = directory / "s"

    def manifest(self, route: Route) -> Manifest:
        """The manifest of the one batch of ``route``."""
        (found,) = Path(route.at("ready")).glob("*.json")
        return Manifest.from_bytes(found.read_bytes())

    def filled_in(self, line: str) -> str:
        """``line`` with what he knows put in."""
        words = {
            "THEIRS": self.manifest(self.theirs).name,
            "MINE": self.manifest(self.mine).name,
            "ABOVE": self.theirs.at("ready"),
            "SPOOL": self.spool.path,
        }
        for word, meant in words.items():
            line = line.replace(word, meant)
        return line

    def ask(self, line: str, sent: bytes = b"") -> tuple[int, bytes]:
        """Exit code and output of a session."""
        done = self.sshd.ssh(self.key, line, control=self.control, input=sent)
        return done.returncode, done.stdout

    def state(self) -> dict[str, bytes]:
        """All files of the spool but the ledger's, and of the account."""
        files = {n: d for n, d in tree(self.spool.path).items() if not n.startswith("ledger")}
        return files | {f"account/{n}": d for n, d in tree(self.sshd.account_home).items()}

    def check(self, code: int | None, before: dict[str, bytes], known: int) -> None:
        """Nothing was done after ``before``, and it stands in the ledger, which had ``known`` contacts by then."""
        assert code in (65, 75)
        assert self.state() == before
        (noted,) = contacts(self.spool)[known:]
        assert (noted.peer, noted.direction) == (OTHER, "receive")
        assert noted.result.startswith("refused: ")
        assert not Path("/tmp/evil").exists()


@pytest.fixture(scope="module")
def shared(sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for all that changes nothing."""
    made = Hub(sshd, tmp_path_factory.mktemp("h"))
    yield made
    sshd.hang_up(made.control)


@pytest.fixture
def hub(sshd: Sshd, tmp_path: Path) -> Iterator[Hub]:
    """A hub of the test's own."""
    made = Hub(sshd, tmp_path)
    yield made
    sshd.hang_up(made.control)


def shown(line: str) -> str:
    """What a test with ``line`` is called."""
    return ascii(line[:60])[1:-1]


@pytest.mark.parametrize("line", LINES, ids=shown)
def test_a_command_that_is_not_ours_runs_nothing(
    shared: Hub, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str], **_: object) -> NoReturn:
        raise AssertionError(f"{argv} would have been run")

    monkeypatch.setattr(quick, "become", run)
    line = shared.filled_in(line)
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", line)
    arguments = [OTHER, "--spool", shared.spool.path]
    entries: list[Callable[[], int | None]] = [
        lambda: quick.main(arguments, line),
        lambda: app.run(["receive", *arguments]),
    ]
    for entry in entries:
        before, known = shared.state(), len(contacts(shared.spool))

        code = entry()

        assert capsys.readouterr().out == ""
        shared.check(code, before, known)


@pytest.mark.parametrize("line", LINES[::3], ids=shown)
def test_a_command_that_is_not_ours_runs_nothing_in_a_session_either(shared: Hub, line: str) -> None:
    before, known = shared.state(), len(contacts(shared.spool))

    code, said = shared.ask(shared.filled_in(line), b"C0644 5 evil\nevil!\0" * 3)

    assert said == b""
    shared.check(code, before, known)


def proper_guesses(theirs: Manifest) -> list[bytes]:
    """Lines of the protocol about batches that are not his."""
    name, following = theirs.name.encode(), theirs.name.replace(".00000001.", ".00000002.").encode()
    own = following.replace(SITE.encode(), OTHER.encode())
    lines = [b"ack %s %s" % (one, theirs.sha256.encode()) for one in (name, following, own)]
    for one in (name, following, own):
        lines += [b"get %s 0" % one, b"get %s 99999999999" % one, b"pack %s plain" % one, b"pack %s gzip" % one]
        lines += [b"sent %s" % one]
    return lines


def other_guesses(theirs: Manifest) -> list[bytes]:
    """Lines that are none."""
    name = theirs.name.encode()
    odd = [b"../out/site.example/ready/" + name, b"..", b"/etc/passwd", b"-" + name, b"*", name + b".json"]
    lines = [b"get %s 0" % one for one in odd] + [b"ack ../%s %s" % (name, theirs.sha256.encode())]
    lines += [b"pack %s sh" % name, b"get %s -1" % name, b"list site.example", b"LIST", b"get\t" + name + b"\t0"]
    return [*lines, b"\xff\xfe", b"x" * 5000]


def refused(line: bytes) -> bytes:
    """How the answer to a line begins: what was not offered may still come."""
    return b"NO 75" if line.startswith(b"sent") else b"NO 65"


def test_no_guess_in_the_conversation_gets_a_batch_of_somebody_else(hub: Hub) -> None:
    before = hub.state()
    proper = proper_guesses(hub.manifest(hub.theirs))

    _, answer = hub.ask("receive", b"\n".join([*proper, b"quit\n"]))

    assert [line[:5] for line in answer.splitlines()] == [b"READY", *[refused(x) for x in proper], b"BYE"]
    (noted,) = contacts(hub.spool)
    assert (noted.peer, noted.batches, noted.octets) == (OTHER, 0, 0)
    assert "there is no batch" in noted.result
    for number, line in enumerate(other_guesses(hub.manifest(hub.theirs)), 2):
        _, answer = hub.ask("receive", line + b"\nquit\n")

        assert answer.startswith(b"READY 1\nNO 64 ") and answer.count(b"\n") == 2, line
        assert len(contacts(hub.spool)) == number
        assert contacts(hub.spool)[-1].result != "ok", line
    assert {n: d for n, d in hub.state().items() if n in before} == before
    assert not any(n.startswith(("in/", "road/", "account/")) for n in hub.state())


def test_the_list_names_no_batch_of_somebody_else(hub: Hub) -> None:
    _, answer = hub.ask("receive", b"list\nquit\n")

    assert answer.count(b"BATCH ") == 1
    assert SITE.encode() not in answer


@pytest.mark.parametrize("target", ["theirs", "system"])
def test_a_link_in_the_place_of_a_batch_leads_nowhere(hub: Hub, target: str) -> None:
    mine = hub.manifest(hub.mine)
    path = Path(hub.mine.at("ready", mine.name))
    aim = Path(hub.theirs.at("ready", hub.manifest(hub.theirs).name) if target == "theirs" else "/etc/passwd")
    path.unlink()
    path.symlink_to(aim)
    rsync = "rsync --server --sender -e.LsfxCIvu --timeout=60 --append --append . "

    answers = [
        hub.ask("receive", f"{line}\nquit\n".encode())[1]
        for line in (f"get {mine.name} 0", f"pack {mine.name} plain", f"pack {mine.name} gzip")
    ]
    answers += [hub.ask(f"scp -f {mine.name}", b"\0" * 9)[1], hub.ask(rsync + mine.name, b"\0" * 9)[1]]

    for answer in answers:
        assert not any(line and line in answer for line in aim.read_bytes().split(b"\n"))
    for answer in answers[:3]:
        assert answer.startswith(b"READY 1\nNO ")


def test_what_he_brings_under_a_foreign_name_goes_to_his_own_place(hub: Hub) -> None:
    """The route in a name is a claim; where a batch lies says who brought it."""
    theirs = hub.manifest(hub.theirs)
    raw = Path(hub.theirs.at("ready", theirs.name + ".json")).read_bytes()
    batch = Path(hub.theirs.at("ready", theirs.name)).read_bytes()

    _, answer = hub.ask("receive", b"put %s %d %d 0\n%s%s" % (theirs.name.encode(), len(batch), len(raw), raw, batch))

    assert Receipt(theirs.name, theirs.sha256).to_bytes() in answer
    assert sorted(os.listdir(f"{hub.spool.path}/in")) == [OTHER]


def test_more_than_was_announced_is_not_written(hub: Hub) -> None:
    """He offers a small batch and has scp bring a large one: the file ends where he said it would."""
    theirs = hub.manifest(hub.theirs)
    raw = Path(hub.theirs.at("ready", theirs.name + ".json")).read_bytes()
    offer = b"offer %s plain %d %d 0\n%s" % (theirs.name.encode(), theirs.bytes, len(raw), raw)
    talk = hub.sshd.talk(hub.key, "receive")
    try:
        talk.stdin.write(offer)
        talk.stdin.flush()
        assert talk.stdout.readline() == b"READY 1\n"
        assert talk.stdout.readline() == b"SEND %s 0\n" % theirs.name.encode()

        size = theirs.bytes * 1000
        hub.ask(f"scp -t {theirs.name}", b"C0644 %d x\n%s\0" % (size, bytes(size)))
        hub.ask(f"scp -t {theirs.name}", b"D0755 0 evil\nC0644 4 evil\nevil\0E\n")
        hub.ask(f"scp -t {theirs.name}.gz", b"C0644 4 evil\nevil\0")
        other = theirs.name.replace(".00000001.", ".00000002.")
        hub.ask(f"scp -t {other}", b"C0644 4 evil\nevil\0")

        talk.stdin.write(b"sent %s\n" % theirs.name.encode())
        talk.stdin.flush()
        assert talk.stdout.readline().startswith(b"NO ")
    finally:
        talk.stdin.close()
        talk.wait(20)
        talk.stdout.close()
    files = [p for p in Path(hub.spool.path, "in").rglob("*") if p.is_file()]
    assert all(p.stat().st_size <= theirs.bytes + 1000 for p in files)
    assert not [p for p in files if "evil" in p.name or other in p.name or p.parent.name == "new"]
    assert tree(hub.sshd.account_home) == {}
